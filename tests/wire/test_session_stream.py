"""A round that is repeated word for word gets the stored answer, and no other round does."""

from collections.abc import AsyncIterator

import pytest

from forethought.rpc.session_stream import serve_session
from forethought.v1 import target_pb2 as pb

ROUND = pb.VerifyRound(
    round=3,
    position=7,
    committed_token_ids=[5, 6],
    drafts=[pb.DraftToVerify(token_id=8, support_token_ids=[8, 9])],
    num_logprobs=1,
)
"""As it is sent first."""

OTHERS = {
    "round": {"round": 4},
    "position": {"position": 8},
    "tokens": {"committed_token_ids": [5, 7]},
    "one token less": {"committed_token_ids": [6]},
    "draft": {"drafts": [pb.DraftToVerify(token_id=9, support_token_ids=[8, 9])]},
    "support": {"drafts": [pb.DraftToVerify(token_id=8, support_token_ids=[8, 10])]},
    "no draft": {"drafts": []},
    "log-probabilities": {"num_logprobs": 2},
    "hidden states": {"wants_hidden_states": True},
    "what is next": {"next_is_plain": True},
}


class Numbering:
    """A session that answers each round that it gets with another number."""

    def __init__(self) -> None:
        self.rounds: list[pb.VerifyRound] = []

    async def opened(self) -> str:
        return "opened"

    async def answer(self, message: pb.VerifyRound) -> int:
        self.rounds.append(message)
        return len(self.rounds)

    def close(self) -> None:
        pass


async def answers(*rounds: pb.VerifyRound) -> list[object]:
    """What comes for an opening and these rounds."""

    async def requests() -> AsyncIterator[pb.VerifyRequest]:
        yield pb.VerifyRequest(open={})
        for each in rounds:
            yield pb.VerifyRequest(round=each)

    return [answer async for answer in serve_session(requests(), lambda _: Numbering())]


async def test_a_repeated_round_gets_the_stored_answer():
    again = pb.VerifyRound.FromString(ROUND.SerializeToString())
    assert await answers(ROUND, again, ROUND) == ["opened", 1, 1, 1]


def changed(changes: dict[str, object]) -> pb.VerifyRound:
    """The round with other fields."""
    other = pb.VerifyRound.FromString(ROUND.SerializeToString())
    for name in changes:
        other.ClearField(name)
    other.MergeFrom(pb.VerifyRound(**changes))
    return other


@pytest.mark.parametrize("what", OTHERS)
async def test_a_round_that_differs_in_anything_is_answered_anew(what: str):
    other = changed(OTHERS[what])
    assert await answers(ROUND, other, ROUND, ROUND) == ["opened", 1, 2, 3, 3]
