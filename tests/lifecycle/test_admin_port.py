"""What probes and scrapers are told at the admin port, from loading to the end."""

import asyncio
import threading
from http.client import HTTPConnection

import pytest

from forethought.addresses import split_address
from forethought.errors import ListenError
from forethought.rpc.serving.server import Server, ServerOptions
from forethought.runtime.supervision import Failure

OPTIONS = ServerOptions("127.0.0.1:0", ("a.Service",), 1.0, admin_listen="127.0.0.1:0")


def get(server: Server, path: str, method: str = "GET") -> tuple[int, str]:
    host, port = split_address(server.admin.address)
    connection = HTTPConnection(host, port, timeout=20)
    try:
        connection.request(method, path)
        response = connection.getresponse()
        return response.status, response.read().decode().strip()
    finally:
        connection.close()


async def ask(server: Server, path: str) -> tuple[int, str]:
    return await asyncio.to_thread(get, server, path)


async def load_nothing(_) -> None:
    pass


async def test_a_process_lives_while_it_loads_and_is_ready_when_it_serves():
    server = Server(OPTIONS)
    await server.start()
    assert await ask(server, "/livez") == (200, "ok")
    assert await ask(server, "/readyz") == (503, "the model is loading")
    await server.load(load_nothing)
    assert await ask(server, "/livez") == (200, "ok")
    assert await ask(server, "/readyz") == (200, "ok")
    await server.drain()
    with pytest.raises(ConnectionRefusedError):
        await ask(server, "/livez")


async def test_a_draining_process_lives_and_is_not_ready():
    server = Server(OPTIONS)
    await server.start()
    await server.load(load_nothing)
    with server._running:  # a call that does not end by itself
        draining = asyncio.create_task(server.drain())
        await asyncio.sleep(0)
        assert await ask(server, "/readyz") == (503, "the server is shutting down")
        assert await ask(server, "/livez") == (200, "ok")
    await draining


async def test_a_failed_part_and_a_stuck_event_loop_are_no_life(monkeypatch):
    monkeypatch.setattr("forethought.rpc.serving.server._LOOP_S", 0.05)
    failure = Failure("engine")

    async def load(services):
        services.failures.append(failure)

    server = Server(OPTIONS)
    await server.start()
    await server.load(load)
    answers: list[tuple[int, str]] = []
    asking = threading.Thread(target=lambda: answers.append(get(server, "/livez")))
    asking.start()
    asking.join()  # the event loop does not turn meanwhile
    assert answers == [(503, "the event loop has not turned for 0.05 s")]
    assert await ask(server, "/livez") == (200, "ok")
    failure.happened(MemoryError())
    await server.failed
    assert await ask(server, "/livez") == (503, "the engine has failed")
    assert (await ask(server, "/readyz"))[0] == 503
    await server.drain()


async def test_metrics_are_told_and_other_paths_are_not():
    server = Server(OPTIONS)
    await server.start()
    status, text = await ask(server, "/metrics")
    assert status == 200
    assert "process_resident_memory_bytes" in text
    assert (await ask(server, "/"))[0] == 404
    assert (await ask(server, "/livez/../metrics"))[0] == 404
    await server.drain()


async def test_a_client_that_says_nothing_keeps_nobody_waiting():
    server = Server(OPTIONS)
    await server.start()
    _, silent = await asyncio.open_connection(*split_address(server.admin.address))
    assert await ask(server, "/livez") == (200, "ok")
    silent.close()
    await server.drain()


async def test_it_listens_on_ipv6():
    server = Server(ServerOptions("[::1]:0", (), 1.0, admin_listen="[::1]:0"))
    await server.start()
    assert await ask(server, "/livez") == (200, "ok")
    await server.drain()


async def test_a_taken_admin_port_is_named():
    first = Server(OPTIONS)
    await first.start()
    second = Server(ServerOptions("127.0.0.1:0", (), 1.0, admin_listen=first.admin.address))
    with pytest.raises(ListenError, match=f"--admin-listen {first.admin.address}: the port is"):
        await second.start()
    await first.drain()
