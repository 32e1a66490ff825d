"""Which process of a local deployment listens where, from the options of `forethought up`."""

import contextlib
import ctypes
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from forethought.addresses import is_loopback, join_address, split_address
from forethought.configuration.store_url import url_of_socket
from forethought.local.plan.defaults import DEFAULT_PORT, HOST, HTTP_PORT
from forethought.local.plan.deployment_folder import DeploymentFolder, deployment_folder
from forethought.local.plan.plan_error import PlanError
from forethought.local.plan.plan_options import PlanOptions
from forethought.local.plan.ports import Ports
from forethought.local.plan.private_socket import private_socket
from forethought.local.plan.tier_config import TierConfig
from forethought.local.plan.valkey import valkey_command
from forethought.local.processes.local_deployment import Tier
from forethought.local.processes.probes import probe_grpc_health, probe_http, probe_redis
from forethought.models.files.reference import is_shipped
from forethought.models.files.shipped import shipped_counts
from forethought.tier import DEFAULT_MAX_SPECULATIVE_TOKENS

_DRAIN_GRACE_S = 10  # below the time after which a tier is killed
_EVERYWHERE = {"0.0.0.0": HOST, "::": "::1"}  # noqa: S104 - where they are reached, by what is bound


@dataclass(frozen=True, slots=True)
class Places:
    """Where everything listens."""

    orchestrator: str
    address: str  # of the orchestrator, from this machine
    draft: str
    target: str
    gateway: str  # empty: there is none
    notes: tuple[str, ...]
    valkey: Path = Path("valkey.sock")

    @property
    def port(self) -> int:
        """Of the orchestrator."""
        return int(self.address.rpartition(":")[2])


@dataclass(frozen=True, slots=True)
class Plan:
    """What to start."""

    options: PlanOptions
    tiers: tuple[Tier, ...]
    address: str  # of the orchestrator
    redis_url: str | None  # a store that runs elsewhere
    notes: tuple[str, ...]  # what differs from what the reader may expect
    log_dir: Path


@contextlib.contextmanager
def planned(
    options: PlanOptions, log_dir: Path | None = None, config: TierConfig | None = None
) -> Iterator[Plan]:
    """The plan of a deployment that has a folder of its own as long as the context lasts.

    Raises:
        PlanError: this machine cannot give what is asked for.
    """
    places = choose_places(options)
    with contextlib.ExitStack() as held:
        folder = held.enter_context(deployment_folder(log_dir, places.port))
        if options.embedded_store and options.redis_url is None:
            socket = held.enter_context(private_socket(folder.path, "valkey"))
            places = replace(places, valkey=socket)
        yield make_plan(options, places, folder, config)


def choose_places(options: PlanOptions) -> Places:
    """Free ports.

    Raises:
        PlanError: the host or port that was asked for cannot be listened on.
    """
    ports = Ports(options.port or DEFAULT_PORT)
    host = options.host.strip("[]")
    port = ports.take("orchestrator", host, exactly="--port" if options.port else "")
    if not (options.insecure or is_loopback(join_address(host, 0))):
        raise PlanError(
            f"--host {options.host}: other machines reach it, in plain text and without a key; add "
            "--insecure on a network that is trusted"
        )
    draft, target = (ports.take(name, HOST) for name in ("draft", "target"))
    gateway = ""
    if options.has_gateway:
        http_ports = Ports(options.http_port or HTTP_PORT)
        exactly = "--http-port" if options.http_port else ""
        gateway = join_address(host, http_ports.take("gateway", host, exactly=exactly))
        ports.notes += http_ports.notes
    return Places(
        orchestrator=join_address(host, port),
        address=_reached(join_address(host, port)),
        draft=join_address(HOST, draft),
        target=join_address(HOST, target),
        gateway=gateway,
        notes=tuple(ports.notes),
    )


def make_plan(
    options: PlanOptions,
    places: Places | None = None,
    folder: DeploymentFolder | None = None,
    config: TierConfig | None = None,
) -> Plan:
    """Command lines.

    Args:
        options: what is asked for.
        places: where everything listens; free ports, unless given.
        folder: of the deployment; without one nothing is shared, and logs are not planned.
        config: what else is said of the tiers.

    Raises:
        PlanError: the embedded Valkey is not installed, a port cannot be listened on, or a tier is
            told to speak TLS.
    """
    places = places or choose_places(options)
    config = config or TierConfig()
    store = options.redis_url
    tiers = []
    if options.embedded_store and store is None:
        store = url_of_socket(places.valkey)
        tiers.append(Tier("valkey", valkey_command(places.valkey), store, probe_redis))
    engine = {
        "device": options.device,
        "num_threads": options.num_threads,
        "redis_url": store,
        "shared_cores": _shared_cores(options, folder),
        "max_num_speculative_tokens": _room_for_k(options),
    }
    tiers.append(_target_tier(options, places, engine, config))
    if options.draft_model is not None:
        tiers.append(_draft_tier(options, places, engine, config))
    tiers.append(_orchestrator_tier(options, places, store, config))
    if places.gateway:
        tiers.append(_gateway_tier(options, places, config))
    config.refuse_tls(tier.name for tier in tiers)
    notes = (*places.notes, *(folder.notes if folder else ()))
    log_dir = folder.path if folder else Path()
    return Plan(options, tuple(tiers), places.address, options.redis_url, notes, log_dir)


