"""Speculation by the draft tier: what a round asks, and what its answer means.

A session never depends on its draft. A tier that is missing, late or failing means an empty draft,
K = 0 for that round; so does one that guesses from another target's hidden states. Only a draft
with another vocabulary is an error, and only when the session begins, since it will not mend
itself.
"""

import time

from forethought.errors import ForethoughtError, SessionIdleError, VocabularyMismatchError
from forethought.observability.traces import outgoing
from forethought.rpc.codecs.tier.draft import draft_from_proto, speculate_to_proto
from forethought.rpc.codecs.tier.draft_check import check_draft
from forethought.sampling.hidden_states import HiddenStates
from forethought.tier import ModelInfo, PassCost, SpeculateRound
from forethought.v1.draft_pb2 import SpeculateRequest, SpeculateResponse
from forethought.v1.draft_pb2_grpc import DraftServiceStub
from orchestrator.loop.round import Absence, Ask, Drafted
from orchestrator.loop.session import Session
from orchestrator.replicas.replica_set import ReplicaSet, as_replicas
from orchestrator.tiers.draft_stream import DraftStream
from orchestrator.tiers.patience import DraftPatience
from orchestrator.tiers.stream_keeper import StreamKeeper
from orchestrator.tiers.tier_stream import TierStream


class RemoteProposer:
    """One session's, over one stream to the draft tier, while there is one.

    Args:
        drafts: the tier's replicas, or the stub of its only one.
        vocabulary_fingerprint: of the session's tokens.
        target: of the session; None is not checked.
    """

    def __init__(
        self,
        drafts: ReplicaSet[DraftServiceStub] | DraftServiceStub,
        vocabulary_fingerprint: str,
        *,
        target: ModelInfo | None = None,
        deadline_s: float | None = None,
        patience: DraftPatience | None = None,
    ) -> None:
        self._target = target
        self._patience = patience or DraftPatience()
        self._keeper = StreamKeeper(
            as_replicas(drafts),
            lambda stub, timeout_s: stub.Speculate(timeout=timeout_s, metadata=outgoing()),
            deadline_s,
        )
        self._stream = DraftStream(self._keeper, vocabulary_fingerprint, target, self._patience)

    @property
    def absence(self) -> Absence | None:
        """Why no draft is to be had of the tier, as far as is known by now."""
        return self._stream.absence

    @property
    def mismatch(self) -> VocabularyMismatchError | None:
        """Why the tier refused the session when it began, if that was its vocabulary."""
        return self._stream.mismatch

    @property
    def pass_costs(self) -> tuple[PassCost, ...]:
        """What the tier says of its passes; () where it has not, or makes none."""
        return self._stream.pass_costs

    @property
    def wants_hidden_states(self) -> bool:
        """Whether the session's draft guesses from the target's hidden states, as far as is known
        by now."""
        return self._stream.wants_hidden_states

    def start(self, session: Session) -> None:
        """Begins to open the stream, so that the tier computes the prompt while the target does.

        Of a draft with another vocabulary `mismatch` tells.
        """
        self._stream.begin(session)

    async def propose(self, session: Session, ask: Ask) -> Drafted:
        """A draft of at most K tokens, or an empty one. Never raises.

        K is cut to what the draft's model takes. Beyond its length there is no draft, which is no
        failure.
        """
        k = ask.num_speculative_tokens
        if not self._num_wanted(session, k):
            return Drafted()
        wait_s = self._patience.round_s
        if ask.timeout_s is not None:
            wait_s = min(wait_s, ask.timeout_s)
        try:
            drafted = await self._draft_of_tier(session, k, time.monotonic() + wait_s)
            if drafted is not None:
                return drafted
        except TimeoutError:
            self._stream.is_late(session)
        except ForethoughtError as error:
            self._stream.lose(session, error)
        return Drafted(has_failed=True, absence=self.absence)

    def close(self) -> None:
        """Ends the stream."""
        self._stream.close()

    async def _draft_of_tier(self, session: Session, k: int, give_up: float) -> Drafted | None:
        """The tier's draft; None where a round shall not wait for its stream to open."""
        stream = await self._stream.take(session, give_up)
        if stream is None:
            return None
        try:
            return await self._ask(stream, session, k, give_up)
        except SessionIdleError:
            # The tier is well: it had not been asked for long.
            self._stream.close()
        stream = await self._stream.take(session, give_up)
        return None if stream is None else await self._ask(stream, session, k, give_up)

    async def _ask(self, stream: TierStream, session: Session, k: int, give_up: float) -> Drafted:
        """One draft, within the patience of a round."""
        k = self._num_wanted(session, k)  # the opening has told what the model takes
        if not k:
            return Drafted()
        if self._stream.due_since is not None:
            # An earlier round gave up on it.
            await self._receive(stream, 0)
        request = SpeculateRound(
            round=session.round,
            position=session.position,
            committed_token_ids=self._keeper.untold(session),
            num_speculative_tokens=k,
            hidden_states=self._untold_states(session),
        )
        left_s = max(give_up - time.monotonic(), 0)
        message = SpeculateRequest(round=speculate_to_proto(request))
        await stream.send(message, min(self._patience.open_s, left_s))
        self._keeper.told(session)
        if request.hidden_states is not None:
            self._stream.states_end = request.hidden_states.end
        self._stream.due_since = time.monotonic()
        response = await self._receive(stream, max(give_up - time.monotonic(), 0))
        answer = draft_from_proto(response.draft)
        check_draft(answer, request, session.mode, self._target)
        self._stream.drafted()
        return Drafted(answer.draft, answer.timings)

    async def _receive(self, stream: TierStream, timeout_s: float) -> SpeculateResponse:
        response: SpeculateResponse = await stream.receive(timeout_s)
        self._stream.due_since = None
        return response

    def _num_wanted(self, session: Session, k: int) -> int:
        """K, or less where the draft's model says so. What it leaves at 0 it does not say."""
        model = self._stream.model
        if model is not None and model.max_num_speculative_tokens:
            k = min(k, model.max_num_speculative_tokens)
        if model is not None and model.max_model_len:
            k = min(k, model.max_model_len - session.position)
        return max(k, 0)

    def _untold_states(self, session: Session) -> HiddenStates | None:
        """The target's hidden states that the draft needs and was not given yet."""
        if session.hidden_states is None or not self.wants_hidden_states:
            return None
        last = session.position - 1
        self._stream.states_end = min(self._stream.states_end, last)
        return session.hidden_states.within(self._stream.states_end, last)
