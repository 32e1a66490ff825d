"""A name server of the test's own, and replicas that share a port on addresses of this machine."""

import asyncio
import socket
from collections.abc import Sequence

import pytest

V4, V6 = socket.AF_INET, socket.AF_INET6
_REAL = asyncio.BaseEventLoop.getaddrinfo


class NameServer:
    """Answers for the hosts that it knows, and says of all others that there are none."""

    def __init__(self) -> None:
        self.hosts: dict[str, list[tuple[socket.AddressFamily, str]]] = {}
        self.is_away = False
        self.num_questions = 0
        self._may_answer = asyncio.Event()
        self._may_answer.set()

    def say(self, host: str, *numbers: str) -> None:
        """From now on a host stands for these; for none at all, it has no records."""
        self.hosts[host] = [(V6 if ":" in each else V4, each) for each in numbers]

    def hang(self) -> None:
        """Answers nobody until `go_on`."""
        self._may_answer.clear()

    def go_on(self) -> None:
        """Answers again, those who wait too."""
        self._may_answer.set()

    async def answer(self, host: str, port: int) -> Sequence[tuple[object, ...]]:
        """As `getaddrinfo` does."""
        self.num_questions += 1
        await self._may_answer.wait()
        if self.is_away:
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        if not self.hosts.get(host):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [
            (family, socket.SOCK_STREAM, 6, "", (number, port))
            for family, number in self.hosts[host]
        ]


@pytest.fixture
async def name_server(monkeypatch: pytest.MonkeyPatch) -> NameServer:
    """Stands for that of the machine, for names that end in `.test`."""
    server = NameServer()

    async def getaddrinfo(loop, host, port, **options):
        if isinstance(host, str) and host.endswith(".test"):
            return await server.answer(host, port)
        return await _REAL(loop, host, port, **options)

    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", getaddrinfo)
    return server
