"""Every metric that a process exports. `docs/metrics.md` is made from this list.

Metrics that vLLM has too bear its names, and mean what they mean there. Requests are counted by
the orchestrator alone, so that a sum over all processes counts each once.
"""

from forethought.observability.series import Kind, Process, Series

_ORCHESTRATOR = (Process.ORCHESTRATOR,)
_DRAFT = (Process.DRAFT,)
_TIERS = (Process.TARGET, Process.DRAFT)
_GATEWAY = (Process.GATEWAY,)
_AUTOSCALER = (Process.AUTOSCALER,)
_ALL = tuple(Process)


def _shared(
    name: str,
    kind: Kind,
    meaning: str,
    labels: tuple[str, ...] = (),
    processes: tuple[Process, ...] = _ORCHESTRATOR,
) -> Series:
    return Series(name, kind, meaning, processes, labels, is_shared=True)


# Requests.
NUM_REQUESTS_RUNNING = _shared(
    "num_requests_running", Kind.GAUGE, "Requests that a target has taken."
)
NUM_REQUESTS_WAITING = _shared(
    "num_requests_waiting", Kind.GAUGE, "Requests that were let in and no target has taken yet."
)
REQUESTS_LIMIT = Series(
    "requests_limit", Kind.GAUGE, "Most requests that may be under way.", _ORCHESTRATOR
)
REQUEST_SUCCESS = _shared(
    "request_success",
    Kind.COUNTER,
    "Requests that have ended, by how: stop, length, abort (the client left), error.",
    ("finished_reason",),
)
REQUEST_FAILURES = Series(
    "request_failures",
    Kind.COUNTER,
    "Requests that ended with an error, by its reason.",
    _ORCHESTRATOR,
    ("reason",),
)
ADMISSION_REJECTIONS = _shared(
    "admission_rejections",
    Kind.COUNTER,
    "Requests that found no place: full (all are taken), tenant (its share is).",
    ("reason",),
)
PROMPT_TOKENS = _shared("prompt_tokens", Kind.COUNTER, "Tokens of prompts of requests that began.")
PROMPT_TOKENS_CACHED = _shared(
    "prompt_tokens_cached", Kind.COUNTER, "Of them, tokens that the target had computed before."
)
GENERATION_TOKENS = _shared("generation_tokens", Kind.COUNTER, "Tokens given to clients.")
REQUEST_PROMPT_TOKENS = _shared("request_prompt_tokens", Kind.HISTOGRAM, "Prompts by their tokens.")
REQUEST_GENERATION_TOKENS = _shared(
    "request_generation_tokens", Kind.HISTOGRAM, "Finished answers by their tokens."
)
REQUEST_MAX_TOKENS = _shared(
    "request_params_max_tokens", Kind.HISTOGRAM, "Requests by the most tokens they may bring."
)
TIME_TO_FIRST_TOKEN = _shared(
    "time_to_first_token_seconds", Kind.HISTOGRAM, "From a request to its first token."
)
INTER_TOKEN_LATENCY = _shared(
    "inter_token_latency_seconds",
    Kind.HISTOGRAM,
    "Between two messages with tokens. A message has all tokens of a round, or of several.",
)
TIME_PER_OUTPUT_TOKEN = _shared(
    "request_time_per_output_token_seconds",
    Kind.HISTOGRAM,
    "Time a token after the first one, averaged over a finished answer.",
)
E2E_LATENCY = _shared(
    "e2e_request_latency_seconds", Kind.HISTOGRAM, "From a request to its finish."
)
QUEUE_TIME = _shared(
    "request_queue_time_seconds", Kind.HISTOGRAM, "From a request until a target has taken it."
)
PREFILL_TIME = _shared(
    "request_prefill_time_seconds", Kind.HISTOGRAM, "From then to the first token."
)
DECODE_TIME = _shared(
    "request_decode_time_seconds", Kind.HISTOGRAM, "From the first token to the finish."
)
INFERENCE_TIME = _shared(
    "request_inference_time_seconds", Kind.HISTOGRAM, "Both: from when a target has taken it."
)

