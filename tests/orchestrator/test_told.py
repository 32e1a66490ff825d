"""Rounds are in the log before a client hears of them; short ones are written together."""

import asyncio

import pytest

from forethought.generation import Finished, SpeculationStatistics
from forethought.store.sessions.records import CommittedRound
from orchestrator.generator import Progress, told
from tests.simulated_time import in_simulated_time


class RememberingLog:
    """Remembers what came together."""

    is_stored = True
    is_durable = True

    def __init__(self) -> None:
        self.writes: list[list[int]] = []
        self.rounds: list[int] = []
        self.was_ended = False

    async def add(self, rounds, *, is_end):
        self.writes.append([each.round for each in rounds])
        self.rounds += self.writes[-1]
        self.was_ended = is_end

    def close(self):
        pass


def finished() -> Finished:
    return Finished("length", 1, 1, SpeculationStatistics(), 0, 0)


async def progress(num_rounds: int, round_s: float):
    """A start, rounds that take so long, and the end."""
    yield Progress(["started"])
    for number in range(num_rounds):
        await asyncio.sleep(round_s)
        yield Progress([f"round {number}"], CommittedRound(number, 10 + number, (7,), b""))
    yield Progress([finished()], is_end=True)


async def events_of(source, log: RememberingLog, commit_interval_s: float) -> list[str]:
    """The events; none comes before its round is in the log."""
    events = []
    async for group in told(source, log, commit_interval_s):
        for event in group:
            name = event if isinstance(event, str) else "end"
            if name.startswith("round"):
                assert int(name.split()[1]) in log.rounds
            if name == "end":
                assert log.was_ended
            events.append(name)
    return events


@pytest.mark.parametrize("interval_s", [0.0, 0.05, 3600.0])
@in_simulated_time
async def test_nothing_is_told_before_it_is_written_and_nothing_is_lost(interval_s):
    log = RememberingLog()
    async with asyncio.timeout(5):
        events = await events_of(progress(20, 0.002), log, interval_s)
    assert events == ["started", *(f"round {number}" for number in range(20)), "end"]
    assert log.rounds == list(range(20))


@in_simulated_time
async def test_short_rounds_share_a_write_and_the_first_waits_for_nobody():
    log = RememberingLog()
    await events_of(progress(24, 0.005), log, 0.05)
    writes = [each for each in log.writes if each]
    assert writes[0] == [0]
    # 24 rounds take 120 ms and more: the first write, one each 50 ms, and the last.
    assert len(writes) < 12


@in_simulated_time
async def test_long_rounds_are_written_one_by_one():
    log = RememberingLog()
    await events_of(progress(4, 0.03), log, 0.01)
    assert [each for each in log.writes if each] == [[0], [1], [2], [3]]
