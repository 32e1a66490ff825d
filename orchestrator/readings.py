"""What an orchestrator says of itself when it is scraped."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from forethought.deployment import Standing
from forethought.generation import FinishReason, NoDraftReason, Verdict
from forethought.observability import catalogue
from forethought.observability.series import Reading
from forethought.store.server.breaker import BreakerState
from forethought.tier import DraftDemand
from orchestrator.metrics.requests import RequestCounts
from orchestrator.metrics.rounds import OUTCOMES, RoundCounts
from orchestrator.policy.choice import Experience
from orchestrator.replicas.replica_set import ReplicaSet
from orchestrator.request.admission import Admission
from orchestrator.request.plan import Deployment, PolicyKind
from orchestrator.servicer import GenerationServicer
from orchestrator.sessions.durable_sessions import Sessions
from orchestrator.sessions.session_log import Background

_DRAFT_TIER_FAILURES = (NoDraftReason.DOWN, NoDraftReason.LATE, NoDraftReason.REFUSED)
_ENDS = (*(reason.value for reason in FinishReason), "abort", "error")


def read_orchestrator(
    servicer: GenerationServicer, tiers: Sequence[ReplicaSet[Any]], sessions: Sessions | None
) -> Iterator[Reading]:
    """All of it."""
    yield from read_requests(servicer.requests, servicer.admission)
    yield from read_rounds(servicer.experience.rounds)
    yield from read_policy(servicer.deployment, servicer.experience)
    yield from read_demand(servicer.experience.demand.demand)
    yield from read_replicas(tiers)
    if sessions is not None:
        yield from read_store(sessions.background)


def read_requests(requests: RequestCounts, admission: Admission) -> Iterator[Reading]:
    """Of requests."""
    yield Reading(catalogue.NUM_REQUESTS_RUNNING, requests.num_running)
    yield Reading(catalogue.NUM_REQUESTS_WAITING, requests.num_waiting)
    yield Reading(catalogue.REQUESTS_LIMIT, admission.max_requests)
    for end in _ENDS:
        yield Reading(catalogue.REQUEST_SUCCESS, requests.num_ended[end], (end,))
    for reason, number in dict(requests.num_failed).items():
        yield Reading(catalogue.REQUEST_FAILURES, number, (reason,))
    for refusal, number in admission.num_refused.items():
        yield Reading(catalogue.ADMISSION_REJECTIONS, number, (refusal.value,))
    yield Reading(catalogue.PROMPT_TOKENS, requests.num_prompt_tokens)
    yield Reading(catalogue.PROMPT_TOKENS_CACHED, requests.num_cached_tokens)
    yield Reading(catalogue.GENERATION_TOKENS, requests.num_output_tokens)
    yield Reading(catalogue.REQUEST_PROMPT_TOKENS, requests.prompt_len)
    yield Reading(catalogue.REQUEST_GENERATION_TOKENS, requests.output_len)
    yield Reading(catalogue.REQUEST_MAX_TOKENS, requests.max_tokens)
    yield Reading(catalogue.TIME_TO_FIRST_TOKEN, requests.first_token)
    yield Reading(catalogue.INTER_TOKEN_LATENCY, requests.between_tokens)
    yield Reading(catalogue.TIME_PER_OUTPUT_TOKEN, requests.per_token)
    yield Reading(catalogue.E2E_LATENCY, requests.whole)
    yield Reading(catalogue.QUEUE_TIME, requests.queue)
    yield Reading(catalogue.PREFILL_TIME, requests.prefill)
    yield Reading(catalogue.DECODE_TIME, requests.decode)
    yield Reading(catalogue.INFERENCE_TIME, requests.inference)


def read_rounds(rounds: RoundCounts) -> Iterator[Reading]:
    """Of the three steps."""
    for mode, numbers in rounds.outcomes.items():
        for outcome, number in zip(OUTCOMES, numbers, strict=True):
            yield Reading(catalogue.ROUNDS, number, (mode.value, outcome))
    yield Reading(catalogue.ROUND_PHASE, rounds.speculation, ("speculation",))
    yield Reading(catalogue.ROUND_PHASE, rounds.verification, ("verification",))
    yield Reading(catalogue.ROUND_PHASE, rounds.rejection, ("rejection",))
    yield Reading(catalogue.NUM_DRAFTS, rounds.num_drafts)
    yield Reading(catalogue.NUM_DRAFT_TOKENS, rounds.num_draft_tokens)
    yield Reading(catalogue.NUM_ACCEPTED_TOKENS, rounds.num_accepted_tokens)
    for place, number in enumerate(tuple(rounds.num_accepted_tokens_per_position)):
        yield Reading(catalogue.NUM_ACCEPTED_TOKENS_PER_POS, number, (str(place),))
    for name, proposer in dict(rounds.proposers).items():
        for verdict, number in (
            (Verdict.ACCEPTED, proposer.num_accepted),
            (Verdict.REJECTED, proposer.num_rejected),
            (Verdict.DROPPED, proposer.num_dropped),
        ):
            yield Reading(catalogue.DRAFT_TOKENS, number, (name, verdict.value))
    for reason in _DRAFT_TIER_FAILURES:
        number = rounds.num_failures[reason]
        yield Reading(catalogue.DRAFT_FAILURES, number, (reason.value,))
    yield Reading(catalogue.DRAFT_DEADLINE_MISSES, rounds.num_failures[NoDraftReason.LATE])


def read_policy(deployment: Deployment, experience: Experience) -> Iterator[Reading]:
    """Of the choice of K."""
    is_adaptive = deployment.policy is PolicyKind.ADAPTIVE
    k = experience.governor.k if is_adaptive else deployment.default_num_speculative_tokens
    yield Reading(catalogue.SPECULATIVE_K, k)


def read_demand(demand: DraftDemand) -> Iterator[Reading]:
    """Of what sessions would ask of the draft tier."""
    yield Reading(catalogue.DRAFT_WANTED, demand.wanted_ns / 1e9)
    yield Reading(catalogue.DRAFT_UNSERVED, demand.unserved_ns / 1e9)


def read_replicas(tiers: Sequence[ReplicaSet[Any]]) -> Iterator[Reading]:
    """Of the tiers, as they are seen from here."""
    for replicas in tiers:
        tier, known = replicas.tier, replicas.all
        standings = Counter(each.standing for each in known)
        for standing in Standing:
            yield Reading(catalogue.REPLICAS, standings[standing], (tier, standing.value))
        num_sessions = sum(each.num_ours for each in known)
        num_out = sum(
            each.ejection.is_out or each.breaker.state is not BreakerState.CLOSED for each in known
        )
        traffic = replicas.traffic
        yield Reading(catalogue.REPLICA_SESSIONS, num_sessions, (tier,))
        yield Reading(catalogue.REPLICA_MOVES, replicas.num_moves, (tier,))
        yield Reading(catalogue.REPLICA_BREAKER_OPEN, num_out, (tier,))
        yield Reading(catalogue.RPC_BYTES, traffic.num_sent, (tier, "sent"))
        yield Reading(catalogue.RPC_BYTES, traffic.num_received, (tier, "received"))


def read_store(background: Background) -> Iterator[Reading]:
    """Of the store of sessions."""
    yield Reading(catalogue.STORE_WRITE, background.writes)
    yield Reading(catalogue.UNDURABLE_SESSIONS, background.num_recovering)
