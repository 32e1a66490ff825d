"""Replicas that come and go behind a DNS name, under eight streams: no text changes, none fails."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace

import pytest
import structlog

from forethought.client import GenerationClient
from orchestrator.__main__ import find_target
from orchestrator.replicas.replica import TARGET
from orchestrator.replicas.replica_watch import watching
from orchestrator.tiers.patience import DraftPatience
from tests.lifecycle.requests import Reader, asking
from tests.ports import free_port
from tests.replicas.names import NameServer, name_server
from tests.replicas.tiers import (
    COUPLED,
    GREEDY,
    PATIENT,
    SERVING,
    SOON,
    Fleet,
    Member,
    a_draft,
    a_fleet,
    a_target,
)
from tests.stack import generate
from tests.waiting import until

__all__ = ["name_server"]

WATCH = replace(SOON, resolve_s=0.05)
PATIENCE = DraftPatience(open_s=5, round_s=20, first_backoff_s=0.02, max_backoff_s=0.1)
NUM_TOKENS = 60
REQUESTS = [
    asking(params, max_tokens=NUM_TOKENS)
    for seed in range(4)
    for params in (replace(COUPLED, seed=seed), GREEDY)
]


@dataclass
class Tier:
    """Replicas that share a port on several addresses of this machine, and a name."""

    host: str
    names: NameServer
    start: Callable[[str], object]  # a replica at an address
    port: int = field(default_factory=free_port)
    members: dict[str, Member] = field(default_factory=dict)
    stacks: dict[str, AsyncExitStack] = field(default_factory=dict)

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"

    def say(self, *numbers: str) -> None:
        """What the name stands for from now on."""
        self.names.say(self.host, *numbers)

    async def join(self, *numbers: str) -> None:
        """Starts replicas, which have no records yet."""
        for number in numbers:
            stack = self.stacks[number] = AsyncExitStack()
            starting = self.start(f"{number}:{self.port}")
            self.members[number] = await stack.enter_async_context(starting)

    async def leave(self, *numbers: str) -> None:
        """Ends replicas as SIGTERM does."""
        for number in numbers:
            self.members.pop(number).gate.open()
            await self.stacks.pop(number).aclose()

    def num_sessions(self, *numbers: str) -> int:
        """Sessions that these hold."""
        return sum(self.members[number].num_sessions for number in numbers)

    def hold(self) -> None:
        """No pass from now on."""
        for member in self.members.values():
            member.gate.allow(0)

    def allow(self) -> None:
        """One more pass of each."""
        for member in self.members.values():
            member.gate.allow(1)

    async def close(self) -> None:
        await self.leave(*self.members)


@dataclass
class Streams:
    """Eight answers under way."""

    readers: list[Reader]
    tasks: list[asyncio.Task[None]]

    @property
    def num_drafts(self) -> list[int]:
        """Rounds with a draft, of each."""
        return [sum(bool(step.drafted) for step in each.steps) for each in self.readers]

    def have_more_drafts_than(self, before: list[int]) -> bool:
        """Whether each has had another one since."""
        return all(now > then for now, then in zip(self.num_drafts, before, strict=True))

    @property
    def num_tokens(self) -> list[int]:
        """Of each, so far."""
        return [len(each.tokens) for each in self.readers]

    def have_more_tokens_than(self, before: list[int]) -> bool:
        """Whether each has had another one since."""
        return all(now > then for now, then in zip(self.num_tokens, before, strict=True))

    def are_fed(self, num_tokens: int) -> bool:
        """Whether each has so many tokens."""
        return all(len(each.tokens) >= num_tokens for each in self.readers)

    def check(self) -> None:
        """None has ended."""
        for task in self.tasks:
            assert not task.done(), task

    async def texts(self) -> list[list[int]]:
        """The tokens of each, once all have ended."""
        await asyncio.gather(*self.tasks)
        return [[token.token_id for token in each.tokens] for each in self.readers]


@asynccontextmanager
async def streaming(client: GenerationClient) -> AsyncIterator[Streams]:
    readers = [Reader() for _ in REQUESTS]
    tasks = [
        asyncio.create_task(reader.read(client, request))
        for reader, request in zip(readers, REQUESTS, strict=True)
    ]
    try:
        yield Streams(readers, tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def pass_by_pass(targets: Tier, streams: Streams, condition: Callable[[], object]) -> None:
    """Lets the targets compute until a condition holds, and then holds them."""

    def step() -> object:
        streams.check()
        if condition():
            return True
        targets.allow()
        return False

    await until(step)
    targets.hold()


async def texts_alone(fleet: Fleet) -> list[list[int]]:
    """What the same requests say one by one, without a draft."""
    texts = {}
    for request in REQUESTS:
        params = replace(request.params, num_speculative_tokens=0)
        if params not in texts:
            answer = await generate(fleet.client, replace(request, params=params))
            texts[params] = answer.token_ids
    return [texts[replace(each.params, num_speculative_tokens=0)] for each in REQUESTS]


def known(fleet_tier: object, tier: Tier, *numbers: str) -> bool:
    """Whether exactly these replicas are known, and all of them serve."""
    serving = {each.address for each in fleet_tier.all if each.standing is SERVING}
    addresses = {f"{number}:{tier.port}" for number in numbers}
    return serving == addresses == {each.address for each in fleet_tier.all}


@pytest.fixture
async def targets(long_target, name_server):
    tier = Tier("targets.test", name_server, lambda address: a_target(long_target, address))
    yield tier
    await tier.close()


@pytest.fixture
async def drafts(long_draft, name_server):
    tier = Tier("drafts.test", name_server, lambda address: a_draft(long_draft, address))
    yield tier
    await tier.close()


@asynccontextmanager
async def orchestrated(targets: Tier, drafts: Tier, target, draft) -> AsyncIterator[Fleet]:
    async with a_fleet(
        target,
        draft,
        num_targets=0,
        num_drafts=0,
        more_targets=[targets.address],
        more_drafts=[drafts.address],
        reopen=PATIENT,
        draft_patience=PATIENCE,
        watch=WATCH,
    ) as fleet:
        yield fleet


ONE, TWO, THREE, FOUR = (f"127.0.0.{number}" for number in (2, 3, 4, 5))


async def test_targets_come_and_go_behind_a_name(
    targets, drafts, name_server, long_target, long_draft
):
    await targets.join(ONE, TWO)
    targets.say(ONE, TWO)
    await drafts.join(ONE)
    drafts.say(ONE)
    async with orchestrated(targets, drafts, long_target, long_draft) as fleet:
        expected = await texts_alone(fleet)
        targets.hold()
        async with streaming(fleet.client) as streams:
            await pass_by_pass(targets, streams, lambda: streams.are_fed(5))

            # Another one joins, and the first one's record goes: it is left.
            await targets.join(THREE)
            targets.hold()
            targets.say(TWO, THREE)
            await until(lambda: known(fleet.known_targets, targets, TWO, THREE))
            await pass_by_pass(targets, streams, lambda: not targets.num_sessions(ONE))
            await targets.leave(ONE)

            # One dies with its record, while the name server is away.
            name_server.is_away = True
            victim = max((TWO, THREE), key=targets.num_sessions)
            other = TWO if victim == THREE else THREE
            await targets.members[victim].die()
            await pass_by_pass(targets, streams, lambda: targets.num_sessions(other) == 8)
            await targets.leave(victim)

            # A new one has an address that nobody had; the last of the old ones drains.
            name_server.is_away = False
            await targets.join(FOUR)
            targets.hold()
            targets.say(FOUR, other)
            await until(lambda: known(fleet.known_targets, targets, FOUR, other))
            targets.members[other].close_to_sessions()
            await pass_by_pass(targets, streams, lambda: not targets.num_sessions(other))
            targets.say(FOUR)
            await targets.leave(other)

            # The name vanishes, and its replica serves on.
            targets.say()
            num_questions = name_server.num_questions
            await until(lambda: name_server.num_questions > num_questions + 4)
            before = streams.num_tokens
            await pass_by_pass(targets, streams, lambda: streams.have_more_tokens_than(before))

            targets.members[FOUR].gate.open()
            assert await streams.texts() == expected


async def test_drafts_go_from_none_to_three_to_one_to_none(
    targets, drafts, name_server, long_target, long_draft
):
    await targets.join(ONE)
    targets.say(ONE)
    async with orchestrated(targets, drafts, long_target, long_draft) as fleet:
        assert not fleet.known_drafts.all
        expected = await texts_alone(fleet)
        targets.hold()
        async with streaming(fleet.client) as streams:
            await pass_by_pass(targets, streams, lambda: streams.are_fed(5))
            assert not any(streams.num_drafts)

            await drafts.join(ONE, TWO, THREE)
            drafts.say(ONE, TWO, THREE)
            await until(lambda: known(fleet.known_drafts, drafts, ONE, TWO, THREE))
            await pass_by_pass(targets, streams, lambda: all(streams.num_drafts))

            drafts.say(TWO)
            await until(lambda: known(fleet.known_drafts, drafts, TWO))
            await pass_by_pass(targets, streams, lambda: drafts.num_sessions(TWO) == 8)
            await drafts.leave(ONE, THREE)
            before = streams.num_drafts
            await pass_by_pass(targets, streams, lambda: streams.have_more_drafts_than(before))

            drafts.say()
            await drafts.leave(TWO)
            await until(lambda: not fleet.known_drafts.all)
            fed = max(len(each.tokens) for each in streams.readers)
            assert fed < NUM_TOKENS
            targets.members[ONE].gate.open()
            assert await streams.texts() == expected


async def test_a_target_whose_name_has_no_address_is_said_to_be_missing_and_waited_for(
    targets, name_server, monkeypatch
):
    monkeypatch.setattr("orchestrator.__main__.WARNING_INTERVAL_S", 0.01)
    with structlog.testing.capture_logs() as logs:
        async with watching(TARGET, [targets.address], options=WATCH) as replicas:
            finding = asyncio.create_task(find_target(replicas))
            await until(lambda: any(line["event"] == "target_not_ready" for line in logs))
            await targets.join(ONE)
            targets.say(ONE)
            assert (await finding).name
    assert "no name of the target tier has an address" in {line.get("why") for line in logs}
