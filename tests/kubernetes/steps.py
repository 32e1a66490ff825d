"""What is tried in a cluster, one function a step. Each says what it saw."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from forethought.client import GenerationClient
from forethought.generation import Finished, GenerationParams, GenerationRequest, Token
from tests.deployment.manifests import of_kind
from tests.kubernetes import inside
from tests.kubernetes.cluster import Cluster, KubectlError

TIERS = ("target", "draft", "orchestrator")
# Likely to the end: texts are compared whose prompts are computed in passes of other sizes, which
# may turn a near tie.
PROMPT = "Count to one hundred: 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12,"
NUM_TOKENS = 320
ADDRESSES = "forethought:50050,forethought-orchestrator-headless:50050"

Say = Callable[[str], object]


@dataclass(frozen=True)
class Answer:
    """Of a request."""

    text: str
    num_drafted: int


async def ask(address: str, on_token: Callable[[int], object] = lambda _: None) -> Answer:
    """The answer to the prompt of all steps; `on_token` is called with the number of each."""
    params = GenerationParams(
        max_tokens=NUM_TOKENS, temperature=0, ignore_eos=True, num_speculative_tokens=4
    )
    texts: list[str] = []
    async with GenerationClient(address) as client:
        async for event in client.generate(GenerationRequest(PROMPT, params), timeout_s=600):
            if isinstance(event, Token):
                texts.append(event.text)
                on_token(len(texts))
            if isinstance(event, Finished):
                return Answer("".join(texts), event.speculation.num_draft_tokens)
    raise AssertionError("an answer has a last event")


def deploy(cluster: Cluster, say: Say) -> None:
    """Applies `demo` and waits until all is ready."""
    say(cluster.run("version"))
    manifests = cluster.render_demo()
    # A namespace first: what comes after is in it.
    cluster.apply(of_kind(manifests, "Namespace"))
    cluster.apply([each for each in manifests if each["kind"] != "Namespace"])
    cluster.wait_for_rollouts("valkey", *TIERS)
    say(f"{len(manifests)} objects applied; all tiers are ready")


def each_budget_has_pods(cluster: Cluster, say: Say) -> None:
    """Disruption budgets count the pods of their tiers."""

    def counted() -> dict[str, int]:
        budgets = cluster.get("poddisruptionbudgets")["items"]
        return {
            each["metadata"]["name"]: each.get("status", {}).get("expectedPods", 0)
            for each in budgets
        }

    cluster.wait_until(lambda: all(counted().values()), "each disruption budget counts pods")
    say(f"pods that disruption budgets count: {counted()}")


def answers(cluster: Cluster, say: Say) -> Answer:
    """A text through all tiers, with drafts: orchestrators find a new draft within seconds."""
    seen: list[Answer] = []
    with cluster.forward("service/forethought", 50050) as forward:

        def is_drafted() -> bool:
            seen.append(asyncio.run(ask(forward.address)))
            return seen[-1].num_drafted > 0

        cluster.wait_until(is_drafted, "an answer with drafts")
    assert {each.text for each in seen} == {seen[-1].text}
    say(f"{seen[-1].num_drafted} tokens drafted for {seen[-1].text!r}")
    return seen[-1]


def a_target_is_killed(cluster: Cluster, say: Say, expected: str) -> None:
    """Each of two targets in turn, in mid-stream: one of them has the stream."""
    cluster.scale("target", 2)
    try:
        for name in [each["metadata"]["name"] for each in cluster.pods("target")]:
            _kill_in_mid_stream(cluster, say, name, expected)
            cluster.wait_for_pods("target", 2)
    finally:
        cluster.scale("target", 1)


def _kill_in_mid_stream(cluster: Cluster, say: Say, name: str, expected: str) -> None:
    kills: list[asyncio.Task[str]] = []

    def kill(num_tokens: int) -> None:
        if num_tokens == NUM_TOKENS // 4:
            command = ("delete", f"pod/{name}", "--grace-period=0", "--force", "--wait=false")
            kills.append(asyncio.create_task(asyncio.to_thread(cluster.run, *command)))

    async def stream(address: str) -> str:
        answer = await ask(address, kill)
        assert kills[0].done(), "the stream ended before the target did"
        await kills[0]
        return answer.text

    with cluster.forward("service/forethought", 50050) as forward:
        text = asyncio.run(stream(forward.address))
    assert text == expected, f"{name} was killed in mid-stream: {text!r} is not {expected!r}"
    say(f"{name} was killed at token {NUM_TOKENS // 4} of {NUM_TOKENS}: the text is the same")


def drafts_go_and_come_back(cluster: Cluster, say: Say, expected: str) -> None:
    """The draft tier at zero costs speed, and nothing else."""
    cluster.scale("draft", 0)
    with cluster.forward("service/forethought", 50050) as forward:
        answer = asyncio.run(ask(forward.address))
        assert answer.text == expected
        assert not answer.num_drafted
        say("without drafts: the text is the same, and no token was drafted")
        cluster.scale("draft", 1)

        def is_drafting() -> bool:
            again = asyncio.run(ask(forward.address))
            assert again.text == expected
            return again.num_drafted > 0

        cluster.wait_until(is_drafting, "drafts are used again")
    say("the draft tier is back: the text is the same, and tokens are drafted")


def all_tiers_roll_under_load(cluster: Cluster, say: Say, expected: str) -> None:
    """Texts before, during and after a rolling update of each tier."""
    client = {"forethought-client": "true"}
    arguments = (ADDRESSES, PROMPT, str(NUM_TOKENS))
    load = inside.pod("load", _image(cluster), inside.LOAD, *arguments, labels=client)
    cluster.apply([load])
    try:
        cluster.wait_until(lambda: _lines(cluster) >= 2, "texts before the update")
        before = _lines(cluster)
        for role in TIERS:
            cluster.run("rollout", "restart", f"deployment/forethought-{role}")
            cluster.wait_for_rollouts(role)
            cluster.wait_for_pods(role, 1)
        during = _lines(cluster)
        cluster.wait_until(lambda: _lines(cluster) >= during + 3, "texts after the update")
        answered = [json.loads(line) for line in cluster.run("logs", "pod/load").splitlines()]
    finally:
        cluster.run("delete", "pod/load", "--ignore-not-found")
    errors = [each["error"] for each in answered if each["error"]]
    others = [each["text"] for each in answered if not each["error"] and each["text"] != expected]
    assert not errors, errors
    assert not others, f"{len(others)} of {len(answered)} texts differ: {others[0]!r}"
    say(f"{len(answered)} equal texts, {during - before} of them during the updates; no error")


def only_wanted_calls_get_through(cluster: Cluster, say: Say) -> bool:
    """Strangers reach nothing and clients reach orchestrators alone. Returns whether the cluster
    enforces network policies at all."""
    tiers = ("forethought-target:50052", "forethought-draft:50051", "forethought-valkey:6379")
    places = ("forethought:50050", *tiers)
    seen = {
        "client": _calls(cluster, "client", places, {"forethought-client": "true"}),
        "stranger": _calls(cluster, "stranger", places, {}),
    }
    say(f"connections that come up: {seen}")
    if seen["stranger"] == set(places):
        say("this cluster's network enforces no policies: nothing is shown by that")
        return False
    assert seen["client"] == {"forethought:50050"}
    assert not seen["stranger"]
    return True


def nobody_has_rights(cluster: Cluster, say: Say) -> None:
    """The processes may ask the API server for nothing, and have no token to ask with."""
    for role in TIERS:
        for verb, resource in (("get", "pods"), ("get", "secrets"), ("patch", "deployments")):
            assert not cluster.may(role, verb, resource), f"{role} may {verb} {resource}"
        pod = f"pod/{cluster.pods(role)[0]['metadata']['name']}"
        found = cluster.run(
            "exec", pod, "--container", role, "--", "python", "-c", inside.HAS_TOKEN
        )
        assert found.strip() == "none", f"{role} has a token"
    say("no process has rights or a token")


def an_open_pod_is_refused(cluster: Cluster, say: Say) -> None:
    """The namespace keeps to the standard `restricted`."""
    root = inside.pod("root", _image(cluster), inside.HAS_TOKEN)
    root["spec"]["securityContext"] = {"runAsUser": 0}
    with pytest.raises(KubectlError, match="PodSecurity"):
        cluster.run("create", "--dry-run=server", "--filename=-", text=json.dumps(root))
    say("a pod that runs as root is refused")


def nothing_was_restarted(cluster: Cluster, say: Say) -> None:
    """Probes judge slowly: none of all that has cost a container its life."""
    pods = [pod for role in (*TIERS, "valkey") for pod in cluster.pods(role)]
    counts = {
        pod["metadata"]["name"]: sum(
            each["restartCount"] for each in pod["status"].get("containerStatuses", [])
        )
        for pod in pods
    }
    assert not any(counts.values()), counts
    say(f"no container of {len(pods)} pods was restarted")


def _calls(
    cluster: Cluster, name: str, places: tuple[str, ...], labels: dict[str, str]
) -> set[str]:
    cluster.apply([inside.pod(name, _image(cluster), inside.CALLS, *places, labels=labels)])
    try:
        cluster.wait_until(
            lambda: cluster.get(f"pod/{name}")["status"]["phase"] in ("Succeeded", "Failed"),
            f"the end of pod {name}",
        )
        lines = cluster.run("logs", f"pod/{name}").splitlines()
    finally:
        cluster.run("delete", f"pod/{name}", "--ignore-not-found")
    states = dict(line.split() for line in lines)
    assert set(states) == set(places), lines
    return {place for place, state in states.items() if state == "open"}


def _lines(cluster: Cluster) -> int:
    try:
        return len(cluster.run("logs", "pod/load").splitlines())
    except KubectlError:
        return 0  # it has not started yet


def _image(cluster: Cluster) -> str:
    deployment = cluster.get("deployment/forethought-orchestrator")
    image: str = deployment["spec"]["template"]["spec"]["containers"][0]["image"]
    return image
