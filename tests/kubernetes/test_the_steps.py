"""The steps of `test_a_cluster.py`, tried on a stand-in: what they ask, compare and clean up.

That a cluster behaves as the stand-in says is for `make test-kubernetes` to show.
"""

import asyncio
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.kubernetes import steps
from tests.kubernetes.cluster import Cluster, KubectlError, Options, run_command
from tests.kubernetes.forward import Forward, ForwardError
from tests.kubernetes.stand_in import StandIn
from tests.stack import LoadedModel, running_stack

OPTIONS = Options("nowhere", "registry.example:5000/team/forethought-", "1.2.3", "trial", 60)


@pytest.fixture(scope="module")
def addresses(tiny_target: LoadedModel, tiny_draft: LoadedModel) -> Iterator[tuple[str, str]]:
    """Of orchestrators with and without a draft tier, in a thread: the steps have loops of their
    own."""
    found: list[str] = []
    is_there = threading.Event()
    loop = asyncio.new_event_loop()
    is_over = asyncio.Event()

    async def serve() -> None:
        async with AsyncExitStack() as stack:
            for has_drafts in (True, False):
                drafts = tiny_draft.proposer() if has_drafts else None
                running = running_stack(tiny_target, drafts)
                found.append((await stack.enter_async_context(running)).address)
            is_there.set()
            await is_over.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    assert is_there.wait(60)
    yield found[0], found[1]
    loop.call_soon_threadsafe(is_over.set)
    thread.join()
    loop.close()


@pytest.fixture
def stand_in(
    addresses: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[StandIn]:
    monkeypatch.setattr(steps, "PROMPT", "abcabc")
    monkeypatch.setattr(steps, "NUM_TOKENS", 80)
    stand_in = StandIn(*addresses, tmp_path)
    yield stand_in
    stand_in.close()


def test_all_steps_pass_where_all_is_well_and_leave_nothing_behind(stand_in: StandIn):
    said: list[str] = []
    say = said.append
    cluster = Cluster(OPTIONS, stand_in.run, stand_in.start, poll_s=0.05)
    with cluster.namespace():
        steps.deploy(cluster, say)
        expected = steps.answers(cluster, say).text
        steps.each_budget_has_pods(cluster, say)
        steps.a_target_is_killed(cluster, say, expected)
        steps.drafts_go_and_come_back(cluster, say, expected)
        steps.all_tiers_roll_under_load(cluster, say, expected)
        assert steps.only_wanted_calls_get_through(cluster, say)
        steps.nobody_has_rights(cluster, say)
        steps.an_open_pod_is_refused(cluster, say)
        steps.nothing_was_restarted(cluster, say)
    assert stand_in.is_empty
    assert len(said) >= 10
    _are_commands_of_kubectl(stand_in.commands)


def _are_commands_of_kubectl(commands: list[list[str]]) -> None:
    """kubectl itself takes each kind of command: it fails to find the cluster, and not before."""
    kinds = {
        tuple(each.partition("=")[0] for each in command[3:5]): command for command in commands
    }
    for command in kinds.values():
        server = "--server=http://127.0.0.1:1"
        at = command.index("--") if "--" in command else len(command)
        whole = [*command[:1], server, *command[2:at], *command[at:]]
        done = subprocess.run(whole, capture_output=True, text=True, input="{}", check=False)
        unknown = ("unknown", "invalid", "usage", "Usage", "error: there is no need")
        assert not any(each in done.stderr for each in unknown), (command, done.stderr)


def test_images_and_the_namespace_are_those_of_the_options():
    manifests = Cluster(OPTIONS).render_demo()
    images = {
        container["image"]
        for each in manifests
        if each["kind"] == "Deployment"
        for kind in ("initContainers", "containers")
        for container in each["spec"]["template"]["spec"].get(kind, [])
    }
    roles = ("orchestrator", "target", "draft", "weights")
    ours = {f"registry.example:5000/team/forethought-{role}:1.2.3" for role in roles}
    assert {each for each in images if "valkey" not in each} == ours
    named = [each["metadata"].get("namespace") for each in manifests]
    assert set(named) == {"trial", None}
    namespaces = [each["metadata"]["name"] for each in manifests if each["kind"] == "Namespace"]
    assert namespaces == ["trial"]


def test_a_run_without_a_cluster_says_how_to_name_one():
    with pytest.raises(ValueError, match="KUBECONFIG=FILE"):
        Options.from_environment({})


def test_a_namespace_that_is_there_already_is_left_alone(stand_in: StandIn):
    cluster = Cluster(OPTIONS, stand_in.run, stand_in.start, poll_s=0.05)
    with cluster.namespace():
        steps.deploy(cluster, lambda _: None)
        with pytest.raises(KubectlError, match="choose another NAMESPACE"), cluster.namespace():
            pass
        assert not stand_in.is_empty


def test_a_text_that_differs_fails_the_step_and_the_namespace_goes(stand_in: StandIn):
    cluster = Cluster(OPTIONS, stand_in.run, stand_in.start, poll_s=0.05)

    def run() -> None:
        with cluster.namespace():
            steps.deploy(cluster, lambda _: None)
            steps.a_target_is_killed(cluster, lambda _: None, "another text")

    with pytest.raises(AssertionError, match="killed in mid-stream"):
        run()
    assert stand_in.is_empty


def test_a_tier_that_does_not_come_up_is_described():
    def fails(command, text, timeout_s):
        del text, timeout_s
        is_wait = "rollout" in command
        return subprocess.CompletedProcess(command, is_wait, "CrashLoopBackOff", "timed out")

    with pytest.raises(KubectlError, match=r"(?s)timed out.*CrashLoopBackOff"):
        Cluster(OPTIONS, fails).wait_for_rollouts("target")


def test_a_command_that_does_not_end_is_given_up():
    def hangs(command, text, timeout_s):
        del command, timeout_s
        return run_command([sys.executable, "-c", "input()"], text, 0.01)

    with pytest.raises(KubectlError, match="does not end"):
        Cluster(OPTIONS, hangs).run("version")


def test_a_forwarded_port_comes_back_after_its_pod_is_gone():
    ports = iter((50001, 50002))

    def start(command, **streams):
        del command
        text = f"Forwarding from 127.0.0.1:{next(ports)} -> 50050"
        return subprocess.Popen([sys.executable, "-c", f"print({text!r})"], **streams)

    with Forward(["kubectl"], start) as forward:
        assert forward.address == "127.0.0.1:50001"
        forward._process.wait()
        assert forward.address == "127.0.0.1:50002"


def test_a_port_that_is_not_forwarded_is_said_in_the_words_of_kubectl():
    def start(command, **streams):
        del command
        program = "print('error: unable to forward port: pod is Pending')"
        return subprocess.Popen([sys.executable, "-c", program], **streams)

    with Forward(["kubectl"], start) as forward, pytest.raises(ForwardError, match="is Pending"):
        _ = forward.address
