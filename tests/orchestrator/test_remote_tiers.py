"""What the orchestrator says to the tiers, word for word, with a script in place of a tier."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest

from forethought.errors import (
    ForethoughtError,
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
from forethought.v1 import common_pb2, draft_pb2, target_pb2
from orchestrator.remote_proposer import DraftPatience, RemoteProposer
from orchestrator.remote_verifier import RemoteVerifier, ReopenOptions
from orchestrator.session import Session

SESSION = Session("s", (10, 11, 12), 100, SamplingParams(seed=6, top_k=3))
OPENING = common_pb2.SessionOpen(
    session_id="s",
    token_ids=[10, 11, 12],
    sampling=common_pb2.SamplingParams(
        temperature=1, top_k=3, top_p=1, repetition_penalty=1, seed=6
    ),
    vocabulary_fingerprint="v",
)
ONE = OutputToken(20, TokenOrigin.BONUS, None, 1.0)
TWO = OutputToken(21, TokenOrigin.BONUS, None, 1.0)
NEVER = object()


def lost(reason: str = "gone") -> grpc.aio.AioRpcError:
    nothing = grpc.aio.Metadata()
    return grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, nothing, nothing, reason)


def refused() -> grpc.aio.AioRpcError:
    nothing = grpc.aio.Metadata()
    return grpc.aio.AioRpcError(grpc.StatusCode.INVALID_ARGUMENT, nothing, nothing, "no")


@dataclass
class ScriptedCall:
    """One stream: answers the n-th request with the n-th entry of its script."""

    script: Iterator[Any]
    sent: list[Any] = field(default_factory=list)
    is_cancelled: bool = False

    async def write(self, message: Any) -> None:
        self.sent.append(type(message).FromString(message.SerializeToString()))

    async def read(self) -> Any:
        answer = next(self.script)
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

    def _open(self, timeout: float | None) -> ScriptedCall:
        self.timeouts.append(timeout)
        self.calls.append(ScriptedCall(iter(next(self._scripts))))
        return self.calls[-1]


def opened(fingerprint: str = "m") -> common_pb2.SessionOpened:
    return common_pb2.SessionOpened(model=common_pb2.ModelInfo(model_fingerprint=fingerprint))


def verify_opened(fingerprint: str = "m") -> target_pb2.VerifyResponse:
    return target_pb2.VerifyResponse(opened=opened(fingerprint))


def evidence(number: int, num_drafts: int = 0) -> target_pb2.VerifyResponse:
    positions = [
        target_pb2.PositionEvidence(target_probs=[0.5], tail_mass=0.5, tail_token_id=1)
        for _ in range(num_drafts)
    ]
    positions.append(target_pb2.PositionEvidence(tail_mass=1, tail_token_id=2, tail_token_prob=0.1))
    answer = target_pb2.EvidenceRound(
        round=number, positions=positions, timings=common_pb2.RoundTimings(forward_ns=7)
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


def verifier(tier: ScriptedTier, **options: Any) -> RemoteVerifier:
    return RemoteVerifier(tier, "v", reopen=ReopenOptions(5.0, 0.001), **options)


def proposer(tier: ScriptedTier, **options: Any) -> RemoteProposer:
    patience = DraftPatience(open_s=0.05, round_s=0.05, first_backoff_s=0)
    return RemoteProposer(tier, "v", patience=patience, **options)


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
    tier = ScriptedTier([verify_opened(), evidence(0), evidence(1), evidence(2)])
    remote = verifier(tier)
    await remote.start(SESSION)
    later = SESSION.commit(Outcome((ONE, TWO)))
    for session in (SESSION, later, later.commit(Outcome((ONE,)))):
        await remote.verify(session, Draft())
    assert tier.calls[0].sent == [
        target_pb2.VerifyRequest(open=OPENING),
        verify_round(0, 3, []),
        verify_round(1, 5, [20, 21]),
        verify_round(2, 6, [20]),
    ]
    assert remote.timings.forward_ns == 7


async def test_the_target_gets_guesses_with_their_support_and_never_their_probabilities():
    tier = ScriptedTier([verify_opened(), evidence(0, num_drafts=1)])
    guess = DraftedToken(30, [31, 30], as_probabilities([0.75, 0.25]))
    await verifier(tier, num_logprobs=0).verify(SESSION, Draft((guess,)))
    to_verify = target_pb2.DraftToVerify(token_id=30, support_token_ids=[31, 30])
    assert tier.calls[0].sent[1] == verify_round(0, 3, [], drafts=[to_verify], num_logprobs=0)


async def test_a_lost_target_is_opened_again_with_all_tokens_and_asked_the_same_round():
    tier = ScriptedTier(
        [verify_opened(), evidence(0), lost()],
        [lost()],
        [verify_opened(), evidence(1), evidence(2)],
    )
    remote = verifier(tier)
    later = SESSION.commit(Outcome((ONE,)))
    for session in (SESSION, later, later.commit(Outcome((TWO,)))):
        await remote.verify(session, Draft())
    again = target_pb2.VerifyRequest(open=OPENING)
    again.open.token_ids.append(20)
    again.open.model_fingerprint = "m"  # no other model may go on with the session
    assert [call.is_cancelled for call in tier.calls] == [True, True, False]
    assert tier.calls[1].sent == [again]
    assert tier.calls[2].sent == [again, verify_round(1, 4, []), verify_round(2, 5, [21])]


async def test_a_target_that_stays_lost_is_an_error_when_patience_ends():
    tier = ScriptedTier([lost("first")], [lost("last")])
    remote = RemoteVerifier(tier, "v", reopen=ReopenOptions(patience_s=0, interval_s=0))
    with pytest.raises(TierUnavailableError, match="first"):
        await remote.verify(SESSION, Draft())
    assert tier.calls[0].is_cancelled


async def test_what_a_target_refuses_is_not_asked_again():
    tier = ScriptedTier([verify_opened(), refused()])
    with pytest.raises(ForethoughtError) as error:
        await verifier(tier).verify(SESSION, Draft())
    assert error.value.code == "INVALID_ARGUMENT"
    assert len(tier.calls) == 1


async def test_evidence_for_another_round_is_refused():
    tier = ScriptedTier([verify_opened(), evidence(3)])
    with pytest.raises(TierProtocolError):
        await verifier(tier).verify(SESSION, Draft())


async def test_the_callers_deadline_is_the_streams():
    tier = ScriptedTier([verify_opened()], [draft_opened()])
    await verifier(tier, deadline_s=9).start(SESSION)
    await proposer(tier, deadline_s=9).start(SESSION)
    assert [8 < timeout <= 9 for timeout in tier.timeouts] == [True, True]


async def test_the_draft_is_told_the_prompt_once_and_then_only_what_is_new():
    tier = ScriptedTier([draft_opened(), drafted(1, 4, 30, 31), drafted(3, 6, 32)])
    remote = proposer(tier)
    await remote.start(SESSION)
    first = SESSION.commit(Outcome((ONE,)))
    assert (await remote.propose(first, 2)).token_ids == [30, 31]
    second = first.commit(Outcome((TWO,)))
    assert len(await remote.propose(second, 0)) == 0
    third = second.commit(Outcome((ONE,)))
    assert (await remote.propose(third, 4)).token_ids == [32]
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

        def _open(self, timeout: float | None) -> ScriptedCall:
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
    await remote.start(SESSION)
    first = SESSION.commit(Outcome((ONE,)))
    assert len(await remote.propose(first, 1)) == 0
    second = first.commit(Outcome((TWO,)))
    assert len(await remote.propose(second, 1)) == 0  # still late: nothing is asked
    late.set()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    third = second.commit(Outcome((ONE,)))
    assert (await remote.propose(third, 1)).token_ids == [33]
    assert tier.calls[0].sent[1:] == [
        speculate_round(1, 4, [20], 1),
        speculate_round(3, 6, [21, 20], 1),
    ]
    assert not tier.calls[0].is_cancelled
    assert remote.num_failures == 2


async def test_a_lost_draft_means_an_empty_draft_and_a_new_stream_with_all_tokens():
    tier = ScriptedTier([draft_opened(), lost()], [draft_opened(), drafted(2, 5, 30)])
    remote = proposer(tier)
    await remote.start(SESSION)
    first = SESSION.commit(Outcome((ONE,)))
    assert len(await remote.propose(first, 1)) == 0
    assert tier.calls[0].is_cancelled
    second = first.commit(Outcome((TWO,)))
    assert (await remote.propose(second, 1)).token_ids == [30]
    again = draft_pb2.SpeculateRequest(open=OPENING)
    again.open.token_ids.extend([20, 21])
    assert tier.calls[1].sent == [again, speculate_round(2, 5, [], 1)]
    assert remote.num_failures == 1


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
    remote = proposer(tier, vocab_size=50)
    await remote.start(SESSION)
    assert len(await remote.propose(SESSION.commit(Outcome((ONE,))), 1)) == 0
    assert tier.calls[0].is_cancelled
    assert remote.num_failures == 1


async def test_a_draft_of_another_vocabulary_is_an_error_at_the_start_only():
    another = VocabularyMismatchError("another vocabulary")
    with pytest.raises(VocabularyMismatchError):
        await proposer(ScriptedTier([another])).start(SESSION)
    assert len(await proposer(ScriptedTier([another])).propose(SESSION, 1)) == 0


async def test_a_draft_tier_that_says_nothing_delays_the_start_only_for_so_long():
    tier = ScriptedTier([NEVER])
    remote = proposer(tier)
    await remote.start(SESSION)
    assert len(await remote.propose(SESSION, 1)) == 0
    remote.close()
    assert tier.calls[0].is_cancelled