def _target_tier(
    options: PlanOptions, places: Places, engine: Mapping[str, Any], config: TierConfig
) -> Tier:
    said = {
        "model": options.model,
        "dtype": options.dtype,
        "kv_memory": options.kv_memory,
        "max_model_len": options.max_model_len,
        "max_sessions": options.max_sessions,
        **engine,
    }
    return _tier("target", places.target, said, {}, config)


def _draft_tier(
    options: PlanOptions, places: Places, engine: Mapping[str, Any], config: TierConfig
) -> Tier:
    said: dict[str, Any] = {
        "model": options.draft_model,
        "target_vocabulary": options.model if options.translate_draft else None,
        "min_prob": options.draft_min_prob,
        "vocab_size": options.draft_vocab_size,
        "vocab_counts": _counts_of_draft(options),
        "max_sessions": options.max_sessions,
        "lookahead": options.lookahead,
        "dtype": options.draft_dtype or options.dtype,
        **engine,
    }
    if is_shipped(str(options.draft_model)):
        # It is small, made for a CPU, and best in its own number format.
        for name in ("device", "redis_url"):
            del said[name]
        said["dtype"] = options.draft_dtype
    defaults: dict[str, Any] = {}
    if runs_on_cpu(options.device):
        defaults["lookahead"] = 0  # drafts that are made ahead take their time from the target
    return _tier("draft", places.draft, said, defaults, config)


def _counts_of_draft(options: PlanOptions) -> Path | None:
    """What a draft that does not score all tokens tells the frequent ones by."""
    if options.draft_vocab_size is None or options.translate_draft:
        return None
    return options.counts.resolve() if options.counts else shipped_counts(options.model)


def _orchestrator_tier(
    options: PlanOptions, places: Places, store: str | None, config: TierConfig
) -> Tier:
    said: dict[str, Any] = {
        "model": options.model,
        "draft": places.draft if options.draft_model is not None else "",
        "target": places.target,
        "policy": options.policy,
        "num_speculative_tokens": options.num_speculative_tokens,
        "verification_mode": options.verification_mode,
        "generation_config": options.generation_config,
        "max_requests": options.max_sessions,
        "redis_url": store,
        "insecure": options.insecure or None,
        "lookup": None if options.lookup is None else ",".join(options.lookup),
        "counts_file": None if options.counts is None else options.counts.resolve(),
    }
    tier = _tier("orchestrator", places.orchestrator, said, {}, config)
    return replace(tier, address=places.address)


def _gateway_tier(options: PlanOptions, places: Places, config: TierConfig) -> Tier:
    said = {"orchestrator": places.address, "insecure": options.insecure or None}
    tier = _tier("gateway", places.gateway, said, {}, config)
    return replace(tier, address=_reached(places.gateway), probe=probe_http)


def _reached(address: str) -> str:
    """Where a listener is found from this machine."""
    host, port = split_address(address)
    return join_address(_EVERYWHERE.get(host, host), port)


def runs_on_cpu(device: str | None) -> bool:
    """Whether tiers that are told this device run on a CPU.

    What has to be detected is a GPU only if the library of its driver can be loaded. torch would
    know better, but its import takes seconds.
    """
    if device not in (None, "auto"):
        return device == "cpu"
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return True
    return False


def _shared_cores(options: PlanOptions, folder: DeploymentFolder | None) -> Path | None:
    """Where both tiers have passes to make on one CPU, they take turns."""
    if folder is None or options.draft_model is None or not runs_on_cpu(options.device):
        return None
    return folder.shared_cores.resolve()


def _room_for_k(options: PlanOptions) -> int | None:
    """The most tokens of a round, where more are asked for than a tier takes by default."""
    k = options.num_speculative_tokens or 0
    return k if k > DEFAULT_MAX_SPECULATIVE_TOKENS else None


_PACKAGES = {
    "target": "target_service",
    "draft": "draft_service",
    "orchestrator": "orchestrator",
    "gateway": "gateway",
}


def _tier(
    name: str,
    address: str,
    said: Mapping[str, Any],
    defaults: Mapping[str, Any],
    config: TierConfig,
) -> Tier:
    """A tier that listens at an address, with what was said of it, and by default besides.

    The store's URL holds a password, so it is told where other users of the machine do not look.
    """
    defaults = {"drain_grace_s": _DRAIN_GRACE_S, "admin_listen": f"{HOST}:0", **defaults}
    chosen = {name: value for name, value in said.items() if value is not None}
    environment = dict(config.for_tiers)
    if store := chosen.pop("redis_url", None):
        environment[store_variable(name)] = store
    values = {**config.leave_out(name, defaults), **chosen}
    command = [sys.executable, "-m", _PACKAGES[name], "--listen", address, *_flags(values)]
    return Tier(name, command, address, probe_grpc_health, environment)


def store_variable(tier: str) -> str:
    """The environment variable that tells a tier of its store."""
    return f"FORETHOUGHT_{tier.upper()}_REDIS_URL"


def _flags(values: Mapping[str, Any]) -> list[str]:
    """Command-line flags for the values that were given."""
    return [
        text
        for name, value in values.items()
        if value is not None
        for text in (f"--{name.replace('_', '-')}", *(() if value is True else (str(value),)))
    ]
