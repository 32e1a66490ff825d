"""A draft tier that stops answering, as SIGSTOP makes it, costs no more than a moment."""

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

import pytest

from forethought.generation import GenerationParams, GenerationRequest, Step
from forethought.local.processes.probes import Readiness, probe_grpc_health
from orchestrator.request.plan import PolicyKind
from orchestrator.tiers.patience import DraftPatience
from tests.lifecycle.processes import PATIENCE_S, TierProcess
from tests.lifecycle.requests import Reader
from tests.lifecycle.throttle import throttled
from tests.stack import generate, running_stack
from tests.waiting import until

TARGET_S = 0.05
PATIENCE = DraftPatience(open_s=1, round_s=1)
LONG_S = 50.0
"""For rounds on a machine that others use."""
PROMPT = [3, 4, 5, 6, 7]


@pytest.fixture(scope="module")
def started_process(
    long_target_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TierProcess]:
    arguments = [
        *("--model", str(long_target_folder), "--dtype", "float32"),
        *("--num-threads", "1", "--device", "cpu"),
    ]
    log = tmp_path_factory.mktemp("paused") / "draft.log"
    process = TierProcess("draft_service", arguments, log)
    process.start()
    yield process
    process.kill()


@pytest.fixture
async def draft_process(started_process: TierProcess) -> AsyncIterator[TierProcess]:
    """Serving; whoever pauses it need not wake it."""

    async def is_ready() -> bool:
        return await probe_grpc_health(started_process.address) is Readiness.READY

    await until(is_ready, PATIENCE_S)
    yield started_process
    started_process.signal(signal.SIGCONT)


def request(**params: object) -> GenerationRequest:
    return GenerationRequest(
        PROMPT, GenerationParams(temperature=0, ignore_eos=True, **params), include_steps=True
    )


def num_waits(steps: Sequence[Step]) -> int:
    """Rounds that waited for a draft as long as none waits that asks for none."""
    return sum(step.speculation_ns > PATIENCE.round_s * 1e9 / 2 for step in steps)


@pytest.mark.parametrize("policy", PolicyKind)
async def test_at_most_two_rounds_wait_for_a_draft_that_stopped(long_target, draft_process, policy):
    async with running_stack(
        throttled(long_target, TARGET_S),
        long_target.proposer(),
        policy=policy,
        draft_patience=PATIENCE,
        draft_address=draft_process.address,
    ) as stack:
        plain = await generate(stack.client, request(max_tokens=24, num_speculative_tokens=0))
        reader = Reader()
        reading = asyncio.create_task(reader.read(stack.client, request(max_tokens=3000)))
        try:
            await until(lambda: len(reader.steps) > 12 and reader.steps[-1].drafted, LONG_S)
            draft_process.signal(signal.SIGSTOP)
            stopped_at = len(reader.steps)
            await until(lambda: len(reader.steps) >= stopped_at + 24, LONG_S)
            paused = reader.steps[stopped_at : stopped_at + 24]
            # Some rounds may be under way to their reader when the tier stops, one is with it, and
            # the next one waits for it in vain.
            without = [step for step in paused if not step.drafted]
            assert len(without) >= 20
            assert num_waits(paused) <= 2
            draft_process.signal(signal.SIGCONT)
            if policy is PolicyKind.FIXED:
                # The adaptive one goes by the clock: see `test_policy.py`, in simulated time.
                resumed_at = len(reader.steps)
                await until(
                    lambda: sum(bool(s.drafted) for s in reader.steps[resumed_at:]) >= 10, LONG_S
                )
        finally:
            reading.cancel()
            await asyncio.wait((reading,))
    # What was said meanwhile is what the target says.
    first = [token.token_id for token in reader.tokens[: len(plain.token_ids)]]
    assert first == plain.token_ids
