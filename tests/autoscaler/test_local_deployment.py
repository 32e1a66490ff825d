"""Real tiers under a load that the test makes: each asks for replicas by its own signal."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from copy import copy
from dataclasses import dataclass, replace

from autoscaler.decider import Decider, Decision, Tier
from autoscaler.fleet import Fleet, Whereabouts
from autoscaler.needs import Goals
from autoscaler.steady import Limits
from draft_service.model_proposer import ModelProposer
from forethought.generation import GenerationParams, GenerationRequest
from forethought.tier import PassCost
from orchestrator.request.plan import PolicyKind
from orchestrator.tiers.patience import DraftPatience
from tests.stack import LIMITS, LoadedModel, Stack, generate, running_stack
from tests.waiting import until

LIMITS_OF_TIERS = dict.fromkeys(Tier, Limits(0, 10))


@dataclass
class Scaler:
    """An autoscaler of a stack, without a process of its own."""

    fleet: Fleet
    decider: Decider

    async def decide(self) -> dict[Tier, Decision]:
        return dict(self.decider.decide(time.monotonic(), await self.fleet.ask()))

    async def until(self, condition: Callable[[int, int], bool]) -> None:
        """Returns when the replicas of targets and drafts are so."""

        async def is_so() -> bool:
            decisions = await self.decide()
            both = [decisions.get(tier) for tier in (Tier.TARGET, Tier.DRAFT)]
            return None not in both and condition(*(each.replicas for each in both))

        await until(is_so)


@asynccontextmanager
async def scaling(stack: Stack) -> AsyncIterator[Scaler]:
    """Follows each moment: nothing waits until fewer replicas are wanted."""
    where = Whereabouts([stack.address], [stack.target_address], [stack.draft_address])
    fleet = Fleet(where, timeout_s=5.0)
    try:
        yield Scaler(fleet, Decider(Goals(), LIMITS_OF_TIERS, window_s=0.3, down_after_s=0.0))
    finally:
        await fleet.close()


@asynccontextmanager
async def load(stack: Stack, num_sessions: int, num_prompt_tokens: int = 4) -> AsyncIterator[None]:
    """So many sessions at a time, the next when one has ended."""

    async def keep_asking(prompt: list[int]) -> None:
        params = GenerationParams(max_tokens=100, seed=1, ignore_eos=True)
        while True:
            await generate(stack.client, GenerationRequest(prompt, params))

    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(keep_asking([2 + index % 8] * num_prompt_tokens))
            for index in range(num_sessions)
        ]
        yield
        for task in tasks:
            task.cancel()


@contextmanager
def slow_passes(proposer: ModelProposer, seconds: float) -> Iterator[None]:
    """The draft's machine has other things to do."""
    model = proposer.engine._model
    forward = type(model).forward

    def slowly(packed):
        time.sleep(seconds)
        return forward(model, packed)

    model.forward = slowly
    try:
        yield
    finally:
        del model.forward


async def test_sessions_that_wait_ask_for_targets_and_for_no_drafts(
    tiny_target: LoadedModel, tiny_draft: LoadedModel
):
    few_blocks = replace(LIMITS, num_blocks=10)
    async with (
        running_stack(tiny_target, tiny_draft.proposer(), limits=few_blocks) as stack,
        scaling(stack) as scaler,
    ):
        async with load(stack, num_sessions=6):
            await scaler.until(lambda targets, drafts: targets >= 3 and drafts == 1)
        await scaler.until(lambda targets, drafts: (targets, drafts) == (0, 0))


async def test_a_slow_draft_asks_for_drafts_and_for_no_targets(
    tiny_target: LoadedModel, tiny_draft: LoadedModel
):
    proposer = tiny_draft.proposer()
    patience = DraftPatience(open_s=5, round_s=0.2)
    async with (
        running_stack(tiny_target, proposer, draft_patience=patience) as stack,
        scaling(stack) as scaler,
        load(stack, num_sessions=4),
    ):
        with slow_passes(proposer, 0.3):
            await scaler.until(lambda targets, drafts: targets == 1 and drafts >= 2)


async def test_a_draft_that_does_not_pay_is_tried_and_goes_to_zero(
    tiny_target: LoadedModel, tiny_draft: LoadedModel
):
    # By its own measure it takes much longer than the target.
    info = replace(tiny_draft.info, pass_costs=(PassCost(1, 10**9), PassCost(256, 10**9)))
    proposer = ModelProposer(
        copy(tiny_draft.model), info, tiny_draft.tokenizer.vocab_size, 4, LIMITS
    )
    async with (
        running_stack(tiny_target, proposer, policy=PolicyKind.ADAPTIVE) as stack,
        scaling(stack) as scaler,
        load(stack, num_sessions=2),
    ):
        await scaler.until(lambda _, drafts: drafts == 1)  # nobody knows yet
        await scaler.until(lambda targets, drafts: targets == 1 and drafts == 0)
