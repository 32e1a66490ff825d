"""Valkey servers of the tests' own."""

import signal
import subprocess
import time
from contextlib import suppress

from redis import Redis
from redis.exceptions import RedisError

from forethought.local.plan.valkey import valkey_binary
from forethought.local.processes.process import launcher
from tests.ports import free_port

PATIENCE_S = 60


class ValkeyServer:
    """A server on a port of its own, which a test may stop, kill and start again."""

    def __init__(self) -> None:
        self.port = free_port()
        self._has_served = False
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    @property
    def bus_port(self) -> int:
        """Where the others of its cluster talk to it. Valkey's own choice, 10,000 above `port`,
        may be among the ports that Linux hands out."""
        return self.port + 1

    def start(self, *options: str) -> None:
        """Starts it, empty, and returns when it answers. It ends with the test process.

        It moves to another port where its own was taken meanwhile, unless it has had clients.
        """
        for _ in range(1 if self._has_served else 3):
            self.start_soon(*options)
            if self._answers():
                self._has_served = True
                return
            self.port = free_port()
        raise AssertionError("the server does not start; what it said was captured")

    def _answers(self) -> bool:
        """Whether it answers; False when it has ended."""
        deadline = time.monotonic() + PATIENCE_S
        with self.client() as client:
            while time.monotonic() < deadline:
                try:
                    return client.ping()
                except RedisError:
                    with suppress(subprocess.TimeoutExpired):
                        self._process.wait(0.01)
                        return False
        self.kill()
        return False

    def start_soon(self, *options: str) -> None:
        """Starts it and does not wait."""
        common = ["--bind", "127.0.0.1", "--port", str(self.port), "--save", ""]
        common += ["--cluster-port", str(self.bus_port), "--loglevel", "warning"]
        self._process = subprocess.Popen(
            [*launcher(), str(valkey_binary()), *common, *options],
            stdin=subprocess.DEVNULL,
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
