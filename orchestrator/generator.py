"""One request from plan to last event.

A turn that was broken off is gone through again up to where it is stored, which asks nothing of the
tiers: text pieces and the end follow from the tokens. Then the loop goes on with the next round.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from forethought.errors import VocabularyMismatchError
from forethought.generation import (
    Finished,
    GenerationEvent,
    NoDraftReason,
    SpeculationStatistics,
    Started,
)
from forethought.observability import traces
from forethought.rpc.ticking import with_ticks
from forethought.sampling.judges import JUDGES, Judge
from forethought.sampling.types import VerificationMode
from forethought.store.sessions.records import CommittedRound
from forethought.v1.draft_pb2_grpc import DraftServiceStub
from forethought.v1.target_pb2_grpc import TargetServiceStub
from orchestrator.lookup.lookup import Lookup
from orchestrator.loop.committed_tokens import CommittedTokens
from orchestrator.loop.decode_loop import DecodingStrategy, Proposer, SpeculationPolicy, decode
from orchestrator.loop.round import Absence, Round
from orchestrator.loop.session import Session
from orchestrator.loop.statistics import add_round, as_step
from orchestrator.metrics.spans import facts_of_round
from orchestrator.policy.choice import AdaptivePolicy, Experience, FixedPolicy
from orchestrator.replicas.replica_set import ReplicaSet
from orchestrator.request.plan import Deployment
from orchestrator.request.run_ahead import run_ahead
from orchestrator.scored_prompt import PromptScoring
from orchestrator.sessions.durable_sessions import ResumePoint, new_output
from orchestrator.sessions.session_log import SessionLog
from orchestrator.sessions.stored_round import ToldRound, pack_told, unpack_told
from orchestrator.tiers.lookup_first import DraftTier, LookupFirst, NoDraftTier
from orchestrator.tiers.patience import DraftPatience, ReopenOptions
from orchestrator.tiers.predicted_output import PredictedOutput, Prediction
from orchestrator.tiers.remote_proposer import RemoteProposer
from orchestrator.tiers.remote_verifier import RemoteVerifier, WantedEvidence


@dataclass(frozen=True, slots=True)
class Tiers:
    """Where the steps are done, and with how much patience."""

    draft: ReplicaSet[DraftServiceStub] | DraftServiceStub | None
    target: ReplicaSet[TargetServiceStub] | TargetServiceStub
    draft_patience: DraftPatience
    reopen: ReopenOptions
    judges: Mapping[VerificationMode, Judge] = field(default_factory=lambda: JUDGES)
    lookups: Sequence[Lookup] = ()  # of this process, in the order of preference


MAX_ROUNDS_AHEAD = 32
"""Rounds that may wait for the store, or for a client that reads slowly. One stream makes so many
in about the time after which a store that hangs is given up."""


@dataclass(frozen=True, slots=True)
class Progress:
    """What became known together."""

    events: Sequence[GenerationEvent]
    committed: CommittedRound | None = None  # the round behind it, to be stored before it is told
    is_end: bool = False


async def told(
    progress: AsyncGenerator[Progress], log: SessionLog, commit_interval_s: float = 0.0
) -> AsyncGenerator[Sequence[GenerationEvent]]:
    """Events, none of which is given out before its round is in the log.

    The next rounds are under way meanwhile; all that wait are stored at once.

    Args:
        progress: of a generation.
        log: that takes its rounds.
        commit_interval_s: seconds from one write to the next, at least. Rounds that are shorter
            share one, as commits of a database do: a write takes the same time for one or five.
    """

    def rest_s(batch: Sequence[Progress]) -> float:
        is_written = any(each.committed is not None for each in batch)
        return commit_interval_s if is_written else 0.0

    async with aclosing(run_ahead(progress, MAX_ROUNDS_AHEAD, rest_s)) as batches:
        async for batch in batches:
            rounds = [each.committed for each in batch if each.committed is not None]
            await log.add(rounds, is_end=batch[-1].is_end)
            for each in batch:
                yield [_as_stored(event, log) for event in each.events]


def _as_stored(event: GenerationEvent, log: SessionLog) -> GenerationEvent:
    """The event with what the log knows."""
    match event:
        case Started():
            return replace(event, is_stored=log.is_stored)
        case Finished():
            return replace(event, is_durable=log.is_durable)
        case _:
            return event


def _draft_tier(tiers: Tiers, deployment: Deployment, deadline_s: float | None) -> DraftTier:
    """The draft tier for one session."""
    if tiers.draft is None:
        return NoDraftTier(None if tiers.lookups else Absence(NoDraftReason.NOT_CONFIGURED))
    return RemoteProposer(
        tiers.draft,
        deployment.tokenizer.fingerprint,
        target=deployment.target,
        deadline_s=deadline_s,
        patience=tiers.draft_patience,
    )


@dataclass(frozen=True, slots=True)
class Call:
    """How a generation is waited for."""

    deadline_s: float | None  # from now on; None waits as long as it takes
    wants_progress: bool = False  # tell what is waited for, while no tokens come


class Generation:
    """A request under way, with a stream to each tier."""

    def __init__(
        self,
        resume_point: ResumePoint,
        deployment: Deployment,
        tiers: Tiers,
        experience: Experience,
        call: Call,
    ) -> None:
        self._wants_progress = call.wants_progress
        self._arrival_ns = time.perf_counter_ns()
        self._first_token_ns = 0
        self._resume_point = resume_point
        self._plan = plan = resume_point.plan
        self._deployment = deployment
        self._judge = tiers.judges[plan.mode]
        self._experience = experience
        self._draft_tier = _draft_tier(tiers, deployment, call.deadline_s)
        self._proposer = LookupFirst(tiers.lookups, self._draft_tier)
        verifier = partial(
            RemoteVerifier,
            tiers.target,
            deployment.target,
            deadline_s=call.deadline_s,
            reopen=tiers.reopen,
        )
        self._verifier = verifier(
            wanted=WantedEvidence(
                plan.num_logprobs,
                hidden_states=lambda: self._draft_tier.wants_hidden_states,
                progress=call.wants_progress,
            )
        )
        self._scoring = None
        if plan.num_prompt_logprobs is not None:
            scorer = verifier(wanted=WantedEvidence(plan.num_prompt_logprobs))
            # Where the session goes, so that it finds there what the prompt leaves behind.
            scorer.place_with(self._session(()))
            self._scoring = PromptScoring(resume_point.session_id, plan, deployment, scorer)
        self._output = new_output(plan, deployment)
        self._statistics = SpeculationStatistics()
        self._has_asked = False  # for a draft

    def progress(self) -> AsyncGenerator[Progress]:
        """The start, the rounds, the end, as they become known; and, where that is wanted, what is
        waited for meanwhile.

        Raises:
            ForethoughtError: as `_events`.
        """
        events = self._events()
        if self._scoring is not None:
            events = self._with_prompt(events, self._scoring)
        return self._with_waiting(events) if self._wants_progress else events

    async def _with_prompt(
        self, events: AsyncGenerator[Progress], scoring: PromptScoring
    ) -> AsyncGenerator[Progress]:
        """The tokens of the prompt behind the start. They are scored before all else."""
        async with aclosing(events):
            try:
                await scoring.start()
                # What the target has of the prompt later was computed for this request.
                yield Progress([replace(self._started(), num_cached_tokens=0)])
                async with aclosing(scoring.tokens()) as scored:
                    async for tokens in scored:
                        yield Progress(tokens)
            finally:
                scoring.close()
            if self._output.ending:  # nothing is to be generated
                self._statistics = self._explained()
            await anext(events)  # the start
            async for each in events:
                yield each

    async def _with_waiting(self, events: AsyncGenerator[Progress]) -> AsyncGenerator[Progress]:
        async with aclosing(events), aclosing(with_ticks(events, self._waiting)) as told:
            async for each in told:
                yield each

    def _waiting(self) -> Progress | None:
        waiting = self._scoring and self._scoring.waiting
        waiting = waiting or self._verifier.waiting
        return None if waiting is None else Progress([waiting])

    async def _events(self) -> AsyncGenerator[Progress]:
        """The start, the rounds, the end, as they become known.

        Raises:
            VocabularyMismatchError: the draft tier has another vocabulary, and speculation is on.
                Comes before the first tokens if it is known by then, else after them: they are the
                target's own, and the draft tier does not delay them.
            ModelMismatchError: the target tier serves another model than the deployment's.
            TierUnavailableError: the target tier is lost and did not come back in time.
            SessionCorruptError: what is stored of the turn cannot be read.
        """
        stored = self._resume_point.rounds
        again = await self._all_told_again(stored)
        if self._output.ending:
            if self._resume_point.claim is not None:
                await self._resume_point.claim()
            for told in (Progress([self._started()]), *again):
                yield told
            yield Progress([self._finished()], is_end=True)
            return
        session = self._session(stored)
        proposer, policy = self._drafting(session)
        self._experience.demand.begin()
        try:
            # Both tiers compute the prompt at the same time.
            if policy.expects_speculation:
                self._draft_tier.start(session)
            await self._verifier.start(session)
            if self._resume_point.claim is not None:
                # Its owner went on until now.
                stored = await self._resume_point.claim()
                again += await self._all_told_again(stored[len(again) :])
                session = self._session(stored)
            for told in (Progress([self._started()]), *again):
                yield told
            if self._output.ending:
                yield Progress([self._finished()], is_end=True)
                return
            strategy = DecodingStrategy(proposer, self._verifier, self._judge, policy)
            async with aclosing(decode(session, strategy)) as rounds:
                async for judged in rounds:
                    self._refuse_foreign_draft()
                    progress = self._take(judged)
                    yield progress
                    if progress.is_end:
                        break
        finally:
            self._experience.demand.end()
            policy.close()
            self._proposer.close()
            self._draft_tier.close()
            self._verifier.close()

    def _session(self, rounds: Sequence[CommittedRound]) -> Session:
        """The session after these, so that the coming round draws what it would have drawn."""
        plan = self._plan
        output = (token_id for each in rounds for token_id in each.token_ids)
        return Session(
            session_id=self._resume_point.session_id,
            token_ids=CommittedTokens.of([*plan.prompt_token_ids, *output]),
            max_len=len(plan.prompt_token_ids) + plan.max_tokens,
            sampling=plan.sampling,
            round=len(rounds),
            mode=plan.mode,
            tenant=plan.tenant,
            max_hidden_states=self._deployment.max_hidden_states,
        )

    def _drafting(self, session: Session) -> tuple[Proposer, SpeculationPolicy]:
        """Who drafts, and how much."""
        plan, policy = self._plan, self._policy(session)
        if not (plan.prediction_token_ids and plan.num_speculative_tokens):
            return self._proposer, policy
        most = self._deployment.max_num_speculative_tokens
        prediction = Prediction(
            np.array(plan.prediction_token_ids, np.uint32),
            len(plan.prompt_token_ids),
            most if plan.is_adaptive else plan.num_speculative_tokens,
        )
        predicted = PredictedOutput(prediction, self._proposer, policy)
        return predicted, predicted

    def _policy(self, session: Session) -> SpeculationPolicy:
        if self._plan.is_adaptive:
            times = self._experience.governor.times
            times.know_draft(self._draft_tier.pass_costs)
            times.num_targets = self._verifier.num_replicas
            return AdaptivePolicy(self._experience, session)
        return FixedPolicy(self._plan.num_speculative_tokens)

    def _started(self) -> Started:
        return Started(
            self._resume_point.session_id,
            self._plan.sampling.seed,
            len(self._plan.prompt_token_ids),
            self._deployment.target.name,
            self._plan.mode,
            num_cached_tokens=self._verifier.num_cached_tokens,
            sampling=self._plan.sampling,
        )

    def _refuse_foreign_draft(self) -> None:
        mismatch = self._draft_tier.mismatch
        if mismatch is None:
            return
        names = {
            "draft": mismatch.metadata.get("model", ""),
            "target": self._deployment.target.name,
        }
        raise VocabularyMismatchError(
            f"draft {names['draft']} and target {names['target']} do not share a vocabulary; "
            "with num_speculative_tokens = 0 the target works alone",
            metadata=names,
        ) from mismatch

    async def _all_told_again(self, stored: Sequence[CommittedRound]) -> list[Progress]:
        """Each round by itself, since a message has room for one step."""
        again = []
        for each in stored:
            again.append(Progress(list(self._tell_again(each))))
            await asyncio.sleep(0)  # a long answer takes some tenths of a second
        return again

    def _tell_again(self, stored: CommittedRound) -> Iterator[GenerationEvent]:
        """What a client is told of a stored round, from the token that it wants on."""
        told = unpack_told(stored.payload, stored.token_ids)
        self._statistics = told.statistics
        yield from self._wanted(told)

    def _take(self, judged: Round) -> Progress:
        self._first_token_ns = self._first_token_ns or time.perf_counter_ns()
        if traces.is_on():
            traces.note_event("round", facts_of_round(judged))
        if judged.ask.num_speculative_tokens:
            self._experience.governor.times.know_draft(self._draft_tier.pass_costs)
        fixed_k = None if self._plan.is_adaptive else self._plan.num_speculative_tokens
        self._experience.demand.observe(judged, fixed_k)
        self._experience.rounds.add(judged)
        self._statistics = add_round(self._statistics, judged)
        tokens = judged.outcome.tokens
        step = as_step(judged, self._deployment.tokenizer) if self._plan.include_steps else None
        told = ToldRound(tokens, step, self._statistics)
        events = list(self._wanted(told))
        self._has_asked = self._has_asked or judged.ask.num_speculative_tokens > 0
        if self._output.ending and not self._statistics.num_draft_tokens:
            told = replace(told, statistics=self._explained())
            self._statistics = told.statistics
        committed = None
        if self._resume_point.is_logged:
            token_ids = tuple(token.token_id for token in tokens)
            committed = CommittedRound(
                judged.session.round, judged.session.position, token_ids, pack_told(told)
            )
        if self._output.ending:
            return Progress([*events, self._finished()], committed, is_end=True)
        return Progress(events, committed)

    def _explained(self) -> SpeculationStatistics:
        """The statistics of an answer for which nothing was drafted, with the reason."""
        found = self._absence()
        return replace(self._statistics, no_draft_reason=found.reason, no_draft_detail=found.detail)

    def _absence(self) -> Absence:
        if not self._plan.num_speculative_tokens:
            return Absence(NoDraftReason.NOT_ASKED)
        if self._draft_tier.absence is not None:
            return self._draft_tier.absence
        if self._has_asked:
            return Absence(NoDraftReason.NOTHING_FOUND)
        is_short = self._statistics.num_rounds <= 1
        return Absence(NoDraftReason.TOO_SHORT if is_short else NoDraftReason.DID_NOT_PAY)

    def _wanted(self, told: ToldRound) -> Iterator[GenerationEvent]:
        """The events of a round that the client does not have yet."""
        next_index = self._resume_point.next_index
        visible = self._output.push(told.tokens)
        if told.step is not None:
            end = told.step.position + len(told.tokens) - len(self._plan.prompt_token_ids)
            if end > next_index:
                yield told.step
        yield from (token for token in visible if token.index >= next_index)

    def _finished(self) -> Finished:
        ending = self._output.ending
        if ending is None:
            raise AssertionError("the loop ends with the output, not before")
        return Finished(
            reason=ending.reason,
            num_prompt_tokens=len(self._plan.prompt_token_ids),
            num_output_tokens=self._output.num_tokens,
            speculation=self._statistics,
            time_to_first_token_ns=max(self._first_token_ns - self._arrival_ns, 0),
            total_ns=time.perf_counter_ns() - self._arrival_ns,
            matched_stop=ending.matched_stop,
            matched_stop_token_id=ending.matched_stop_token_id,
        )
