"""Hidden states are read only where they are whole, in place, and of use to who gets them."""

from dataclasses import replace

import numpy as np
import pytest

from forethought.errors import InvalidArgumentError, TierProtocolError
from forethought.rpc.codecs.tier.evidence import verify_from_proto
from forethought.rpc.codecs.tier.hidden_states import (
    hidden_states_of_evidence,
    hidden_states_of_round,
    hidden_states_to_proto,
)
from forethought.rpc.codecs.tier.opening import open_from_proto, open_to_proto
from forethought.sampling.hidden_states import HiddenStates
from forethought.tier import HiddenStatesNeed
from forethought.v1 import common_pb2, target_pb2
from tests.wire.examples import MODEL, OPEN

NEED = HiddenStatesNeed("target", 2)
ROWS = np.array([[1, 2], [3, 4], [5, 6]], dtype=np.float16)


def message(**changes) -> common_pb2.HiddenStates:
    whole = hidden_states_to_proto(HiddenStates(7, ROWS))
    for name, value in changes.items():
        setattr(whole, name, value)
    return whole


def test_they_arrive_as_they_were_sent():
    for states in (
        hidden_states_of_round(message(), 11, NEED),
        hidden_states_of_evidence(message(), 8, 2),
    ):
        assert (states.first_position, states.end, states.size) == (7, 10, 2)
        assert states.rows.tolist() == ROWS.tolist()


def test_numbers_of_the_other_byte_order_are_turned_around():
    assert hidden_states_to_proto(HiddenStates(7, ROWS.astype(">f2"))) == message()


MALFORMED = {
    "no format": message(element_type=0),
    "an unknown format": message(element_type=9),
    "too few bytes": message(data=b"\0" * 11),
    "too many bytes": message(num_positions=2),
    "none": message(num_positions=0, data=b""),
    "no size": message(hidden_size=0, data=b""),
    "a size that overflows": message(num_positions=2**31, hidden_size=2**31),
}


@pytest.mark.parametrize("kind", MALFORMED)
def test_malformed_ones_are_refused(kind: str):
    with pytest.raises(InvalidArgumentError, match=r"round\.hidden_states"):
        hidden_states_of_round(MALFORMED[kind], 11, NEED)
    with pytest.raises(TierProtocolError, match="hidden states"):
        hidden_states_of_evidence(MALFORMED[kind], 8, 2)


@pytest.mark.parametrize(
    ("position", "need", "complaint"),
    [
        (9, NEED, "before the last committed token"),
        (11, HiddenStatesNeed("target", 3), "3 elements"),
        (11, None, "needs none"),
    ],
)
def test_those_that_a_draft_has_no_use_for_are_refused(position, need, complaint):
    with pytest.raises(InvalidArgumentError, match=complaint):
        hidden_states_of_round(message(), position, need)


def test_what_is_no_number_is_refused():
    rows = ROWS.copy()
    rows[1, 0] = np.nan
    broken = hidden_states_to_proto(HiddenStates(7, rows))
    with pytest.raises(InvalidArgumentError, match="numbers"):
        hidden_states_of_round(broken, 11, NEED)


def test_a_tier_that_gives_none_is_not_asked_for_them():
    poor = replace(MODEL, hidden_size=0)
    with pytest.raises(InvalidArgumentError, match="gives no hidden states"):
        open_from_proto(open_to_proto(OPEN), poor)
    wanting = target_pb2.VerifyRound(position=5, wants_hidden_states=True)
    with pytest.raises(InvalidArgumentError, match="gives no hidden states"):
        verify_from_proto(wanting, poor)
