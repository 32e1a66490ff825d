"""Where and how a server listens."""

from dataclasses import dataclass, field
from pathlib import Path

from forethought.configuration.tls_settings import TlsSettings
from forethought.keys.key_file import read_keys
from forethought.observability.series import PREFIX
from forethought.reloading import Reloading
from forethought.rpc.calls.key_guard import only_with_keys
from forethought.rpc.connections.channels import CallerLimits, KeepAlive
from forethought.rpc.security.guards import Guard, both, let_all_in, only_named
from forethought.rpc.security.tls import Identity, ServerTls
from forethought.settings import ProcessSettings
from forethought.tier import SESSION_IDLE_TIMEOUT_S


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """Where and how a server listens."""

    listen: str
    """`host:port`; port 0 takes a free one."""
    service_names: tuple[str, ...]
    """Full names of the services, for health checks and reflection."""
    drain_grace_s: float = 30.0
    """Time that running calls get to finish after SIGTERM."""
    keep_alive: KeepAlive = field(default_factory=KeepAlive)
    """How clients that vanished are found out. Clients may ping twice as often as the server."""
    unread_timeout_s: float = SESSION_IDLE_TIMEOUT_S
    """Time after which a call ends whose client does not read what it is sent."""
    callers: CallerLimits | None = None
    """Of a server whose callers are strangers. The tiers' are orchestrators."""
    tls: ServerTls | None = None
    """None speaks plain text."""
    guard: Guard = let_all_in
    """Who may call."""
    admin_listen: str = ""
    """`host:port` of `/livez`, `/readyz` and `/metrics`; empty: there is no such port."""
    has_reflection: bool = True
    """Whether callers are told which services and messages there are."""
    metrics_prefix: str = PREFIX
    """Of metrics that vLLM has too."""


def server_options(
    settings: ProcessSettings,
    service_names: tuple[str, ...],
    *,
    unread_timeout_s: float = SESSION_IDLE_TIMEOUT_S,
    callers: CallerLimits | None = None,
    api_keys: Path | None = None,
) -> ServerOptions:
    """Of a process, as its settings say.

    Args:
        settings: of the process.
        service_names: full names of its services.
        unread_timeout_s: time after which a call ends whose client does not read.
        callers: what is taken from callers that are strangers.
        api_keys: file of the keys that callers must show; None: they need none.

    Raises:
        KeyFileError: the file cannot be used.
    """
    guard = only_named(settings.tls_peer_name) if settings.tls_peer_name else let_all_in
    if api_keys is not None:
        path = api_keys
        guard = both(guard, only_with_keys(Reloading([path], lambda: read_keys(path))))
    return ServerOptions(
        settings.listen,
        service_names,
        settings.drain_grace_s,
        unread_timeout_s=unread_timeout_s,
        callers=callers,
        tls=server_tls(settings),
        guard=guard,
        has_reflection=settings.has_reflection,
        admin_listen=settings.admin_listen,
        metrics_prefix=settings.metrics_prefix,
    )


def server_tls(settings: TlsSettings) -> ServerTls | None:
    """What a listener shows; None speaks plain text."""
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    return ServerTls(Identity(settings.tls_cert, settings.tls_key), settings.tls_ca)