# Speculation.
NUM_DRAFTS = _shared("spec_decode_num_drafts", Kind.COUNTER, "Rounds that had a draft.")
NUM_DRAFT_TOKENS = _shared("spec_decode_num_draft_tokens", Kind.COUNTER, "Tokens drafted.")
NUM_ACCEPTED_TOKENS = _shared(
    "spec_decode_num_accepted_tokens", Kind.COUNTER, "Of them, tokens accepted."
)
NUM_ACCEPTED_TOKENS_PER_POS = _shared(
    "spec_decode_num_accepted_tokens_per_pos",
    Kind.COUNTER,
    "Tokens accepted, by their place in the draft, from 0.",
    ("position",),
)
ROUNDS = Series(
    "rounds",
    Kind.COUNTER,
    "Rounds by verification mode and outcome: plain (no draft was asked for), no_draft (none "
    "came), all_accepted, some_accepted, none_accepted.",
    _ORCHESTRATOR,
    ("mode", "outcome"),
)
ROUND_PHASE = Series(
    "round_phase_seconds",
    Kind.HISTOGRAM,
    "The steps of rounds: speculation (waiting for a draft), verification, rejection (sampling).",
    _ORCHESTRATOR,
    ("phase",),
)
DRAFT_TOKENS = Series(
    "draft_tokens",
    Kind.COUNTER,
    "Tokens drafted, by who drafted and what became of them: accepted, rejected, dropped (behind "
    "a rejected one).",
    _ORCHESTRATOR,
    ("proposer", "verdict"),
)
DRAFT_FAILURES = Series(
    "draft_failures",
    Kind.COUNTER,
    "Rounds that asked the draft tier and got nothing, by why: down, late, refused.",
    _ORCHESTRATOR,
    ("reason",),
)
DRAFT_DEADLINE_MISSES = Series(
    "draft_deadline_misses",
    Kind.COUNTER,
    "Of them, rounds whose draft came too late or was still owed.",
    _ORCHESTRATOR,
)
SPECULATIVE_K = Series(
    "speculative_k",
    Kind.GAUGE,
    "Tokens to draft a round (K) that sessions go by now; 0 is plain decoding.",
    _ORCHESTRATOR,
)
DRAFT_WANTED = Series(
    "draft_wanted_seconds",
    Kind.COUNTER,
    "Engine time of the draft tier that sessions have a use for, if drafts come as fast as an idle "
    "tier makes them. Does not grow while speculation does not pay.",
    _ORCHESTRATOR,
)
DRAFT_UNSERVED = Series(
    "draft_unserved_seconds",
    Kind.COUNTER,
    "Of it, what they did not get: drafts that were late, missing, or shorter than wanted.",
    _ORCHESTRATOR,
)

# Replicas, as orchestrators see them.
REPLICAS = Series(
    "replicas",
    Kind.GAUGE,
    "Replicas by how they do: serving, closed (loads or drains), lost, refused, unknown.",
    _ORCHESTRATOR,
    ("tier", "standing"),
)
REPLICA_SESSIONS = Series(
    "replica_sessions", Kind.GAUGE, "Sessions of this orchestrator.", _ORCHESTRATOR, ("tier",)
)
REPLICA_MOVES = Series(
    "replica_moves",
    Kind.COUNTER,
    "Sessions that have moved to another replica.",
    _ORCHESTRATOR,
    ("tier",),
)
REPLICA_BREAKER_OPEN = Series(
    "replica_breaker_open",
    Kind.GAUGE,
    "Replicas that get no sessions since they do not answer, or fail rounds.",
    _ORCHESTRATOR,
    ("tier",),
)
RPC_BYTES = Series(
    "rpc_bytes",
    Kind.COUNTER,
    "Bytes of messages to tiers (sent) and from them (received).",
    _ORCHESTRATOR,
    ("tier", "direction"),
)

# The store of sessions.
STORE_WRITE = Series(
    "store_write_seconds", Kind.HISTOGRAM, "Writes of rounds to the store.", _ORCHESTRATOR
)
UNDURABLE_SESSIONS = Series(
    "undurable_sessions",
    Kind.GAUGE,
    "Sessions with rounds that the store does not have yet.",
    _ORCHESTRATOR,
)

