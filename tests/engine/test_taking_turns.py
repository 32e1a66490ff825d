"""Tiers of one machine start one after the other, and none waits for ever."""

import os
import signal
import subprocess
import sys
import threading
import time

from structlog.testing import capture_logs

from forethought.engine.batching.pass_turns import PassTurns
from forethought.engine.batching.taking_turns import taking_turns


def test_one_at_a_time(tmp_path):
    inside, most = 0, 0
    guard = threading.Lock()

    def start():
        nonlocal inside, most
        with taking_turns(tmp_path / "lock"):
            with guard:
                inside += 1
                most = max(most, inside)
            time.sleep(0.02)
            with guard:
                inside -= 1

    threads = [threading.Thread(target=start) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1


def test_who_waits_too_long_starts_all_the_same(tmp_path):
    with taking_turns(tmp_path / "lock"):
        began = time.monotonic()
        with taking_turns(tmp_path / "lock", patience_s=0.1):
            assert 0.1 <= time.monotonic() - began < 5


def test_another_deployment_is_not_waited_for(tmp_path):
    with taking_turns(tmp_path / "one"):
        began = time.monotonic()
        with taking_turns(tmp_path / "another", patience_s=60):
            assert time.monotonic() - began < 30


def test_passes_of_a_tier_that_is_ready_go_on_beside_one_that_starts(tmp_path):
    """Both use the file of their deployment."""
    path = tmp_path / "cores"
    turns = PassTurns(path, patience_s=0.01)
    with taking_turns(path):
        for _ in range(3):
            with turns:
                pass
    with turns:
        assert turns._is_held


def test_who_waits_says_so(tmp_path):
    lock = tmp_path / "lock"
    with capture_logs() as logs, taking_turns(lock), taking_turns(lock, patience_s=0.01):
        pass
    assert [log["event"] for log in logs] == ["waiting_for_turn", "turn_not_waited_for"]


def test_a_process_that_is_killed_inside_leaves(tmp_path):
    code = (
        "import sys, time; from pathlib import Path\n"
        "from forethought.engine.batching.taking_turns import taking_turns\n"
        "with taking_turns(Path(sys.argv[1])): print('in', flush=True); time.sleep(60)"
    )
    path = str(tmp_path / "lock")
    with subprocess.Popen(
        [sys.executable, "-c", code, path], stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "in\n"
        os.kill(other.pid, signal.SIGKILL)
        began = time.monotonic()
        with taking_turns(tmp_path / "lock"):
            assert time.monotonic() - began < 10


def test_where_nothing_can_be_locked_nobody_waits(tmp_path):
    with taking_turns(tmp_path / "missing" / "lock"):
        pass
