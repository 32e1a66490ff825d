"""Children that never outlive this process, and their end."""

import asyncio
import contextlib
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, STDOUT, Process
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO

_DIE_WITH_PARENT = str(Path(__file__).with_name("die_with_parent.py"))


async def spawn_background(
    command: Sequence[str], output: IO[bytes], environment: Mapping[str, str] | None = None
) -> Process:
    """Starts a service. Its stdout and stderr go to `output`.

    It leads a process group of its own, so that a Ctrl-C in the terminal reaches only this
    process, which then stops the services in an orderly way. Call it from the main thread.
    """
    return await asyncio.create_subprocess_exec(
        *launcher(),
        *command,
        stdin=DEVNULL,
        stdout=output,
        stderr=STDOUT,
        process_group=0,
        env=environment,
    )


async def spawn_foreground(command: Sequence[str], env: Mapping[str, str]) -> Process:
    """Starts a program that shares the terminal, and its Ctrl-C, with this process.

    Call it from the main thread.
    """
    return await asyncio.create_subprocess_exec(*launcher(), *command, env=env)


def launcher() -> list[str]:
    """What precedes a command whose process is to die with this one."""
    return [sys.executable, "-I", "-S", _DIE_WITH_PARENT, str(os.getpid())]


async def stop_processes(processes: Iterable[Process], *, grace_s: float) -> None:
    """SIGTERM to all, SIGKILL to those that still run after `grace_s` seconds.

    Returns, or raises, only once all have ended: a cancelled wait kills at once.
    """
    running = [process for process in processes if process.returncode is None]
    for process in running:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
    try:
        await wait_for_processes(running, timeout_s=grace_s)
    finally:
        for process in running:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
        await wait_for_processes(running)


async def wait_for_processes(
    processes: Iterable[Process],
    *,
    timeout_s: float | None = None,
    until: str = asyncio.ALL_COMPLETED,
) -> None:
    """Waits until all have ended, or the first with `until=asyncio.FIRST_COMPLETED`."""
    waits = [asyncio.create_task(process.wait()) for process in processes]
    if not waits:
        return
    try:
        await asyncio.wait(waits, timeout=timeout_s, return_when=until)
    finally:
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)


def describe_exit(returncode: int) -> str:
    """'exited with code 3' or 'was killed by SIGKILL'."""
    if returncode >= 0:
        return f"exited with code {returncode}"
    return f"was killed by {signal.Signals(-returncode).name}"


def shell_exit_code(returncode: int) -> int:
    """The code that a shell reports: 128 + signal for a process that a signal ended."""
    return returncode if returncode >= 0 else 128 - returncode
