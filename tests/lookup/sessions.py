"""Sessions to look guesses up for, and what is found."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from forethought.sampling.params import SamplingParams
from orchestrator.lookup.lookup import Lookup, LookupSession
from orchestrator.loop.session import Session

GREEDY = SamplingParams(temperature=0, seed=5)


def a_session(token_ids: Sequence[int], **fields: Any) -> Session:
    """At temperature 0, unless it says otherwise."""
    return Session("s", tuple(token_ids), 10**6, fields.pop("sampling", GREEDY), **fields)


def after(session: Session, *token_ids: int) -> Session:
    """A round later, in which these were committed."""
    return replace(session, token_ids=(*session.token_ids, *token_ids), round=session.round + 1)


def guesses(lookup: LookupSession, session: Session, k: int = 4) -> list[int]:
    """The token ids of the next draft."""
    return [token.token_id for token in lookup.draft(session, k)]


def found(lookup: Lookup, token_ids: Sequence[int], k: int = 4) -> list[int]:
    """What is guessed for a new session."""
    session = a_session(token_ids)
    return guesses(lookup.open(session), session, k)
