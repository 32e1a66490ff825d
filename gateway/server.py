"""The life of the gateway's process: listen, find an orchestrator, serve, drain."""

import asyncio
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager, suppress

import structlog
import uvicorn
from starlette.types import ASGIApp

from forethought.addresses import join_address, split_address
from forethought.observability.admin import AdminServer, Probes
from forethought.observability.collector import make_registry
from forethought.observability.loop_lag import LoopLag
from forethought.observability.series import Source
from forethought.rpc.connections.open_files import allow_open_files
from forethought.rpc.security.tls import ServerTls, http_context
from forethought.rpc.serving.listening import check_listening
from forethought.runtime.supervision import keep_running
from gateway.metrics import HttpMetrics
from gateway.upstream import Upstream
from gateway.web.connection import BoundedProtocol

_log = structlog.get_logger(__name__)
_LOOP_S = 5.0
_BACKLOG = 1024
_MAX_CONNECTIONS = 15_000
"""That the limit of open files leaves room for, where the system allows it."""
_LAST_WORDS_S = 2.0
"""For answers that outlast the drain to say that they do."""
_IDLE_S = 75  # of a connection without a request: longer than most proxies keep theirs


class HttpServer(uvicorn.Server):
    """Uvicorn, in an event loop that somebody else stops.

    Args:
        app: what answers.
        listen: `host:port`; port 0 takes a free one.
        drain_grace_s: time that running requests get in the end.
        tls: for HTTPS; None speaks plain text.

    Raises:
        ListenError: the address cannot be bound.
        CertificateError: the files for TLS cannot be used.
    """

    def __init__(
        self, app: ASGIApp, listen: str, drain_grace_s: float, tls: ServerTls | None = None
    ) -> None:
        context = None if tls is None else http_context(tls)
        check_listening(listen)
        allow_open_files(_MAX_CONNECTIONS)
        host, port = split_address(listen)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = socket.socket(family)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind((host, port))
        self._socket.listen(_BACKLOG)
        self.address = join_address(host, self._socket.getsockname()[1])
        """Where it listens."""
        super().__init__(
            uvicorn.Config(
                app,
                http=BoundedProtocol,
                ws="none",
                lifespan="off",
                access_log=False,
                proxy_headers=False,
                log_config=None,
                log_level="warning",
                server_header=False,
                ssl_context_factory=None if context is None else lambda *_: context,
                timeout_keep_alive=_IDLE_S,
                timeout_graceful_shutdown=round(drain_grace_s),
            )
        )

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leaves signals to the process."""
        yield

    async def run_until(self, stop: asyncio.Event) -> None:
        """Serves until `stop`, then lets running requests end. Those that do not are cancelled when
        the grace is over."""
        serving = asyncio.ensure_future(self.serve([self._socket]))
        stopping = asyncio.ensure_future(stop.wait())
        try:
            await asyncio.wait((serving, stopping), return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.should_exit = True
            stopping.cancel()
            await serving
            if late := set(self.server_state.tasks):
                await asyncio.wait(late, timeout=_LAST_WORDS_S)


async def run_gateway(
    upstream: Upstream, server: HttpServer, metrics: HttpMetrics, admin_listen: str
) -> None:
    """Serves until `upstream.stopping`.

    Raises:
        ListenError: the admin port cannot be bound.
    """
    loop = asyncio.get_running_loop()

    def why_not_alive() -> str:
        turned = threading.Event()
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(turned.set)
        return "" if turned.wait(_LOOP_S) else f"the event loop has not turned for {_LOOP_S} s"

    async with AsyncExitStack() as cleanup:
        if admin_listen:
            check_listening(admin_listen, "--admin-listen")
            lag = LoopLag()
            cleanup.callback(lag.close)
            registry = make_registry([Source("", lag.readings), Source("", metrics.readings)])
            probes = Probes(why_not_alive, lambda: upstream.why_not_ready)
            admin = AdminServer(admin_listen, probes, registry)
            cleanup.push_async_callback(asyncio.to_thread, admin.close)
            _log.info("admin_listening", address=admin.address)
        watching = keep_running("upstream", upstream.watch)
        cleanup.callback(watching.cancel)
        _log.info("listening", address=server.address)
        await server.run_until(upstream.stopping)
        _log.info("stopped")


def stop_on_signals(stop: asyncio.Event) -> None:
    """Has SIGTERM and SIGINT set it."""
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
