"""`forethought probe` against running stacks, honest and broken, with tiny models."""

import json
import signal
from concurrent import futures
from contextlib import asynccontextmanager

import grpc
import pytest

from forethought.generation import GenerationParams
from forethought.probe.sampling import Sampling, sample_both_arms
from forethought.probe.verdict import Criteria, Verdict, judge_answers
from forethought.sampling.rejection import judge
from forethought.sampling.types import VerificationMode
from tests.cli.conftest import command_line, wait_until  # noqa: F401 - a fixture
from tests.cli.fake_generation import Prompt, add_fake_generation
from tests.exactness import twins
from tests.exactness.pairs import memoized_stack
from tests.ports import free_port
from tests.probe.conftest import running_in_thread
from tests.stack import running_stack

PROMPT = "f  di"
"""The tokens of `tests.exactness.pairs.PROMPT`."""
K = 3
TOP_K = 5  # few tokens, so that few samples tell something
NUM_SAMPLES = 200
CRITERIA = Criteria(num_tokens=3, alpha=0.01, max_unseen_bias=0.4)


@asynccontextmanager
async def address_of(target, draft, judge):
    async with memoized_stack(target, draft, judge=judge) as (stack, _):
        yield stack.address


@pytest.fixture(scope="module")
def honest(tiny_target, tiny_draft):
    with running_in_thread(lambda: address_of(tiny_target, tiny_draft, judge)) as address:
        yield address


@pytest.fixture(scope="module")
def broken(tiny_target, tiny_draft):
    twin = twins.always_accept
    with running_in_thread(lambda: address_of(tiny_target, tiny_draft, twin)) as address:
        yield address


@pytest.fixture
def prompts(tmp_path):
    file = tmp_path / "prompts.txt"
    file.write_text(f"{PROMPT}\n")
    return ("--prompts", file, "--raw")


SMALL = ("--samples", NUM_SAMPLES, "-n", 3, "--seed", 1, "--top-k", TOP_K, "--max-unseen-bias", 0.4)


def test_an_honest_deployment_is_lossless_within_the_stated_power(probe, honest, prompts):
    result = probe("--address", honest, *prompts, *SMALL)
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[0] == (
        f"{honest} · {NUM_SAMPLES} answers of each arm to 1 prompt · seed 1"
    )
    drafted, verdict, power = result.stdout.splitlines()[-3:]
    assert drafted.startswith("drafted ")
    assert f"of {NUM_SAMPLES} speculative answers" in drafted
    assert verdict.startswith("lossless: least p-value 0.")
    assert "would have found, with probability 0.9, a bias in total variation of" in power
    assert "% at 2 tokens" in power
    # The servers run in this process, and gRPC may log there that a call was left.
    assert result.stderr.partition("--- Logging error ---")[0] == ""


@pytest.fixture(scope="module")
def deployed(tiny_target, tiny_draft):
    @asynccontextmanager
    async def address():
        async with running_stack(tiny_target, tiny_draft.proposer()) as stack:
            yield stack.address

    with running_in_thread(address) as address_:
        yield address_


@pytest.mark.parametrize("mode", [mode.value for mode in VerificationMode])
def test_each_way_to_judge_drafts_can_be_asked_for_and_is_lossless(probe, deployed, prompts, mode):
    few = ("--samples", 60, "--max-unseen-bias", 0.9)
    result = probe("--address", deployed, *prompts, *SMALL, *few, "-k", K, "--mode", mode)
    assert result.exit_code == 0, result.output
    assert f" · mode {mode} · seed 1" in result.stdout.splitlines()[0]
    assert "drafted " in result.stdout


def test_a_broken_deployment_is_biased_and_the_prefixes_show_it(probe, broken, prompts):
    result = probe("--address", broken, *prompts, *SMALL)
    assert result.exit_code == 1, result.output
    assert "differs" in result.stdout
    assert "most different first 2 tokens of answers to prompt 1:" in result.stdout
    verdict = result.stdout.splitlines()[-1]
    assert verdict.startswith("biased: least p-value ")


