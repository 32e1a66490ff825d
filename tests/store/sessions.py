"""Sessions to store."""

from forethought.sampling.params import SamplingParams
from forethought.sampling.types import VerificationMode
from forethought.store.sessions.records import CommittedRound, SessionHead, new_session_id

TENANT = "a tenant"


def a_head(session_id: str = "", prompt: tuple[int, ...] = (1, 2, 3), **changes) -> SessionHead:
    """The beginning of a session."""
    facts = {
        "session_id": session_id or new_session_id(),
        "tenant": TENANT,
        "model": "m" * 32,
        "prompt_token_ids": prompt,
        "sampling": SamplingParams(temperature=0.7, top_p=0.9, seed=2**64 - 1),
        "mode": VerificationMode.COUPLED,
        "max_len": 500,
        "request": b"\x00stop texts and the like",
    }
    return SessionHead(**(facts | changes))


def some_rounds(num_rounds: int, *, first: int = 0, position: int = 3) -> list[CommittedRound]:
    """Rounds of one, two or three tokens, each told by its number."""
    rounds = []
    for number in range(num_rounds):
        token_ids = tuple(range(1000 + number, 1001 + number + number % 3))
        rounds.append(CommittedRound(number, position, token_ids, b"payload %d" % number))
        position += len(token_ids)
    return rounds[first:]
