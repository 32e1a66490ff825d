"""Outsiders at an admin port: nothing that they do keeps a probe from its answer."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from http.client import HTTPConnection

import pytest

from forethought.addresses import split_address
from forethought.observability.admin import MAX_CONNECTIONS, AdminServer, Probes
from forethought.observability.collector import make_registry

WAIT_S = 20
BAD = {
    "no HTTP": b"\0\xff" * 32 + b"\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "an endless line": b"GET /" + b"a" * 2**17 + b" HTTP/1.1\r\n\r\n",
    "an endless header": b"GET /livez HTTP/1.1\r\nA: " + b"a" * 2**17 + b"\r\n\r\n",
    "a thousand headers": b"GET /livez HTTP/1.1\r\n" + b"A: a\r\n" * 1000 + b"\r\n",
    "a length that is none": b"POST /livez HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
}


@pytest.fixture
def admin() -> Iterator[AdminServer]:
    server = AdminServer("127.0.0.1:0", Probes(lambda: "", lambda: ""), make_registry([]))
    yield server
    server.close()


def ask(admin: AdminServer, path: str, method: str = "GET") -> tuple[int, bytes]:
    connection = HTTPConnection(*split_address(admin.address), timeout=WAIT_S)
    try:
        connection.request(method, path)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def connect(admin: AdminServer) -> socket.socket:
    return socket.create_connection(split_address(admin.address), WAIT_S)


def all_of(connection: socket.socket) -> bytes:
    """What comes until the end, whichever that is."""
    answer = b""
    try:
        while piece := connection.recv(4096):
            answer += piece
    except ConnectionResetError:
        pass
    return answer


@pytest.mark.parametrize("said", BAD.values(), ids=BAD)
def test_what_is_no_request_is_refused_and_the_port_serves_on(admin, said, capfd):
    with connect(admin) as connection:
        with suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(said)
        answer = all_of(connection)
    assert b" 200 " not in answer
    assert ask(admin, "/livez") == (200, b"ok\n")
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "BREW"])
@pytest.mark.parametrize("path", ["/livez", "/metrics", "/"])
def test_only_reading_is_known_there(admin, method, path):
    assert ask(admin, path, method)[0] == 405


def test_a_head_has_no_body(admin):
    for path in ("/livez", "/metrics"):
        assert ask(admin, path, "HEAD") == (200, b"")


def test_many_that_never_finish_asking_lose_their_connections_to_those_who_ask(admin):
    with ExitStack() as opened:
        slow = [opened.enter_context(connect(admin)) for _ in range(MAX_CONNECTIONS + 8)]
        for each in slow:
            with suppress(BrokenPipeError, ConnectionResetError):
                each.sendall(b"GET /livez HTTP/1.1\r\nA: ")
        assert ask(admin, "/livez") == (200, b"ok\n")
        assert ask(admin, "/metrics")[0] == 200
        for each in slow[:8]:
            assert b" 200 " not in all_of(each)