# What a tier computes.
TIER_SESSIONS = Series(
    "tier_sessions",
    Kind.GAUGE,
    "Open sessions: running, and waiting (for memory).",
    _TIERS,
    ("state",),
)
TIER_SESSIONS_LIMIT = Series(
    "tier_sessions_limit", Kind.GAUGE, "Most sessions that may be open.", _TIERS
)
TIER_REFUSED_SESSIONS = Series(
    "tier_refused_sessions", Kind.COUNTER, "Sessions for which there was no room.", _TIERS
)
TIER_WAITING_TOKENS = Series(
    "tier_waiting_tokens", Kind.GAUGE, "Tokens of open sessions that are not computed.", _TIERS
)
TIER_QUEUED_JOBS = Series(
    "tier_queued_jobs", Kind.GAUGE, "Rounds and prompts that wait for a pass.", _TIERS
)
TIER_QUEUE = Series(
    "tier_queue_seconds", Kind.HISTOGRAM, "From a round's arrival until it is computed.", _TIERS
)
TIER_PASS = Series("tier_pass_seconds", Kind.HISTOGRAM, "Forward passes.", _TIERS)
TIER_PASS_FLOOR = Series(
    "tier_pass_floor_seconds",
    Kind.COUNTER,
    "Time of the same passes at the speed that was measured when the tier started.",
    _TIERS,
)
TIER_FAILED_PASSES = Series(
    "tier_failed_passes", Kind.COUNTER, "Passes that failed for a single session.", _TIERS
)
KV_CACHE_USAGE = _shared(
    "kv_cache_usage_perc",
    Kind.GAUGE,
    "Share of the KV cache's blocks that sessions hold; 1 is all.",
    processes=_TIERS,
)
CACHE_CONFIG = _shared(
    "cache_config_info",
    Kind.GAUGE,
    "1; the labels say how large the KV cache is.",
    ("block_size", "num_gpu_blocks"),
    _TIERS,
)
NUM_PREEMPTIONS = _shared(
    "num_preemptions",
    Kind.COUNTER,
    "Times that a session lost its blocks to another.",
    processes=_TIERS,
)
PREFIX_CACHE_QUERIES = _shared(
    "prefix_cache_queries",
    Kind.COUNTER,
    "Tokens of sessions that were looked for in the KV cache.",
    processes=_TIERS,
)
PREFIX_CACHE_HITS = _shared(
    "prefix_cache_hits", Kind.COUNTER, "Of them, tokens found.", processes=_TIERS
)
ITERATION_TOKENS = _shared(
    "iteration_tokens_total", Kind.HISTOGRAM, "Passes by their tokens.", processes=_TIERS
)
LOOKAHEAD = Series(
    "lookahead",
    Kind.COUNTER,
    "Drafts made ahead of being asked for: hit (the round ended as expected), miss.",
    _DRAFT,
    ("outcome",),
)
DRAFT_WASTED_TOKENS = Series(
    "draft_wasted_tokens", Kind.COUNTER, "Tokens drafted ahead for nothing.", _DRAFT
)

# The gateway.
HTTP_REQUESTS_RUNNING = Series(
    "http_requests_running", Kind.GAUGE, "Requests that are being answered.", _GATEWAY
)
HTTP_REQUESTS = Series(
    "http_requests",
    Kind.COUNTER,
    "Requests that have ended; status 499: the client left before.",
    _GATEWAY,
    ("route", "status"),
)
HTTP_REQUEST_SECONDS = Series(
    "http_request_seconds",
    Kind.HISTOGRAM,
    "From a request to the last byte of its answer.",
    _GATEWAY,
    ("route",),
)

# Scaling.
REPLICAS_NEEDED = Series(
    "scaling_replicas_needed",
    Kind.GAUGE,
    "Replicas that a tier needs at this moment by the signal that asks for most, not rounded.",
    _AUTOSCALER,
    ("tier",),
)
REPLICAS_WANTED = Series(
    "scaling_replicas_wanted",
    Kind.GAUGE,
    "Replicas that a tier should have: within its limits, and fewer only after a while.",
    _AUTOSCALER,
    ("tier",),
)
REPLICAS_ANSWERING = Series(
    "scaling_replicas_answering",
    Kind.GAUGE,
    "Replicas that have answered the autoscaler.",
    _AUTOSCALER,
    ("tier",),
)
SCALES = Series(
    "scaling_leader",
    Kind.GAUGE,
    "1 if this process scales Deployments, 0 if another one may, or KEDA does.",
    _AUTOSCALER,
)

# Every process.
EVENT_LOOP_LAG = Series(
    "event_loop_lag_seconds",
    Kind.HISTOGRAM,
    "How late the event loop comes to what is due, looked at twice a second.",
    _ALL,
)

SERIES: tuple[Series, ...] = tuple(each for each in globals().values() if isinstance(each, Series))
