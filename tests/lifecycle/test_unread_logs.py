"""Whoever logs never waits for a reader."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress

import grpc
import pytest

from forethought.rpc.connections.channels import open_channel
from forethought.runtime.log_output import MAX_QUEUED, DroppingOutput
from tests.lifecycle.processes import PATIENCE_S
from tests.lifecycle.test_processes import health_of
from tests.ports import free_port
from tests.stack import running_stack
from tests.waiting import until

NUM_LINES = 20 * MAX_QUEUED
LOGS_A_LOT = f"""
import sys, time, structlog
from forethought.telemetry import LogFormat, configure_logging
configure_logging(LogFormat.JSON)
log = structlog.get_logger()
for number in range({NUM_LINES}):
    log.info("line", number=number)
print("done", flush=True)
if sys.stdin.read():  # somebody reads: there will be room
    while sys.stderr._queue.qsize() >= {MAX_QUEUED}:
        time.sleep(0.001)
raise SystemExit("last words")
"""


@pytest.fixture
def pipe():
    reading, writing = os.pipe()
    yield reading, writing
    for end in (reading, writing):
        with suppress(OSError):
            os.close(end)


def read_all(reading):
    while os.read(reading, 65536):
        pass


def logging_process():
    return subprocess.Popen(
        [sys.executable, "-c", LOGS_A_LOT],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def test_a_process_whose_log_nobody_reads_goes_on_and_ends():
    with logging_process() as process:
        assert process.stdout.readline() == b"done\n"
        process.stdin.close()
        assert process.wait(PATIENCE_S) == 1
        process.stderr.read()


def test_lines_that_were_dropped_are_counted_and_the_last_words_are_not():
    with logging_process() as process:
        assert process.stdout.readline() == b"done\n"
        first = [process.stderr.readline() for _ in range(MAX_QUEUED // 2)]
        process.stdin.write(b"last words, please")
        process.stdin.close()
        rest = process.stderr.read().decode().splitlines()
        assert process.wait(PATIENCE_S) == 1
    rest.remove("last words")
    lines = [json.loads(line) for line in (*first, *rest)]
    num_dropped = sum(each["num_lines"] for each in lines if each["event"] == "log_lines_dropped")
    numbers = [each["number"] for each in lines if each["event"] == "line"]
    assert num_dropped > 0
    assert len(numbers) + num_dropped == NUM_LINES
    assert numbers == sorted(numbers)


def test_what_comes_after_a_gap_is_written_when_it_flows_again(pipe):
    reading, writing = pipe
    has_reported = threading.Event()
    output = DroppingOutput(writing, lambda _: has_reported.set())
    # Twice what the queue and the pipe hold.
    for _ in range(2 * MAX_QUEUED):
        output.write("x" * 100 + "\n")
    reader = threading.Thread(target=read_all, args=(reading,))
    reader.start()
    assert has_reported.wait(PATIENCE_S)
    output.drain()
    os.close(writing)
    reader.join()


def test_a_reader_that_is_gone_is_no_error(pipe):
    reading, writing = pipe
    os.close(reading)
    output = DroppingOutput(writing, lambda _: None)
    output.write("to nobody\n")
    output.drain()


@pytest.mark.parametrize("closed", ["2>&-", "0<&- 1>&- 2>&-"])
def test_a_process_without_standard_streams_opens_none_in_their_place(closed, tmp_path):
    found = tmp_path / "found"
    program = (
        "import os, socket, structlog\n"
        "from forethought.telemetry import LogFormat, configure_logging\n"
        "configure_logging(LogFormat.CONSOLE)\n"
        "structlog.get_logger().info('to nobody')\n"
        f"open({str(found)!r}, 'w').write(str(socket.socket().fileno()))\n"
    )
    command = f'exec "$0" -c "$1" {closed}'
    subprocess.run(["bash", "-c", command, sys.executable, program], check=True, timeout=PATIENCE_S)
    assert int(found.read_text()) > 2


@pytest.fixture
async def unread_orchestrator(tiny_target):
    """A process whose standard error is a pipe that nobody reads."""
    async with running_stack(tiny_target) as stack:
        process = orchestrator_process(tiny_target, stack.target_address)
        yield process
        process.kill()
        process.stderr.close()
        process.wait()


def orchestrator_process(target, target_address):
    address = f"127.0.0.1:{free_port()}"
    words = ["-m", "orchestrator", "--model", str(target.files.folder), "--listen", address]
    process = subprocess.Popen(
        [sys.executable, *words, "--target", target_address], stderr=subprocess.PIPE
    )
    process.address = address
    return process


async def test_an_orchestrator_whose_log_nobody_reads_serves_and_ends(unread_orchestrator):
    process = unread_orchestrator

    async def is_serving():
        assert process.poll() is None, process.stderr.read()
        return await health_of(process) == "SERVING"

    await until(is_serving, PATIENCE_S)
    async with open_channel(process.address) as channel:
        # Each is refused, and has a line of 200 characters in the log.
        call = channel.unary_stream("/forethought.v1.GenerationService/Generate")
        for _ in range(100):
            await asyncio.gather(*(refused(call) for _ in range(20)))
    assert await health_of(process) == "SERVING"
    process.send_signal(signal.SIGTERM)
    assert await asyncio.to_thread(process.wait, PATIENCE_S) == 0


async def refused(call):
    stream = call(b"\xff", timeout=PATIENCE_S)
    assert await stream.code() is grpc.StatusCode.INVALID_ARGUMENT
