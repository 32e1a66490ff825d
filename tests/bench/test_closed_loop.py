"""Requests under way, and whose turn it is. The servers are fake and need no time."""

import asyncio

import pytest

from forethought.bench.closed_loop import run_burst
from forethought.bench.schedule import Arm, Schedule, run_interleaved
from tests.bench.samples import sample


class Server:
    """Answers the oldest request whenever all others wait too."""

    def __init__(self):
        self.sent = []
        self.num_open = 0
        self.most_open = 0

    async def send(self, index):
        self.sent.append(index)
        self.num_open += 1
        self.most_open = max(self.most_open, self.num_open)
        for _ in range(10):
            await asyncio.sleep(0)
        self.num_open -= 1
        return sample()


class Watcher:
    def __init__(self):
        self.events = []

    def warming_up(self, arm):
        self.events.append(("warm", arm))

    def began(self, arm, concurrency):
        self.events.append((arm, concurrency))

    def answered(self, sample):
        pass

    def ended(self, burst):
        pass

    @property
    def turns(self):
        return [event for event in self.events if event[0] != "warm"]


async def test_so_many_requests_are_under_way_and_no_more():
    server = Server()
    wall_s, samples = await run_burst(server.send, 3, 10, lambda _: None)
    assert server.most_open == 3
    assert sorted(server.sent) == list(range(10))
    assert len(samples) == 10
    assert wall_s > 0


async def test_each_answer_is_reported():
    answers = []
    await run_burst(Server().send, 2, 5, answers.append)
    assert len(answers) == 5


async def test_the_first_failure_ends_the_burst_and_cancels_the_rest():
    cancelled = []

    async def send(index):
        if index == 1:
            raise ConnectionError("gone")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(index)
            raise

    with pytest.raises(ConnectionError, match="gone"):
        await run_burst(send, 4, 100, lambda _: None)
    assert sorted(cancelled) == [0, 2, 3]


async def test_arms_take_turns_and_the_first_one_changes():
    watcher = Watcher()
    arms = [Arm("a", Server().send), Arm("b", Server().send)]
    bursts = await run_interleaved(arms, Schedule((1, 2), repeats=2, num_requests=2), watcher)
    expected = [("a", 1), ("b", 1), ("b", 2), ("a", 2), ("b", 1), ("a", 1), ("a", 2), ("b", 2)]
    assert watcher.turns == expected
    assert [(burst.arm, burst.concurrency) for burst in bursts] == expected


async def test_arms_never_run_at_the_same_time():
    server = Server()
    arms = [Arm(name, server.send) for name in "abc"]
    await run_interleaved(arms, Schedule((2,), repeats=2, num_requests=6), Watcher())
    assert server.most_open == 2


async def test_a_request_to_each_arm_is_sent_before_anything_is_counted():
    server = Server()
    watcher = Watcher()
    bursts = await run_interleaved(
        [Arm("a", server.send)], Schedule((1,), repeats=1, num_requests=3), watcher
    )
    assert watcher.events[0] == ("warm", "a")
    assert server.sent == [0, 0, 1, 2]
    assert len(bursts[0].samples) == 3


def test_an_arm_that_takes_one_request_at_a_time_is_left_out_above():
    arms = [Arm("a", Server().send), Arm("one", Server().send, max_concurrency=1)]
    turns = Schedule((1, 8), repeats=1).turns(arms)
    assert [(concurrency, arm.name) for concurrency, arm in turns] == [
        (1, "a"),
        (1, "one"),
        (8, "a"),
    ]


@pytest.mark.parametrize(
    ("asked", "concurrency", "sent"), [(None, 1, 8), (None, 32, 64), (20, 4, 20), (4, 16, 16)]
)
def test_there_are_enough_requests_to_reach_the_concurrency(asked, concurrency, sent):
    assert Schedule((concurrency,), 1, asked).num_requests_at(concurrency) == sent
