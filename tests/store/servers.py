"""Valkey servers of the tests' own."""

import os
import signal
import subprocess
import sys

from redis import Redis
from redis.exceptions import RedisError

from forethought.local import die_with_parent
from forethought.local.valkey import valkey_binary
from tests.ports import free_port

PATIENCE_S = 20


class ValkeyServer:
    """A server on a port of its own, which a test may stop, kill and start again."""

    def __init__(self) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *options: str) -> None:
        """Starts it, empty, and returns when it answers. It ends with the test process."""
        self.start_soon(*options)
        with self.client() as client:
            for _ in range(PATIENCE_S * 100):
                try:
                    client.ping()
                except RedisError:
                    try:
                        self._process.wait(0.01)
                    except subprocess.TimeoutExpired:
                        continue
                    raise
                return
        raise AssertionError("the server does not answer")

    def start_soon(self, *options: str) -> None:
        """Starts it and does not wait."""
        launcher = [sys.executable, "-I", "-S", str(die_with_parent.__file__), str(os.getpid())]
        common = ["--bind", "127.0.0.1", "--port", str(self.port), "--save", ""]
        self._process = subprocess.Popen(
            [*launcher, str(valkey_binary()), *common, *options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )

    def client(self) -> Redis:
        """A client that blocks, to look and to meddle."""
        return Redis.from_url(self.url, retry=None)

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal."""
        self._process.send_signal(number)

    def kill(self) -> None:
        """Ends it now. What it held is lost."""
        self._process.kill()
        self._process.wait(PATIENCE_S)
