"""What another version stored of a session is read as it was meant, or refused in words."""

import json
from dataclasses import replace

import pytest

from forethought.errors import SessionCorruptError
from forethought.generation import (
    JudgedToken,
    NoDraftReason,
    ProposerStatistics,
    SpeculationStatistics,
    Step,
    Verdict,
)
from forethought.sampling.params import SamplingParams
from forethought.sampling.types import LookaheadOutcome, OutputToken, TokenOrigin, VerificationMode
from forethought.store.sessions.record_codec import pack_head, pack_round, unpack_record
from forethought.store.sessions.records import CommittedRound
from forethought.tier import LookaheadCounts, RoundTimings
from orchestrator.request.plan import GenerationPlan
from orchestrator.sessions.stored_plan import head_of, plan_of
from orchestrator.sessions.stored_round import ToldRound, pack_told, unpack_told
from tests.sessions.stored_before import FIELDS, SESSION_ID, TENANT

TIMINGS = RoundTimings(1000, 20_000_000, 21_000_000, 3, 12, 500_000)
RECOVERED = OutputToken(6, TokenOrigin.RECOVERED, None, 0.125)
FIRST = ToldRound(
    (
        OutputToken(5, TokenOrigin.ACCEPTED, 0.5, 0.25, -1.25, ((5, -1.25), (7, -2.5))),
        replace(RECOVERED, logprob=-2.0),
    ),
    Step(
        round=0,
        position=3,
        drafted=(
            JudgedToken(5, "five", 0.5, 0.25, Verdict.ACCEPTED),
            JudgedToken(9, "nine", 0.75, 0.0, Verdict.REJECTED),
        ),
        final=RECOVERED,
        final_text="six",
        speculation_ns=11,
        verification_ns=12,
        rejection_ns=13,
        proposer="suffix",
        lookahead=LookaheadOutcome.HIT,
        draft_timings=TIMINGS,
        target_timings=TIMINGS,
    ),
    SpeculationStatistics(
        *(1, 2, 1, (1, 0), 0, 11, 12, 13),
        (ProposerStatistics("suffix", 1, 2, 1),),
        LookaheadCounts(1, 0, 2),
    ),
)
SECOND = ToldRound(
    (OutputToken(8, TokenOrigin.BONUS, None, 0.5),),
    None,
    SpeculationStatistics(
        *(2, 2, 1, (1, 0), 1, 21, 22, 23),
        (ProposerStatistics("suffix", 1, 2, 1),),
        LookaheadCounts(1, 1, 2),
        NoDraftReason.LATE,
        "too late",
    ),
)
PLAN = GenerationPlan(
    request_id="r-1",
    prompt_token_ids=(3, 4, 5),
    sampling=SamplingParams(temperature=0.5, top_k=40, top_p=0.9, seed=7),
    max_tokens=37,
    stops=("\n\n",),
    stop_token_ids=frozenset({2}),
    num_logprobs=2,
    num_speculative_tokens=4,
    is_adaptive=True,
    include_steps=True,
    mode=VerificationMode.REJECTION,
    tenant=TENANT,
    note="for later",
)
STORED = (
    b'\x02[[[5,"accepted",0.5,0.25,-1.25,[[5,-1.25],[7,-2.5]]],[6,"recovered",null,0.125,-2.0,[]]],'
    b'[0,3,[[5,"five",0.5,0.25,"accepted"],[9,"nine",0.75,0.0,"rejected"]],'
    b'[6,"recovered",null,0.125,null,[]],"six",11,12,13,"suffix","hit",'
    b"[1000,20000000,21000000,3,12,500000],[1000,20000000,21000000,3,12,500000]],"
    b'[1,2,1,[1,0],0,11,12,13,[["suffix",1,2,1]],[1,0,2],null,""]]'
)


def test_a_record_of_the_version_before_is_read():
    record = unpack_record(SESSION_ID, TENANT, FIELDS)
    assert plan_of(record.head) == PLAN
    told = [unpack_told(each.payload, each.token_ids) for each in record.rounds]
    assert told == [FIRST, SECOND]


def test_a_round_is_stored_as_is_written_down_here():
    """Who changes these bytes gives the format a number of its own, and reads both."""
    assert pack_told(FIRST) == STORED
    assert unpack_told(STORED, (5, 6)) == FIRST


@pytest.mark.parametrize("told", [FIRST, SECOND])
def test_a_round_comes_back_as_it_was(told: ToldRound):
    token_ids = [token.token_id for token in told.tokens]
    assert unpack_told(pack_told(told), token_ids) == told
    with pytest.raises(SessionCorruptError, match="tokens"):
        unpack_told(pack_told(told), [*token_ids, 1])


def test_what_is_infinitely_unlikely_is_stored_too():
    token = replace(RECOVERED, logprob=float("-inf"))
    told = replace(SECOND, tokens=(token,))
    assert unpack_told(pack_told(told), (6,)) == told


@pytest.mark.parametrize("payload", [b"", b"\x03[]", b"[]", b"\x01"])
def test_a_round_of_a_later_version_is_refused_in_words(payload: bytes):
    with pytest.raises(SessionCorruptError, match="another version of Forethought"):
        unpack_told(payload, ())


@pytest.mark.parametrize(
    "payload", [b"\x02", b"\x02[]", b"\x02[[],null,null]", b"\x12", b"\x1a\xff"]
)
def test_a_round_that_is_none_is_refused(payload: bytes):
    with pytest.raises(SessionCorruptError, match="cannot be read"):
        unpack_told(payload, ())


@pytest.mark.parametrize("field", ["h", "r0"])
def test_a_record_that_is_laid_out_otherwise_is_refused_in_words(field: str):
    name = field.encode()
    later = FIELDS[name][:3] + b"\x09" + FIELDS[name][4:]
    with pytest.raises(SessionCorruptError, match="another version of Forethought stored it"):
        unpack_record(SESSION_ID, TENANT, {**FIELDS, name: later})


def test_a_request_that_says_more_than_this_version_knows_is_refused_in_words():
    head = head_of(PLAN, SESSION_ID, "f" * 32)
    later = replace(head, request=json.dumps(json.loads(head.request) | {"beam": 4}).encode())
    with pytest.raises(SessionCorruptError, match="another version of Forethought"):
        plan_of(later)


def test_a_record_of_this_version_is_read():
    rounds = [CommittedRound(0, 3, (5, 6), pack_told(FIRST))]
    rounds.append(CommittedRound(1, 5, (8,), pack_told(SECOND)))
    fields = {
        b"s": FIELDS[b"s"],
        b"h": pack_head(head_of(PLAN, SESSION_ID, "f" * 32)),
        **{b"r%d" % each.round: pack_round(SESSION_ID, each) for each in rounds},
    }
    record = unpack_record(SESSION_ID, TENANT, fields)
    assert plan_of(record.head) == PLAN
    assert list(record.rounds) == rounds
