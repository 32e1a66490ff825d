"""Counts over the rounds of a request."""

from itertools import zip_longest

from forethought.generation import (
    JudgedToken,
    ProposerStatistics,
    SpeculationStatistics,
    Step,
    Verdict,
)
from forethought.models.text.tokenizer import TextTokenizer
from forethought.sampling.types import Draft, LookaheadOutcome
from forethought.tier import LookaheadCounts
from orchestrator.loop.round import Round


def add_round(statistics: SpeculationStatistics, judged: Round) -> SpeculationStatistics:
    """The statistics with one more round."""
    num_accepted = judged.outcome.num_accepted_tokens
    return SpeculationStatistics(
        num_rounds=statistics.num_rounds + 1,
        num_draft_tokens=statistics.num_draft_tokens + len(judged.draft),
        num_accepted_tokens=statistics.num_accepted_tokens + num_accepted,
        num_accepted_tokens_per_position=tuple(
            before + now
            for before, now in zip_longest(
                statistics.num_accepted_tokens_per_position,
                [int(index < num_accepted) for index in range(len(judged.draft))],
                fillvalue=0,
            )
        ),
        num_draft_failures=statistics.num_draft_failures + judged.drafted.has_failed,
        proposers=_add_to_proposer(statistics, judged),
        lookahead=_add_to_lookahead(statistics.lookahead, judged.draft),
        speculation_ns=statistics.speculation_ns + judged.speculation_ns,
        verification_ns=statistics.verification_ns + judged.verification_ns,
        rejection_ns=statistics.rejection_ns + judged.rejection_ns,
    )


def _add_to_proposer(
    statistics: SpeculationStatistics, judged: Round
) -> tuple[ProposerStatistics, ...]:
    """Adds a round to the counts of the proposer that drafted for it."""
    if not judged.draft.tokens:
        return statistics.proposers
    name = judged.draft.proposer
    others = tuple(each for each in statistics.proposers if each.proposer != name)
    before = statistics.of(name)
    after = ProposerStatistics(
        name,
        before.num_rounds + 1,
        before.num_draft_tokens + len(judged.draft),
        before.num_accepted_tokens + judged.outcome.num_accepted_tokens,
    )
    return (*others, after)


def _add_to_lookahead(counts: LookaheadCounts, draft: Draft) -> LookaheadCounts:
    return LookaheadCounts(
        counts.num_hits + (draft.lookahead is LookaheadOutcome.HIT),
        counts.num_misses + (draft.lookahead is LookaheadOutcome.MISS),
        counts.num_wasted_tokens + draft.num_wasted_tokens,
    )


def as_step(judged: Round, tokenizer: TextTokenizer) -> Step:
    """The three steps of a round, made visible."""
    num_accepted = judged.outcome.num_accepted_tokens
    final = judged.outcome.final
    drafted = []
    for index, (token, checked) in enumerate(
        zip(judged.draft.tokens, judged.evidence.positions, strict=False)
    ):
        place = token.support_token_ids.index(token.token_id)
        drafted.append(
            JudgedToken(
                token_id=token.token_id,
                text=tokenizer.token_text(token.token_id),
                draft_prob=token.draft_prob,
                target_prob=float(checked.target_probs[place]),
                verdict=_verdict(index, num_accepted),
            )
        )
    return Step(
        round=judged.session.round,
        position=judged.session.position,
        drafted=tuple(drafted),
        final=final,
        final_text=tokenizer.token_text(final.token_id),
        speculation_ns=judged.speculation_ns,
        verification_ns=judged.verification_ns,
        rejection_ns=judged.rejection_ns,
        proposer=judged.draft.proposer,
        lookahead=judged.draft.lookahead,
        draft_timings=judged.drafted.timings,
        target_timings=judged.measured.timings,
    )


def _verdict(index: int, num_accepted: int) -> Verdict:
    if index < num_accepted:
        return Verdict.ACCEPTED
    return Verdict.REJECTED if index == num_accepted else Verdict.DROPPED