def test_json_is_one_document_with_all_that_is_needed_to_repeat_it(probe, broken, prompts):
    result = probe("--address", broken, *prompts, *SMALL, "--samples", 100, "--json")
    assert result.exit_code == 1, result.output
    document = json.loads(result.stdout)
    assert document["verdict"] == "biased"
    assert document["settings"]["address"] == broken
    assert document["settings"]["prompts"] == [PROMPT]
    assert document["settings"]["params"]["seed"] == 1
    assert document["settings"]["num_samples"] == 100
    assert document["speculation"]["num_answers"] == 100
    assert document["speculation"]["num_draft_tokens"] > 0
    assert document["speculation"]["num_draft_failures"] == 0
    assert [test["num_tokens"] for test in document["tests"]] == [1, 2, 3]
    first, second, _ = document["tests"]
    assert first["p_value"] > document["alpha_per_test"] > second["p_value"]
    worst = document["deviations"][0]
    assert len(worst["token_ids"]) == len(worst["text"]) == 2
    assert abs(worst["plain"] - worst["speculative"]) > 0.05
    assert worst["p_value"] < 0.01


def test_where_nothing_was_drafted_it_exits_with_2(probe, tiny_target, prompts):
    @asynccontextmanager
    async def without_drafts():
        # No run of 9 tokens occurs twice in so short a text.
        async with running_stack(tiny_target, lookups=[tiny_target.ngram(min_match=8)]) as stack:
            yield stack.address

    with running_in_thread(without_drafts) as address:
        result = probe("--address", address, *prompts, "--samples", 10, "-n", 2)
    assert result.exit_code == 2, result.output
    assert result.stdout.splitlines()[-1] == "inconclusive: nothing was drafted"


def test_ten_samples_are_inconclusive(probe, honest, prompts):
    result = probe("--address", honest, *prompts, "--samples", 10)
    assert result.exit_code == 2, result.output
    assert result.stdout.splitlines()[-1].startswith("inconclusive: ")


def test_nobody_at_the_address_is_one_clear_line(probe):
    nobody = f"127.0.0.1:{free_port()}"
    result = probe("--address", nobody)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr == (
        f"error UNAVAILABLE: no server answers at {nobody} (start one with: forethought up)\n"
    )


def test_ctrl_c_ends_it_without_a_verdict(command_line, tmp_path):  # noqa: F811
    prompts = tmp_path / "prompts.txt"
    prompts.write_text(Prompt.ENDLESS)
    server = grpc.server(futures.ThreadPoolExecutor(8))
    service = add_fake_generation(server)
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    arguments = ("--address", address, "--prompts", str(prompts))
    with command_line.start("probe", *arguments) as process:
        wait_until(lambda: service.requests)
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=60)
    server.stop(None).wait()
    assert process.returncode == 130
    assert stdout == ""
    assert "Traceback" not in stderr


def test_a_refused_request_names_the_option(probe, honest, prompts):
    result = probe("--address", honest, *prompts, "-k", 100_000)
    assert result.exit_code == 2
    assert result.stderr.startswith("error INVALID_ARGUMENT: --num-speculative-tokens: ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--samples", "9"], "9 must be 10 or more"),
        (["--num-tokens", "1"], "1 must be 2 or more"),
        (["-k", "0"], "0 must be 1 or more"),
        (["--alpha", "0.6"], "0.6 must be 0.5 or less"),
        (["--prompts", "no-such-file"], "does not exist"),
    ],
)
def test_bad_options_are_refused_before_anybody_is_called(probe, arguments, message):
    result = probe("--address", "127.0.0.1:1", *arguments)
    assert result.exit_code == 2
    assert message in result.stderr


TWINS = {
    "residual without the clip": twins.unclipped_residual,
    "p and q swapped": twins.swapped_accept_test,
}


@pytest.mark.parametrize("twin", TWINS)
async def test_a_broken_judge_is_found(twin, tiny_target, tiny_draft):
    assert await verdict_on(tiny_target, tiny_draft, TWINS[twin]) is Verdict.BIASED


async def test_the_twin_without_a_mistake_is_not(tiny_target, tiny_draft):
    assert await verdict_on(tiny_target, tiny_draft, twins.faithful) is Verdict.LOSSLESS


async def test_a_bonus_token_from_the_wrong_position_is_found_where_drafts_are_good(tiny_target):
    # Drafts of the target itself are accepted as a whole: every second round ends in a bonus.
    twin = twins.bonus_from_last_drafted_position
    assert await verdict_on(tiny_target, tiny_target, twin) is Verdict.BIASED


async def verdict_on(target, draft, judge):
    params = GenerationParams(
        max_tokens=CRITERIA.num_tokens,
        top_k=TOP_K,
        seed=5,
        ignore_eos=True,
        num_speculative_tokens=K,
    )
    sampling = Sampling([PROMPT], params, NUM_SAMPLES, concurrency=16, timeout_s=60)
    async with memoized_stack(target, draft, judge=judge) as (stack, _):
        samples = await sample_both_arms(stack.client, sampling, lambda _: None)
    return judge_answers(samples.answers, CRITERIA).verdict
