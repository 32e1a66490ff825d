"""The life of a server process: listen, load, serve, drain.

The server listens before its model is loaded, so that health checks can tell "loading" from
"gone". Until the model is warm, and again while draining, health says NOT_SERVING and calls are
refused with UNAVAILABLE. SIGTERM and SIGINT drain: running calls get `drain_grace_s` to finish.
A part that fails for good (`supervision.py`) ends the process too, with a code other than 0.

A client that vanishes without a word is found out by pings, and its calls end as if cancelled.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, NoReturn, Protocol, TypeVar

import grpc
import structlog
from grpc_health.v1 import health, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc

from forethought.errors import (
    DrainingError,
    ForethoughtError,
    ListenError,
    LoadingError,
    ReplicaFailedError,
)
from forethought.extras import describe_missing
from forethought.observability.admin import AdminServer, Probes
from forethought.observability.collector import make_registry
from forethought.observability.loop_lag import LoopLag
from forethought.observability.series import Source
from forethought.rpc.calls.call_shares import CallShares
from forethought.rpc.calls.interceptors import ErrorInterceptor, GateInterceptor, RunningCalls
from forethought.rpc.connections.channels import (
    MAX_MESSAGE_BYTES,
    CallerLimits,
    caller_limit_options,
    keep_alive_options,
)
from forethought.rpc.security.guards import Guard, both
from forethought.rpc.security.tls import server_credentials
from forethought.rpc.serving.event_loop import new_event_loop
from forethought.rpc.serving.health import NOT_SERVING, SERVING, Health, Reflection
from forethought.rpc.serving.listening import check_listening
from forethought.rpc.serving.server_options import ServerOptions
from forethought.runtime.heartbeat import Heartbeat
from forethought.runtime.log_output import write_out
from forethought.runtime.supervision import Failure, log_threads_that_fail

_log = structlog.get_logger(__name__)


class Vital(Protocol):
    """A part that a process cannot do without."""

    failure: Failure
    heartbeat: Heartbeat


class Loaded(Protocol):
    """What a tier computes with."""

    @property
    def engines(self) -> Sequence[Vital]:
        """The parts that it cannot do without."""
        ...

    async def close(self) -> None:
        """Fails what is under way, and returns when nothing is computed any more."""
        ...


LoadedT = TypeVar("LoadedT", bound=Loaded)
T = TypeVar("T")

_LAST_WORDS_S = 0.5
"""For what ends by itself when nothing else is under way: statuses on their way to clients."""
_FAILED_GRACE_S = 1.0
"""For running calls of a process that cannot serve any more."""
_LOOP_S = 5.0
"""An event loop that does not turn for so long is not alive."""
_LAST_RESORT_S = 10.0
"""After a failure the process is gone, whatever its threads do."""


class LateServices(grpc.GenericRpcHandler):
    """Services that are added after the server has started, once their model is loaded.

    It stands in for a server in the generated `add_…Servicer_to_server` functions.

    Args:
        set_ready: says by health whether what these services stand on is there. They are called all
            the same.
    """

    def __init__(self, set_ready: Callable[[bool], None]) -> None:
        self.set_ready = set_ready
        self._handlers: list[grpc.GenericRpcHandler] = []
        self.failures: list[Failure] = []
        """Of the parts that these services cannot do without."""
        self.heartbeats: list[Heartbeat] = []
        """Likewise."""
        self.max_message_bytes = MAX_MESSAGE_BYTES
        """Of a request, if these services take less than the server can receive."""
        self.sources: list[Source] = []
        """What they say at `/metrics`."""

    def add_generic_rpc_handlers(self, handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        self._handlers.extend(handlers)

    def add_registered_method_handlers(self, service_name: str, method_handlers: Any) -> None:
        """Nothing to do: the generic handlers cover the same methods."""

    def service(
        self, handler_call_details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        found = (handler.service(handler_call_details) for handler in self._handlers)
        return next((handler for handler in found if handler is not None), None)


Load = Callable[[LateServices], Awaitable[None]]
"""Loads what the process serves, warms it, and adds its servicers."""


class Server:
    """A gRPC server with health, reflection, error mapping and graceful drain."""

    def __init__(self, options: ServerOptions) -> None:
        self._options = options
        self._closed_by: ForethoughtError | None = LoadingError("the model is loading")
        names = (*options.service_names, health.SERVICE_NAME, reflection.SERVICE_NAME)
        self._health = Health(options.service_names)
        self._reflection = Reflection(names)
        self._services = LateServices(self.set_ready)
        self._is_ready = True
        self._running = RunningCalls()
        self._loop = asyncio.get_running_loop()
        self.failed: asyncio.Future[Failure] = self._loop.create_future()
        """Done when a part has failed that its services cannot do without."""
        self._server = grpc.aio.server(
            interceptors=[
                GateInterceptor(lambda: self._closed_by),
                ErrorInterceptor(
                    self._running,
                    options.unread_timeout_s,
                    lambda: self._services.max_message_bytes,
                    _guard(options),
                ),
            ],
            options=[
                ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
                *_receive_options(options.callers),
                # A taken port is an error, not a second server on the same port.
                ("grpc.so_reuseport", 0),
                *keep_alive_options(options.keep_alive),
                # gRPC takes one ping in five minutes, and none without a call, unless told.
                (
                    "grpc.http2.min_ping_interval_without_data_ms",
                    round(options.keep_alive.interval_s * 500),
                ),
                ("grpc.keepalive_permit_without_calls", 1),
            ],
        )
        self.port = 0
        """The port it listens on, known after `start`."""
        self.admin: AdminServer | None = None
        """The admin port, from `start` to the end of `drain`, if there is one."""
        self._lag: LoopLag | None = None  # likewise

    async def start(self) -> None:
        """Listens, with health NOT_SERVING.

        Raises:
            ListenError: the address cannot be bound.
            CertificateError: the files for TLS cannot be used.
        """
        check_listening(self._options.listen)
        if self._options.admin_listen:
            check_listening(self._options.admin_listen, "--admin-listen")
            probes = Probes(self._why_not_alive, self._why_not_ready)
            self._lag = LoopLag()
            self._services.sources.append(Source("", self._lag.readings))
            registry = make_registry(self._services.sources, self._options.metrics_prefix)
            self.admin = AdminServer(self._options.admin_listen, probes, registry)
            _log.info("admin_listening", address=self.admin.address)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        if self._options.has_reflection:
            reflection_pb2_grpc.add_ServerReflectionServicer_to_server(
                self._reflection, self._server
            )
        self._server.add_generic_rpc_handlers((self._services,))
        try:
            self.port = self._add_port(self._options.listen)
        except RuntimeError as error:
            raise ListenError(f"--listen {self._options.listen}: {error}") from error
        await self._server.start()
        _log.info(
            "listening",
            address=self._options.listen,
            port=self.port,
            tls=self._options.tls is not None,
        )

    def _add_port(self, address: str) -> int:
        if self._options.tls is None:
            return self._server.add_insecure_port(address)
        return self._server.add_secure_port(address, server_credentials(self._options.tls))

    async def load(self, load: Load) -> None:
        """Loads and warms the services, then opens the gate."""
        await load(self._services)
        self._closed_by = None
        self.set_ready(self._is_ready)
        _log.info("serving", port=self.port)
        for failure in self._services.failures:
            failure.listen(self._notice)

    async def drain(self) -> None:
        """Refuses new calls, waits for running ones up to the grace period, and stops.

        Health and reflection do not count as running: their streams end now.
        """
        grace_s = self._options.drain_grace_s
        if self.failed.done():
            grace_s = min(grace_s, _FAILED_GRACE_S)
        else:
            self.refuse(DrainingError("the server is shutting down"))
        self._health.end()
        self._reflection.end()
        _log.info("draining", grace_s=grace_s)
        last_words_s: float | None = None
        with suppress(TimeoutError):
            async with asyncio.timeout(grace_s):
                await self._running.all_ended()
                last_words_s = _LAST_WORDS_S
        await self._server.stop(last_words_s)
        if self.admin is not None:
            await asyncio.to_thread(self.admin.close)
        if self._lag is not None:
            self._lag.close()
        _log.info("stopped")

    def refuse(self, why: ForethoughtError) -> None:
        """Refuses new calls from now on, and says so by health. Running ones go on."""
        self._closed_by = why
        self._health.set(NOT_SERVING)

    def set_ready(self, is_ready: bool) -> None:  # noqa: FBT001 - a setter
        """Says by health whether calls can be served, from when the services are loaded until the
        server drains or has failed."""
        self._is_ready = is_ready
        if self._closed_by is None:
            self._health.set(SERVING if is_ready else NOT_SERVING)

    def _why_not_ready(self) -> str:
        """For the admin port. Says what health says."""
        if self._health.status == SERVING:
            return ""
        return self._closed_by.message if self._closed_by else "requests cannot be served now"

    def _why_not_alive(self) -> str:
        """For the admin port: whether the event loop turns, and all parts work."""
        if self.failed.done():
            return f"the {self.failed.result().part} has failed"
        if stuck := [each.why_stuck for each in self._services.heartbeats if each.why_stuck]:
            return "; ".join(stuck)
        turned = threading.Event()
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(turned.set)
        return "" if turned.wait(_LOOP_S) else f"the event loop has not turned for {_LOOP_S} s"

    def _notice(self, failure: Failure) -> None:
        """A part has failed. In any thread."""
        # The event loop may have ended with its process.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._fail, failure)

    def _fail(self, failure: Failure) -> None:
        if not self.failed.done():
            self.refuse(ReplicaFailedError(f"the {failure.part} of this replica has failed"))
            self.failed.set_result(failure)


def _guard(options: ServerOptions) -> Guard:
    if options.callers is None:
        return options.guard
    return both(options.guard, CallShares(options.callers.max_calls).call)


def _receive_options(callers: CallerLimits | None) -> list[tuple[str, int]]:
    if callers is None:
        return [("grpc.max_receive_message_length", MAX_MESSAGE_BYTES)]
    return caller_limit_options(callers)


async def run_server(options: ServerOptions, load: Load) -> None:
    """Runs a server until SIGTERM or SIGINT, then drains it.

    Ends the process, with 0, if it is told to stop while it loads: a thread that reads a model
    cannot be stopped, and Python would wait for it.

    Raises:
        ReplicaFailedError: a part has failed that the services cannot do without.
        ForethoughtError: loading failed.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    server = Server(options)
    await server.start()
    loading = asyncio.create_task(server.load(load))
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({loading, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if loading.done():
            await loading
            await asyncio.wait((stopping, server.failed), return_when=asyncio.FIRST_COMPLETED)
    finally:
        if server.failed.done():
            _leave_later()
        was_loading = not loading.done()
        for task in (loading, stopping):
            task.cancel()
        await server.drain()
    if was_loading:
        _leave(0)
    if server.failed.done():
        failure = server.failed.result()
        raise ReplicaFailedError(f"the {failure.part} has failed") from failure.error


async def serve_loaded(
    options: ServerOptions,
    load: Callable[[], LoadedT],
    add: Callable[[LoadedT, LateServices], None],
) -> None:
    """Runs a server of something that takes long to load, and closes that in the end.

    Args:
        options: of the server.
        load: called in a thread of its own.
        add: adds the services of what was loaded.

    Raises:
        ForethoughtError: as `run_server` does.
    """
    loaded: list[LoadedT] = []

    async def add_services(services: LateServices) -> None:
        what = await load_in_thread(load)
        loaded.append(what)
        services.failures += [engine.failure for engine in what.engines]
        services.heartbeats += [engine.heartbeat for engine in what.engines]
        add(what, services)

    try:
        await run_server(options, add_services)
    finally:
        for what in loaded:
            await what.close()


async def load_in_thread(load: Callable[[], T]) -> T:
    """Loads a model without holding up the event loop, in a thread that ends with it.

    OpenMP keeps a team of threads for every thread that has ever computed. When all teams together
    have more threads than there are cores, they sleep between two operations instead of spinning:
    a pass of 7 ms then takes 18. So nobody but the engine's thread may stay.
    """
    executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="load")
    try:
        return await asyncio.get_running_loop().run_in_executor(executor, load)
    finally:
        executor.shutdown(wait=False)


def _leave(code: int) -> NoReturn:
    """Ends the process, whatever its other threads do."""
    write_out()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _leave_later() -> None:
    """Has the process end with 1 even if closing what has failed never returns."""
    timer = threading.Timer(_LAST_RESORT_S, os._exit, (1,))
    timer.daemon = True
    timer.start()


def run_process(serve: Coroutine[Any, Any, None]) -> None:
    """Runs a tier as a process. A failure that has a name is logged by it, and exits with 1."""
    log_threads_that_fail()
    try:
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(serve)
    except ReplicaFailedError as error:
        _log.error("failed", detail=error.message)
        _leave(1)
    except ForethoughtError as error:
        _log.error("start_failed", reason=error.reason, detail=error.message)
        sys.exit(1)
    except ModuleNotFoundError as error:
        missing = describe_missing(error)
        if missing is None:
            raise
        _log.error("start_failed", reason="NOT_INSTALLED", detail=missing)
        sys.exit(1)
