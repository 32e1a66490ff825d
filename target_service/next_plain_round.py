"""The next round, computed while the evidence of this one travels.

A round without guesses ends in one way only: with the token that the target has drawn. Where the
orchestrator expects to guess nothing in the next round either, that round is known as soon as this
one is measured, and its pass need not wait until the request for it has come: passes follow each
other as they would in a server that does everything in one process.

It stays the orchestrator that decides. If it asks for anything else, what was computed is dropped,
and the sequence goes back to what is committed, as after any guess that was wrong.
"""

from dataclasses import replace

from forethought.sampling.types import Evidence
from target_service.verifier import Verification


def next_plain_round(last: Verification, evidence: Evidence) -> Verification | None:
    """The round after `last`, if that is known to be plain."""
    request = last.request
    if not request.next_is_plain or request.drafts:
        return None
    if request.position >= last.sequence.max_len:
        return None
    following = replace(
        request,
        round=request.round + 1,
        position=request.position + 1,
        committed_token_ids=[evidence.positions[0].tail_token_id],
    )
    return replace(last, request=following)
