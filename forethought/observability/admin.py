"""The admin port of a process: `/livez`, `/readyz` and `/metrics` over plain HTTP.

The answers come from threads of their own, so a stuck event loop is told as such and does not keep
the question waiting. The port is for probes and scrapers within a cluster: it has no keys and no
TLS, and says nothing that a client sent. Whoever holds many connections loses the oldest, so that
there is always room for the next question.
"""

import socket
import sys
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

import structlog
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import ThreadingWSGIServer, make_wsgi_app

from forethought.addresses import join_address, split_address

MAX_CONNECTIONS = 32
"""Connections at a time, each with a thread."""

_log = structlog.get_logger(__name__)
_REQUEST_S = 10.0  # for a client to send its request, and to take the answer


@dataclass(frozen=True, slots=True)
class Probes:
    """What the admin port asks a process. Each answers with a reason, empty where all is well; each
    is called in a thread of the port and may wait for some seconds."""

    why_not_alive: Callable[[], str]
    """For what only a new process mends. Never tied to other processes."""
    why_not_ready: Callable[[], str]
    """For what may pass: loading, draining, no target."""


class AdminServer:
    """Listens until it is closed.

    Args:
        listen: `host:port`; port 0 takes a free one.
        probes: of this process.
        registry: the metrics.

    Raises:
        OSError: the address cannot be bound.
    """

    def __init__(self, listen: str, probes: Probes, registry: CollectorRegistry) -> None:
        host, port = split_address(listen)
        checks = {"/livez": probes.why_not_alive, "/readyz": probes.why_not_ready}
        metrics = make_wsgi_app(registry)

        def answer(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
            path, method = environ["PATH_INFO"], environ["REQUEST_METHOD"]
            if method not in {"GET", "HEAD"}:
                return _say("405 Method Not Allowed", "ask with GET", start_response)
            if path == "/metrics":
                body: Iterable[bytes] = metrics(
                    {**environ, "REQUEST_METHOD": "GET"}, start_response
                )
            elif path not in checks:
                what = "there is /livez, /readyz and /metrics"
                body = _say("404 Not Found", what, start_response)
            elif problem := checks[path]():
                body = _say("503 Service Unavailable", problem, start_response)
            else:
                body = _say("200 OK", "ok", start_response)
            return () if method == "HEAD" else body

        self._server = make_server(host, port, answer, _server_class(host), _QuietHandler)
        self.address = join_address(host, self._server.server_port)
        """Where it listens."""
        self._thread = threading.Thread(
            target=self._server.serve_forever, name="admin", kwargs={"poll_interval": 0.1}
        )
        self._thread.daemon = True
        self._thread.start()

    def close(self) -> None:
        """Stops to listen."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _QuietHandler(WSGIRequestHandler):
    """Logs no requests: probes come every few seconds."""

    timeout = _REQUEST_S

    def log_message(self, *_: Any) -> None:
        """Says nothing."""


def _server_class(host: str) -> type[ThreadingWSGIServer]:
    class Listener(_BoundedServer):
        address_family = socket.AF_INET6 if ":" in host else socket.AF_INET

    return Listener


class _BoundedServer(ThreadingWSGIServer):
    """Has so many connections at most, and says nothing of those that break off."""

    request_queue_size = 128

    def __init__(self, *args: Any, **options: Any) -> None:
        self._lock = threading.Lock()
        self._open: dict[socket.socket, None] = {}  # the oldest first
        super().__init__(*args, **options)

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            self._open[request] = None
            if len(self._open) > MAX_CONNECTIONS:
                oldest = next(iter(self._open))
                del self._open[oldest]
                with suppress(OSError):
                    oldest.shutdown(socket.SHUT_RDWR)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._open.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002
        if not isinstance(sys.exception(), OSError):
            _log.exception("admin_request_failed")


def _say(status: str, text: str, start_response: Callable[..., Any]) -> list[bytes]:
    headers = [("Content-Type", "text/plain; charset=utf-8")]
    if status.startswith("405"):
        headers.append(("Allow", "GET, HEAD"))
    start_response(status, headers)
    return [f"{text}\n".encode()]
