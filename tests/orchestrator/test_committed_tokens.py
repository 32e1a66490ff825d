"""The committed tokens of a session: every version of a text, in one log."""

from typing import ClassVar

import pytest

from forethought.sampling.params import SamplingParams
from forethought.sampling.types import Outcome, OutputToken, TokenOrigin
from orchestrator.loop.committed_tokens import CommittedTokens
from orchestrator.loop.session import Session


class CountingTuple(tuple[int, ...]):
    """A prompt that counts how often it is gone through."""

    __slots__ = ()
    num_times: ClassVar[int] = 0

    def __iter__(self):
        type(self).num_times += 1
        return super().__iter__()


def test_each_version_sees_its_own_length_of_the_text():
    first = CommittedTokens.of((1, 2))
    second = first.followed_by((3,))
    third = second.followed_by((4, 5))
    assert (first, second, third) == ([1, 2], [1, 2, 3], [1, 2, 3, 4, 5])
    assert first != third
    assert [len(first), len(second), len(third)] == [2, 3, 5]


def test_a_text_that_goes_on_in_two_ways_is_two_texts():
    first = CommittedTokens.of((1, 2))
    one, another = first.followed_by((3,)), first.followed_by((4, 5))
    assert (first, one, another) == ([1, 2], [1, 2, 3], [1, 2, 4, 5])
    assert one.followed_by((6,)) == [1, 2, 3, 6]
    assert another.followed_by((7,)) == [1, 2, 4, 5, 7]


def test_places_and_parts_end_where_the_version_does():
    first = CommittedTokens.of((1, 2, 3))
    first.followed_by((4,))
    assert (first[0], first[-1], first[1:], first[-2:], first[5:]) == (1, 3, [2, 3], [2, 3], [])
    assert list(first) == [1, 2, 3]
    assert list(reversed(first)) == [3, 2, 1]
    with pytest.raises(IndexError):
        first[3]


def test_a_session_goes_through_its_prompt_once_and_never_again():
    session = Session("s", CountingTuple(range(1000)), 2000, SamplingParams(seed=1))
    token = OutputToken(7, TokenOrigin.BONUS, None, 1.0)
    session = session.commit(Outcome((token,)))
    assert CountingTuple.num_times == 1
    log = session.token_ids.log
    for _ in range(10):
        session = session.commit(Outcome((token, token)))
        assert session.token_ids.log is log
    assert session.position == 1000 + 1 + 20
