"""`forethought up` as a process, with fake tiers and the real embedded Valkey."""

import signal
import sys

import psutil

from tests.cli import recorded
from tests.cli.conftest import children_of, read_until, wait_until

FORETHOUGHT = (sys.executable, "-m", "forethought.cli")


def are_gone(processes):
    return not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in processes)


def test_it_says_what_listens_where_and_one_ctrl_c_stops_all(command_line):
    with command_line.up() as process:
        shown = "".join(read_until(process.stdout, "Ctrl-C"))
        children = children_of(process)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=20)
    assert process.returncode == 0
    assert len(children) == 4
    assert are_gone(children)
    for tier in ("orchestrator", "draft", "target"):
        assert f"{tier}: ready" in shown
        assert f"{tier} drained" in command_line.log(tier)
    assert "redis://127.0.0.1:" in shown
    assert "forethought generate --address 127.0.0.1:" in shown


def test_sigterm_stops_all(command_line):
    with command_line.up("--no-store") as process:
        read_until(process.stdout, "Ctrl-C")
        children = children_of(process)
        process.terminate()
        process.communicate(timeout=20)
    assert process.returncode == 0
    assert len(children) == 3
    assert are_gone(children)


def test_a_second_ctrl_c_kills_what_does_not_stop(command_line):
    with command_line.up("--no-store", FAKE_DRAFT="stubborn") as process:
        read_until(process.stdout, "Ctrl-C")
        children = children_of(process)
        process.send_signal(signal.SIGINT)
        read_until(process.stdout, "Ctrl-C again kills")
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=10)
    assert process.returncode == 0
    assert are_gone(children)


def test_kill_9_leaves_no_orphans(command_line):
    with command_line.up("--", "sleep", "1000") as process:
        read_until(process.stderr, "run   sleep 1000")
        children = wait_until(lambda: len(found := children_of(process)) == 5 and found)
        process.kill()
        process.wait(timeout=10)
        wait_until(lambda: are_gone(children))


def test_a_tier_that_dies_is_reported_and_everything_is_stopped(command_line):
    with command_line.up("--no-store", FAKE_DRAFT="fails") as process:
        children = wait_until(lambda: children_of(process))
        _, shown = process.communicate(timeout=20)
    assert process.returncode == 1
    assert "error draft exited with code 3" in shown
    assert "  there is no such model" in shown
    assert are_gone(children)


def test_a_draft_that_does_not_fit_ends_it_with_both_models_by_name(command_line):
    models = ("--model", "a-target", "--draft-model", "a-draft")
    with command_line.up("--no-store", *models, FAKE_DRAFT="foreign") as process:
        children = wait_until(lambda: children_of(process))
        stdout, stderr = process.communicate(timeout=20)
    shown = " ".join((stdout + stderr).split())
    assert process.returncode == 1
    assert "draft model a-draft does not fit model a-target" in shown
    assert "another vocabulary" in shown
    assert "--translate-draft" in shown
    assert "Ctrl-C" not in shown
    assert are_gone(children)


def test_a_command_runs_against_the_deployment_and_then_all_is_stopped(command_line):
    command = (*FORETHOUGHT, "generate", "Hello")
    with command_line.up("--no-store", "--", *command) as process:
        stdout, _ = process.communicate(timeout=20)
    assert process.returncode == 0
    assert stdout == recorded.TEXT
    assert "orchestrator drained" in command_line.log("orchestrator")


def test_the_exit_code_of_the_command_passes_through(command_line):
    with command_line.up("--no-store", "--", "sh", "-c", "exit 7") as process:
        process.communicate(timeout=20)
    assert process.returncode == 7


def test_a_tier_that_dies_stops_the_command(command_line):
    with command_line.up("--no-store", "--", "sleep", "1000") as process:
        read_until(process.stderr, "run   sleep 1000")
        children = children_of(process)
        next(child for child in children if "draft_service" in child.cmdline()).kill()
        _, shown = process.communicate(timeout=20)
    assert process.returncode == 1
    assert "error draft was killed by SIGKILL" in shown
    assert are_gone(children)


def test_sigterm_during_a_command_stops_it_and_is_reported(command_line):
    with command_line.up("--no-store", "--", "sleep", "1000") as process:
        read_until(process.stderr, "run   sleep 1000")
        children = children_of(process)
        process.terminate()
        process.communicate(timeout=20)
    assert process.returncode == 128 + signal.SIGTERM
    assert are_gone(children)


def test_a_startup_that_takes_too_long_names_the_late_tier(command_line):
    with command_line.up("--no-store", "--startup-timeout", "2.5", FAKE_TARGET="loads") as process:
        _, shown = process.communicate(timeout=20)
    assert process.returncode == 1
    assert "error not ready after 2.5 s: target" in shown
    assert ".forethought/logs/target.log" in shown
