"""What the orchestrator says to the tiers, word for word, with a script in place of a tier."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from structlog.testing import capture_logs

from forethought.errors import (
    CachePositionMismatchError,
    ModelMismatchError,
    OverloadedError,
    TierProtocolError,
    TierUnavailableError,
    VocabularyMismatchError,
)
from forethought.sampling.params import SamplingParams
from forethought.sampling.types import (
    Draft,
    DraftedToken,
    Outcome,
    OutputToken,
    TokenOrigin,
    as_probabilities,
)
from forethought.tier import ModelInfo, PassCost
from forethought.v1 import common_pb2, draft_pb2, target_pb2
from orchestrator.loop.round import Ask, Drafted
from orchestrator.loop.session import Session
from orchestrator.replicas.replica_set import alone
from orchestrator.tiers import remote_verifier, target_search
from orchestrator.tiers.patience import DraftPatience, ReopenOptions
from orchestrator.tiers.remote_proposer import RemoteProposer
from orchestrator.tiers.remote_verifier import RemoteVerifier, WantedEvidence
from orchestrator.tiers.tier_stream import TierStream
from tests.errors.test_error_mapping import as_rpc_error
from tests.simulated_time import in_simulated_time
from tests.waiting import until

SESSION = Session("s", (10, 11, 12), 100, SamplingParams(seed=6, top_k=3))
OPENING = common_pb2.SessionOpen(
    session_id="s",
    token_ids=[10, 11, 12],
    sampling=common_pb2.SamplingParams(
        temperature=1, top_k=3, top_p=1, repetition_penalty=1, seed=6
    ),
    vocabulary_fingerprint="v",
    verification_mode=common_pb2.VERIFICATION_MODE_REJECTION,
)
VERIFY_OPENING = target_pb2.VerifyRequest(open=OPENING)
VERIFY_OPENING.open.model_fingerprint = "m"  # no other model may verify the session
TARGET = ModelInfo("target", "m", "v", 50, 100, "float32", "cpu", 8)
ONE = OutputToken(20, TokenOrigin.BONUS, None, 1.0)
TWO = OutputToken(21, TokenOrigin.BONUS, None, 1.0)
NEVER = object()


def lost(reason: str = "gone") -> grpc.aio.AioRpcError:
    nothing = grpc.aio.Metadata()
    return grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, nothing, nothing, reason)


def refused() -> grpc.aio.AioRpcError:
    nothing = grpc.aio.Metadata()
    return grpc.aio.AioRpcError(grpc.StatusCode.INVALID_ARGUMENT, nothing, nothing, "no")


def full(retry_after_s: float = 0) -> grpc.aio.AioRpcError:
    return as_rpc_error(OverloadedError("full", retry_after_s=retry_after_s))


@dataclass
class ScriptedCall:
    """One stream: answers the n-th request with the n-th entry of its script."""

    script: Iterator[Any]
    sent: list[Any] = field(default_factory=list)
    is_cancelled: bool = False
    num_reads: int = 0

    async def write(self, message: Any) -> None:
        self.sent.append(type(message).FromString(message.SerializeToString()))

    async def read(self) -> Any:
        answer = next(self.script)
        self.num_reads += 1
        if answer is NEVER:
            await asyncio.Event().wait()
        if isinstance(answer, Exception):
            raise answer
        return answer

    def cancel(self) -> None:
        self.is_cancelled = True


class ScriptedTier:
    """A stub whose n-th stream plays the n-th script."""

    def __init__(self, *scripts: list[Any]) -> None:
        self._scripts = iter(scripts)
        self.Verify = self.Speculate = self._open
        self.calls: list[ScriptedCall] = []
        self.timeouts: list[float | None] = []

    def _open(self, timeout: float | None, metadata: object = ()) -> ScriptedCall:
        self.timeouts.append(timeout)
        self.calls.append(ScriptedCall(iter(next(self._scripts))))
        return self.calls[-1]


def opened(fingerprint: str = "m") -> common_pb2.SessionOpened:
    return common_pb2.SessionOpened(model=common_pb2.ModelInfo(model_fingerprint=fingerprint))


def verify_opened(fingerprint: str = "m") -> target_pb2.VerifyResponse:
    return target_pb2.VerifyResponse(opened=opened(fingerprint))


def evidence(number: int, position: int, *support_sizes: int) -> target_pb2.VerifyResponse:
    positions = [
        target_pb2.PositionEvidence(
            target_probs=[0.5 / size] * size, tail_mass=0.5, tail_token_id=1, tail_token_prob=0.25
        )
        for size in support_sizes
    ]
    positions.append(target_pb2.PositionEvidence(tail_mass=1, tail_token_id=2, tail_token_prob=0.1))
    answer = target_pb2.EvidenceRound(
        round=number,
        position=position,
        positions=positions,
        timings=common_pb2.RoundTimings(forward_ns=7),
    )
    return target_pb2.VerifyResponse(evidence=answer)


def draft_opened() -> draft_pb2.SpeculateResponse:
    return draft_pb2.SpeculateResponse(opened=opened())


def drafted(number: int, position: int, *token_ids: int) -> draft_pb2.SpeculateResponse:
    tokens = [
        draft_pb2.DraftedToken(token_id=token_id, support_token_ids=[token_id], draft_probs=[1])
        for token_id in token_ids
    ]
    answer = draft_pb2.DraftRound(round=number, position=position, tokens=tokens)
    return draft_pb2.SpeculateResponse(draft=answer)


def verifier(tier: ScriptedTier, model: ModelInfo = TARGET, **options: Any) -> RemoteVerifier:
    return RemoteVerifier(tier, model, reopen=ReopenOptions(5.0, 0.001), **options)


class CountingProposer(RemoteProposer):
    """Counts the rounds that wanted a draft and got none because of the tier."""

    num_failures = 0

    async def propose(self, session: Session, ask: Ask) -> Drafted:
        drafted = await super().propose(session, ask)
        self.num_failures += drafted.has_failed
        assert bool(drafted.absence) == drafted.has_failed
        return drafted


def proposer(tier: ScriptedTier, **options: Any) -> CountingProposer:
    patience = DraftPatience(open_s=0.05, round_s=0.05, first_backoff_s=0)
    return CountingProposer(tier, "v", patience=patience, **options)


def verify_round(number: int, position: int, committed: list[int], **more: Any) -> Any:
    return target_pb2.VerifyRequest(
        round=target_pb2.VerifyRound(
            round=number, position=position, committed_token_ids=committed, **more
        )
    )


def speculate_round(number: int, position: int, committed: list[int], k: int) -> Any:
    return draft_pb2.SpeculateRequest(
        round=draft_pb2.SpeculateRound(
            round=number,
            position=position,
            committed_token_ids=committed,
            num_speculative_tokens=k,
        )
    )


async def test_the_target_is_told_the_prompt_once_and_then_only_what_is_new():
    tier = ScriptedTier([verify_opened(), evidence(0, 3), evidence(1, 5), evidence(2, 6)])
    remote = verifier(tier)
    await remote.start(SESSION)
    later = SESSION.commit(Outcome((ONE, TWO)))
    for session in (SESSION, later, later.commit(Outcome((ONE,)))):
        answer = await remote.verify(session, Draft())
    assert tier.calls[0].sent == [
        VERIFY_OPENING,
        verify_round(0, 3, []),
        verify_round(1, 5, [20, 21]),
        verify_round(2, 6, [20]),
    ]
    assert answer.timings.forward_ns == 7


async def test_the_target_gets_guesses_with_their_support_and_never_their_probabilities():
    answer = evidence(0, 3, 2)
    for entry, num_support in zip(answer.evidence.positions, (2, 0), strict=True):
        entry.logprobs.support_logprobs.extend([-1] * num_support)
    tier = ScriptedTier([verify_opened(), answer])
    guess = DraftedToken(30, [31, 30], as_probabilities([0.75, 0.25]))
    await verifier(tier, wanted=WantedEvidence(0)).verify(SESSION, Draft((guess,)))
    to_verify = target_pb2.DraftToVerify(token_id=30, support_token_ids=[31, 30])
    assert tier.calls[0].sent[1] == verify_round(0, 3, [], drafts=[to_verify], num_logprobs=0)


async def test_a_lost_target_is_opened_again_with_all_tokens_and_asked_the_same_round():
    tier = ScriptedTier(
        [verify_opened(), evidence(0, 3), lost()],
        [lost()],
        [verify_opened(), evidence(1, 4), evidence(2, 5)],
    )
    remote = verifier(tier)
    later = SESSION.commit(Outcome((ONE,)))
    for session in (SESSION, later, later.commit(Outcome((TWO,)))):
        await remote.verify(session, Draft())
    again = target_pb2.VerifyRequest()
    again.CopyFrom(VERIFY_OPENING)
    again.open.token_ids.append(20)
    assert [call.is_cancelled for call in tier.calls] == [True, True, False]
    assert tier.calls[1].sent == [again]
    assert tier.calls[2].sent == [again, verify_round(1, 4, []), verify_round(2, 5, [21])]


async def test_a_target_that_stays_lost_is_an_error_when_patience_ends():
    tier = ScriptedTier([lost("first")], [lost("last")])
    remote = RemoteVerifier(tier, TARGET, reopen=ReopenOptions(patience_s=0, interval_s=0))
    with pytest.raises(TierUnavailableError, match="first"):
        await remote.verify(SESSION, Draft())
    assert tier.calls[0].is_cancelled


@pytest.mark.parametrize("script", [[refused()], [verify_opened(), refused()]])
async def test_what_a_target_cannot_make_sense_of_is_our_fault_and_not_asked_again(script):
    tier = ScriptedTier(script)
    with pytest.raises(TierProtocolError, match="no"):
        await verifier(tier).verify(SESSION, Draft())
    assert len(tier.calls) == 1


async def test_a_target_that_serves_another_model_says_what_to_do():
    tier = ScriptedTier([as_rpc_error(ModelMismatchError("is n", metadata={"model": "n"}))])
    with pytest.raises(ModelMismatchError, match="start the orchestrator again: is n") as error:
        await verifier(tier).start(SESSION)
    assert error.value.metadata == {"model": "n"}


@pytest.mark.parametrize("answer", [NEVER, target_pb2.VerifyResponse()])
async def test_a_round_without_an_opened_session_is_not_sent(monkeypatch, answer):
    monkeypatch.setattr(remote_verifier, "MIN_OPENING_S", 0.01)
    tier = ScriptedTier([answer])
    remote = RemoteVerifier(tier, TARGET, reopen=ReopenOptions(patience_s=0.01))
    with pytest.raises((TierUnavailableError, TierProtocolError), match="opening"):
        await remote.verify(SESSION, Draft())
    assert tier.calls[0].sent == [VERIFY_OPENING]
    assert tier.calls[0].is_cancelled
    assert len(tier.calls) == 1


@in_simulated_time
async def test_patience_does_not_bound_a_round():
    class SlowTier(ScriptedTier):
        """Computes for longer than anybody has patience to look for it."""

        def _open(self, timeout: float | None, metadata: object = ()) -> ScriptedCall:
            call = super()._open(timeout)
            read = call.read

            async def read_slowly() -> Any:
                if len(call.sent) == 2:
                    await asyncio.sleep(0.05)
                return await read()

            call.read = read_slowly
            return call

    tier = SlowTier([verify_opened(), evidence(0, 3)])
    remote = RemoteVerifier(tier, TARGET, reopen=ReopenOptions(patience_s=0))
    await remote.verify(SESSION, Draft())


async def test_a_target_that_is_full_refuses_a_new_session_at_once():
    tier = ScriptedTier([full()])
    with pytest.raises(OverloadedError):
        await verifier(tier).start(SESSION)
    assert len(tier.calls) == 1


async def test_a_session_that_was_open_waits_for_room_when_it_is_opened_again():
    tier = ScriptedTier(
        [verify_opened(), lost()], [full()], [full()], [verify_opened(), evidence(0, 3)]
    )
    remote = verifier(tier)
    await remote.start(SESSION)
    await remote.verify(SESSION, Draft())
    assert len(tier.calls) == 4


class SimulatedTime:
    """Passes when somebody sleeps, and at no other moment."""

    def __init__(self) -> None:
        self.now = 100.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def simulated(monkeypatch) -> SimulatedTime:
    """The time of a search for a target."""
    simulated = SimulatedTime()
    monkeypatch.setattr(target_search, "time", simulated)
    monkeypatch.setattr(target_search, "asyncio", SimpleNamespace(sleep=simulated.sleep))
    return simulated


async def test_a_session_that_was_open_waits_for_room_no_longer_than_patience(simulated):
    tier = ScriptedTier([verify_opened(), lost()], [full(3)], [full(60)], [full(60)])
    remote = RemoteVerifier(tier, TARGET, reopen=ReopenOptions(5.0, 0.25))
    await remote.start(SESSION)
    with pytest.raises(TierUnavailableError, match="full"):
        await remote.verify(SESSION, Draft())
    assert simulated.slept == [0.25, 3.0, 1.75]
    assert len(tier.calls) == 4


async def test_a_target_that_knows_fewer_tokens_is_told_all_of_them_again_at_once():
    mismatch = as_rpc_error(CachePositionMismatchError("knows less"))
    tier = ScriptedTier([verify_opened(), mismatch], [verify_opened(), evidence(0, 3)])
    # An interval between attempts that no test would survive.
    remote = RemoteVerifier(tier, TARGET, reopen=ReopenOptions(600, 600))
    await remote.verify(SESSION, Draft())
    assert tier.calls[1].sent == [VERIFY_OPENING, verify_round(0, 3, [])]


async def test_evidence_for_another_round_is_refused():
    tier = ScriptedTier([verify_opened(), evidence(3, 3)])
    with pytest.raises(TierProtocolError):
        await verifier(tier).verify(SESSION, Draft())


async def test_the_callers_deadline_is_the_streams():
    tier = ScriptedTier([verify_opened()], [draft_opened()])
    await verifier(tier, deadline_s=9).start(SESSION)
    proposer(tier, deadline_s=9).start(SESSION)
    assert [8 < timeout <= 9 for timeout in tier.timeouts] == [True, True]


async def test_the_draft_is_told_the_prompt_once_and_then_only_what_is_new():
    tier = ScriptedTier([draft_opened(), drafted(1, 4, 30, 31), drafted(3, 6, 32)])
    remote = proposer(tier)
    remote.start(SESSION)
    first = SESSION.commit(Outcome((ONE,)))
    assert (await remote.propose(first, Ask(2))).draft.token_ids == [30, 31]
    second = first.commit(Outcome((TWO,)))
    assert len((await remote.propose(second, Ask(0))).draft) == 0
    third = second.commit(Outcome((ONE,)))
    assert (await remote.propose(third, Ask(4))).draft.token_ids == [32]
    assert tier.calls[0].sent == [
        draft_pb2.SpeculateRequest(open=OPENING),
        speculate_round(1, 4, [20], 2),
        speculate_round(3, 6, [21, 20], 4),
    ]
    assert remote.num_failures == 0


async def test_a_late_draft_is_dropped_and_the_next_round_tells_all_that_is_new():
    late = asyncio.Event()

    class LateTier(ScriptedTier):
        """Answers its second request when it is allowed to."""

        def _open(self, timeout: float | None, metadata: object = ()) -> ScriptedCall:
            call = super()._open(timeout)
            read = call.read

            async def read_late() -> Any:
                if len(call.sent) == 2:
                    await late.wait()
                return await read()

            call.read = read_late
            return call

    tier = LateTier([draft_opened(), drafted(1, 4, 30), drafted(3, 6, 33)])
    remote = proposer(tier)
    remote.start(SESSION)
    first = SESSION.commit(Outcome((ONE,)))
    assert len((await remote.propose(first, Ask(1))).draft) == 0
    second = first.commit(Outcome((TWO,)))
    assert len((await remote.propose(second, Ask(1))).draft) == 0  # still late: nothing is asked
    late.set()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    third = second.commit(Outcome((ONE,)))
    assert (await remote.propose(third, Ask(1))).draft.token_ids == [33]
    assert tier.calls[0].sent[1:] == [
        speculate_round(1, 4, [20], 1),
        speculate_round(3, 6, [21, 20], 1),
    ]
    assert not tier.calls[0].is_cancelled
    assert remote.num_failures == 2


async def test_a_lost_draft_means_an_empty_draft_and_a_new_stream_with_all_tokens():
    tier = ScriptedTier([draft_opened(), lost()], [draft_opened(), drafted(3, 6, 30)])
    remote = proposer(tier)
    remote.start(SESSION)
    first = SESSION.commit(Outcome((ONE,)))
    assert len((await remote.propose(first, Ask(1))).draft) == 0
    assert tier.calls[0].is_cancelled
    second = first.commit(Outcome((TWO,)))
    assert (
        len((await remote.propose(second, Ask(1))).draft) == 0
    )  # opens again, and does not wait for it
    await until(lambda: tier.calls[1].num_reads)
    third = second.commit(Outcome((ONE,)))
    assert (await remote.propose(third, Ask(1))).draft.token_ids == [30]
    again = draft_pb2.SpeculateRequest(open=OPENING)
    again.open.token_ids.extend([20, 21])
    assert tier.calls[1].sent == [again, speculate_round(3, 6, [20], 1)]
    assert remote.num_failures == 2


@pytest.mark.parametrize(
    "answer",
    [
        drafted(7, 4, 30),
        drafted(1, 5, 30),
        drafted(1, 4, 30, 31),
        drafted(1, 4, 99),
        draft_pb2.SpeculateResponse(
            draft=draft_pb2.DraftRound(
                round=1, position=4, tokens=[draft_pb2.DraftedToken(token_id=30)]
            )
        ),
        refused(),
    ],
    ids=[
        "another round",
        "another position",
        "more than asked",
        "no such token",
        "no distribution",
        "refused",
    ],
)
async def test_a_draft_tier_that_answers_nonsense_is_done_without(answer: Any):
    tier = ScriptedTier([draft_opened(), answer])
    remote = proposer(tier, target=TARGET)
    remote.start(SESSION)
    assert len((await remote.propose(SESSION.commit(Outcome((ONE,))), Ask(1))).draft) == 0
    assert tier.calls[0].is_cancelled
    assert remote.num_failures == 1


async def test_a_draft_of_another_vocabulary_is_told_of_when_the_session_begins():
    remote = proposer(ScriptedTier([VocabularyMismatchError("another vocabulary")]))
    remote.start(SESSION)
    assert len((await remote.propose(SESSION, Ask(1))).draft) == 0
    assert remote.mismatch is not None


async def test_a_draft_that_comes_back_with_another_vocabulary_is_done_without():
    another = VocabularyMismatchError("another vocabulary")
    remote = proposer(ScriptedTier([draft_opened(), lost()], [another]))
    remote.start(SESSION)
    await remote.propose(SESSION, Ask(1))
    await remote.propose(SESSION, Ask(1))
    await asyncio.sleep(0)
    assert len((await remote.propose(SESSION, Ask(1))).draft) == 0
    assert remote.mismatch is None
    remote.close()


@in_simulated_time
async def test_an_opening_without_an_answer_is_waited_for_by_one_round_and_never_again():
    tier = ScriptedTier([NEVER])
    remote = proposer(tier)
    remote.start(SESSION)
    started = asyncio.get_running_loop().time()
    assert len((await remote.propose(SESSION, Ask(1))).draft) == 0
    waited = asyncio.get_running_loop().time() - started
    assert waited >= 0.04
    for _ in range(100):
        assert len((await remote.propose(SESSION, Ask(1))).draft) == 0
    assert asyncio.get_running_loop().time() - started - waited < 0.04
    remote.close()
    assert tier.calls[0].is_cancelled


@in_simulated_time
async def test_an_opening_that_is_answered_a_little_later_costs_no_draft():
    may_open = asyncio.Event()

    class LateTier(ScriptedTier):
        """Answers its opening when it is allowed to."""

        def _open(self, timeout: float | None, metadata: object = ()) -> ScriptedCall:
            call = super()._open(timeout)
            read = call.read

            async def read_late() -> Any:
                await may_open.wait()
                return await read()

            call.read = read_late
            return call

    remote = proposer(LateTier([draft_opened(), drafted(0, 3, 30)]))
    remote.start(SESSION)
    asking = asyncio.create_task(remote.propose(SESSION, Ask(1)))
    await asyncio.sleep(0.01)
    may_open.set()
    assert (await asking).draft.token_ids == [30]


async def test_an_opening_that_comes_after_a_round_gave_up_is_taken():
    may_open = asyncio.Event()
    tier = ScriptedTier([draft_opened(), drafted(0, 3, 30)])
    remote = proposer(tier)
    remote.start(SESSION)
    read = tier.calls[0].read

    async def read_late() -> Any:
        await may_open.wait()
        return await read()

    tier.calls[0].read = read_late
    assert len((await remote.propose(SESSION, Ask(1))).draft) == 0
    may_open.set()
    await until(lambda: tier.calls[0].num_reads)
    assert (await remote.propose(SESSION, Ask(1))).draft.token_ids == [30]
    assert len(tier.calls) == 1


async def test_no_more_is_asked_for_than_the_drafts_model_takes():
    limits = common_pb2.ModelInfo(max_model_len=5, max_num_speculative_tokens=2)
    opening = draft_pb2.SpeculateResponse(opened=common_pb2.SessionOpened(model=limits))
    tier = ScriptedTier([opening, drafted(0, 3, 30), drafted(1, 4, 30)])
    remote = proposer(tier)
    session = SESSION
    remote.start(session)
    for _ in range(5):
        await remote.propose(session, Ask(8))
        session = session.commit(Outcome((ONE,)))
    assert tier.calls[0].sent[1:] == [speculate_round(0, 3, [], 2), speculate_round(1, 4, [20], 1)]
    assert remote.num_failures == 0
    assert not tier.calls[0].is_cancelled


@pytest.mark.parametrize("script", [[refused()], [draft_opened(), refused()]])
async def test_a_draft_tier_that_calls_a_session_invalid_is_not_asked_again(script):
    tier = ScriptedTier(script)
    remote = proposer(tier)
    remote.start(SESSION)
    for _ in range(5):
        assert len((await remote.propose(SESSION, Ask(1))).draft) == 0
        await asyncio.sleep(0)
    assert len(tier.calls) == 1


async def test_the_log_tells_once_that_drafts_are_late_or_lost():
    tier = ScriptedTier([draft_opened(), NEVER], *[[lost()] for _ in range(50)])
    remote = proposer(tier)
    remote.start(SESSION)
    with capture_logs() as logs:
        for _ in range(5):
            await remote.propose(SESSION, Ask(1))
        remote._stream.lose(SESSION, TierUnavailableError("gone"))
        for _ in range(20):
            await remote.propose(SESSION, Ask(1))
            await asyncio.sleep(0)
    assert [line["event"] for line in logs] == ["draft_late", "draft_lost"]
    assert len(tier.calls) > 2
    remote.close()


async def test_closing_ends_an_opening_that_is_under_way():
    tier = ScriptedTier([NEVER])
    remote = proposer(tier)
    remote.start(SESSION)
    await asyncio.sleep(0)
    num_tasks = len(asyncio.all_tasks())
    remote.close()
    await until(lambda: len(asyncio.all_tasks()) == num_tasks - 1)
    assert tier.calls[0].is_cancelled


async def test_a_session_knows_what_drafts_cost_before_its_own_is_open():
    """Else it takes them for free at first, and what it sees then for a disappointment."""
    costs = (PassCost(1, 5), PassCost(4, 7))
    drafts = alone(ScriptedTier([]))
    proposer = RemoteProposer(drafts, "v")
    assert proposer.pass_costs == ()
    drafts.all[0].model = replace(TARGET, name="draft", pass_costs=costs)
    assert proposer.pass_costs == costs


@pytest.mark.parametrize("timeout_s", [None, 20.0])
async def test_a_read_that_is_cancelled_from_below_is_a_lost_tier(timeout_s):
    async def read():
        raise asyncio.CancelledError

    stream = TierStream(SimpleNamespace(read=read))
    with pytest.raises(TierUnavailableError, match="closed"):
        await stream.receive(timeout_s)
