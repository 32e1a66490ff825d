"""One request from plan to last event."""

import secrets
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field

from forethought.errors import VocabularyMismatchError
from forethought.generation import (
    Finished,
    GenerationEvent,
    SpeculationStatistics,
    Started,
)
from forethought.sampling.judges import JUDGES, Judge
from forethought.sampling.types import VerificationMode
from forethought.v1.draft_pb2_grpc import DraftServiceStub
from forethought.v1.target_pb2_grpc import TargetServiceStub
from orchestrator.decode_loop import DecodingStrategy, decode
from orchestrator.output import Output
from orchestrator.plan import Deployment, GenerationPlan
from orchestrator.policy import AdaptivePolicy, Experience, FixedPolicy, SpeculationPolicy
from orchestrator.remote_proposer import DraftPatience, RemoteProposer
from orchestrator.remote_verifier import RemoteVerifier, ReopenOptions
from orchestrator.replicas import ReplicaSet
from orchestrator.round import Round
from orchestrator.session import Session
from orchestrator.statistics import add_round, as_step


@dataclass(frozen=True, slots=True)
class Tiers:
    """Where the steps are done, and with how much patience."""

    draft: ReplicaSet[DraftServiceStub] | DraftServiceStub
    target: ReplicaSet[TargetServiceStub] | TargetServiceStub
    draft_patience: DraftPatience
    reopen: ReopenOptions
    judges: Mapping[VerificationMode, Judge] = field(default_factory=lambda: JUDGES)


class Generation:
    """A request under way, with a stream to each tier."""

    def __init__(
        self,
        plan: GenerationPlan,
        deployment: Deployment,
        tiers: Tiers,
        experience: Experience,
        deadline_s: float | None,
    ) -> None:
        self.session_id = secrets.token_urlsafe(16)
        self._arrival_ns = time.perf_counter_ns()
        self._first_token_ns = 0
        self._plan = plan
        self._deployment = deployment
        self._judge = tiers.judges[plan.mode]
        self._experience = experience
        vocabulary = deployment.tokenizer.fingerprint
        self._proposer = RemoteProposer(
            tiers.draft,
            vocabulary,
            vocab_size=deployment.target.vocab_size,
            deadline_s=deadline_s,
            patience=tiers.draft_patience,
        )
        self._verifier = RemoteVerifier(
            tiers.target,
            deployment.target,
            num_logprobs=plan.num_logprobs,
            deadline_s=deadline_s,
            reopen=tiers.reopen,
        )
        self._output = Output(
            deployment.tokenizer,
            plan.prompt_token_ids,
            max_tokens=plan.max_tokens,
            stops=plan.stops,
            stop_token_ids=plan.stop_token_ids,
        )
        self._statistics = SpeculationStatistics()

    async def events(self) -> AsyncGenerator[list[GenerationEvent]]:
        """Events, grouped as they become known: the start, the rounds, the end.

        Raises:
            VocabularyMismatchError: the draft tier has another vocabulary, and speculation is on.
                Comes before the first tokens if it is known by then, else after them: they are the
                target's own, and the draft tier does not delay them.
            ModelMismatchError: the target tier serves another model than the deployment's.
            TierUnavailableError: the target tier is lost and did not come back in time.
        """
        plan = self._plan
        session = Session(
            session_id=self.session_id,
            token_ids=plan.prompt_token_ids,
            max_len=len(plan.prompt_token_ids) + plan.max_tokens,
            sampling=plan.sampling,
            mode=plan.mode,
            tenant=plan.tenant,
        )
        policy = self._policy(session)
        try:
            # Both tiers compute the prompt at the same time.
            if policy.expects_speculation:
                self._proposer.start(session)
            await self._verifier.start(session)
            yield [
                Started(
                    session.session_id,
                    plan.sampling.seed,
                    len(plan.prompt_token_ids),
                    self._deployment.target.name,
                    plan.mode,
                )
            ]
            strategy = DecodingStrategy(self._proposer, self._verifier, self._judge, policy)
            async with aclosing(decode(session, strategy)) as rounds:
                async for judged in rounds:
                    self._refuse_foreign_draft()
                    events = self._take(judged)
                    if events:
                        yield events
                    if self._output.ending:
                        break
            yield [self._finished()]
        finally:
            policy.close()
            self._proposer.close()
            self._verifier.close()

    def _policy(self, session: Session) -> SpeculationPolicy:
        if self._plan.is_adaptive:
            return AdaptivePolicy(self._experience, session)
        return FixedPolicy(self._plan.num_speculative_tokens)

    def _refuse_foreign_draft(self) -> None:
        mismatch = self._proposer.mismatch
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

    def _take(self, judged: Round) -> list[GenerationEvent]:
        self._first_token_ns = self._first_token_ns or time.perf_counter_ns()
        if self._proposer.model is not None:
            self._experience.economy.know_draft(self._proposer.model.pass_costs)
        self._statistics = add_round(self._statistics, judged, self._proposer.num_failures)
        events: list[GenerationEvent] = []
        if self._plan.include_steps:
            events.append(as_step(judged, self._deployment.tokenizer))
        events.extend(self._output.push(judged.outcome.tokens))
        return events

    def _finished(self) -> Finished:
        ending = self._output.ending
        if ending is None:
            raise AssertionError("the loop ends with the output, not before")
        return Finished(
            reason=ending.reason,
            num_prompt_tokens=len(self._plan.prompt_token_ids),
            num_output_tokens=self._output.num_tokens,
            speculation=self._statistics,
            time_to_first_token_ns=self._first_token_ns - self._arrival_ns,
            total_ns=time.perf_counter_ns() - self._arrival_ns,
            matched_stop=ending.matched_stop,
            matched_stop_token_id=ending.matched_stop_token_id,
        )
