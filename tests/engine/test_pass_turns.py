"""Passes of tiers that share cores take turns, and none waits for a tier that does not compute."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from pathlib import Path

import pytest
import structlog

from forethought.engine.batching.limits import EngineLimits
from forethought.engine.batching.pass_turns import PassTurns
from forethought.errors import InvalidArgumentError
from forethought.sampling.params import SamplingParams
from forethought.tier import VerifyRound
from target_service.servicer import TargetServicer
from target_service.verifier import Verification
from tests.stack import LoadedModel

HOLDING = """
import sys, time
from pathlib import Path
from forethought.engine.batching.pass_turns import PassTurns
with PassTurns(Path(sys.argv[1])):
    print("in", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cores"


@contextmanager
def a_process_inside(path: Path) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDING, str(path)], stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "in\n"
        try:
            yield other
        finally:
            other.kill()


def entered(turns: PassTurns) -> float:
    """Seconds until its turn, or until it did not wait any more."""
    began = time.monotonic()
    with turns:
        return time.monotonic() - began


def test_one_at_a_time_and_each_gets_its_turn(path):
    inside, most, order = 0, 0, []
    guard, both = threading.Lock(), threading.Barrier(2)

    def compute(name: str):
        nonlocal inside, most
        turns = PassTurns(path, patience_s=30)
        both.wait()
        for _ in range(20):
            with turns:
                with guard:
                    inside += 1
                    most = max(most, inside)
                    order.append(name)
                time.sleep(0.005)
                with guard:
                    inside -= 1
            time.sleep(0.001)  # what a tier does between two passes

    threads = [threading.Thread(target=compute, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1
    # Nobody waits until the other has done all.
    assert {"a", "b"} == set(order[:20])


def test_one_that_is_stopped_inside_is_waited_for_once(path):
    turns = PassTurns(path, patience_s=0.3)
    with a_process_inside(path) as other, structlog.testing.capture_logs() as logs:
        other.send_signal(signal.SIGSTOP)
        assert entered(turns) >= 0.3
        assert sum(entered(turns) for _ in range(20)) < 10 * 0.3
        other.send_signal(signal.SIGCONT)
    assert [each["event"] for each in logs] == ["turn_not_waited_for"]


def test_turns_are_taken_again_once_it_is_gone(path):
    turns = PassTurns(path, patience_s=0.05)
    with a_process_inside(path):
        entered(turns)
    with turns:
        other = PassTurns(path, patience_s=0.2)
        assert entered(other) >= 0.2


def test_a_process_that_is_killed_inside_lets_go(path):
    turns = PassTurns(path, patience_s=30)
    with a_process_inside(path) as other:
        os.kill(other.pid, signal.SIGKILL)
        assert entered(turns) < 10


async def test_waiting_for_a_turn_is_queueing_and_not_computing(path, tiny_target: LoadedModel):
    begins = threading.Event()

    class Turns(PassTurns):
        def __enter__(self) -> None:
            begins.set()
            super().__enter__()

    limits = EngineLimits(64, turns=Turns(path, patience_s=30))
    servicer = TargetServicer(copy(tiny_target.model), tiny_target.info, limits)
    sequence = servicer.engine.open([3])
    work = Verification(sequence, VerifyRound(0, 1, [], []), SamplingParams())
    with PassTurns(path):
        verifying = asyncio.create_task(servicer.engine.run(work))
        assert await asyncio.to_thread(begins.wait, 30)
        await asyncio.sleep(0.3)
    _, timings = await verifying
    await servicer.close()
    assert timings.queue_ns > 0.29e9
    assert timings.forward_ns < timings.queue_ns


def test_a_file_that_cannot_be_is_refused_by_its_option(tmp_path):
    with pytest.raises(InvalidArgumentError, match=r"--shared-cores: .* Is a directory"):
        PassTurns(tmp_path)
