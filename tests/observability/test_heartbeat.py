"""A thread that hangs is noticed at /livez, and one that takes long for good reasons is not."""

import asyncio
import threading

import pytest

from forethought.engine.batching.engine import Engine
from forethought.rpc.serving.server import Server, ServerOptions
from forethought.runtime.heartbeat import Heartbeat
from forethought.tier import PassCost
from orchestrator.request.text_pool import MAX_SHORT_BYTES, TextPool
from tests.engine.scoring import Scoring, rows_of
from tests.engine.test_engine import LIMITS, GatedLedger
from tests.observability.deployment import get
from tests.waiting import until

OPTIONS = ServerOptions("127.0.0.1:0", (), 1.0, admin_listen="127.0.0.1:0")


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def test_a_step_may_take_twenty_times_as_long_as_the_longest_and_never_less_than_two_minutes():
    clock = Clock()
    heartbeat = Heartbeat("engine", 1.0, clock)
    assert heartbeat.limit_s == 120
    heartbeat.beat()
    clock.now_s += 120
    assert not heartbeat.why_stuck
    clock.now_s += 1
    assert heartbeat.why_stuck == "the engine has been at one step for 121 s"
    heartbeat.beat()  # it was slow, and is not stuck
    assert heartbeat.limit_s == 20 * 121
    assert not heartbeat.why_stuck
    heartbeat.rest()
    clock.now_s += 1e6
    assert not heartbeat.why_stuck
    heartbeat.beat()
    heartbeat.rest()
    assert heartbeat.limit_s == 20 * 121  # a rest is no step


async def livez(server: Server) -> tuple[int, str]:
    return await asyncio.to_thread(get, server.admin.address, "/livez")


@pytest.fixture
async def serving():
    """A server whose services have a heartbeat, and the list of them."""
    server = Server(OPTIONS)
    await server.start()
    heartbeats = []

    async def load(services):
        heartbeats.append(services.heartbeats)

    await server.load(load)
    yield server, heartbeats[0]
    await server.drain()


async def test_a_pass_that_never_ends_is_the_end_of_a_process(serving):
    server, heartbeats = serving
    model, clock = GatedLedger(), Clock()
    engine = Engine(model, LIMITS, rows_of)
    engine.heartbeat = engine._thread.heartbeat = Heartbeat("engine", clock=clock)
    heartbeats.append(engine.heartbeat)
    limit_s = engine.heartbeat.limit_s
    model.may_run.clear()
    asked = asyncio.create_task(engine.run(Scoring(engine.open([1]), 1)))
    await until(lambda: model.is_waiting)
    clock.now_s += limit_s
    assert await livez(server) == (200, "ok")
    clock.now_s += 1
    status, why = await livez(server)
    assert status == 503
    assert why == f"the engine has been at one step for {limit_s + 1:.0f} s"
    model.may_run.set()
    await asked
    clock.now_s += 1e9
    await until(lambda: not engine.heartbeat.why_stuck)  # it rests: nobody asks for anything
    assert await livez(server) == (200, "ok")
    await engine.close()
    assert not engine.heartbeat.why_stuck


async def test_limits_follow_from_what_passes_were_measured_to_take():
    slow = [PassCost(1, 10**9), PassCost(LIMITS.scheduler.max_tokens, 2 * 10**10)]
    engine = Engine(GatedLedger(), LIMITS, rows_of, pass_costs=slow)
    assert engine.heartbeat.limit_s == 20 * 20
    await engine.close()


async def test_a_text_that_is_never_done_is_the_end_of_an_orchestrator(serving):
    server, heartbeats = serving
    clock, may_end, begun = Clock(), threading.Event(), threading.Event()
    texts = TextPool(clock=clock)
    heartbeats += texts.heartbeats

    def hang():
        begun.set()
        may_end.wait()

    asked = asyncio.create_task(texts.run("a tenant", MAX_SHORT_BYTES + 1, hang))
    await asyncio.to_thread(begun.wait)
    clock.now_s += 121
    status, why = await livez(server)
    assert (status, why) == (503, "the thread for texts has been at one step for 121 s")
    may_end.set()
    await asked
    assert await livez(server) == (200, "ok")
