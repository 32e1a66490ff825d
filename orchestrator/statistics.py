"""Counts over the rounds of a request."""

from itertools import zip_longest

from forethought.generation import JudgedToken, SpeculationStatistics, Step, Verdict
from forethought.models.tokenizer import TextTokenizer
from orchestrator.decode_loop import Round


def add_round(
    statistics: SpeculationStatistics, judged: Round, num_draft_failures: int
) -> SpeculationStatistics:
    """The statistics with one more round; `num_draft_failures` is the sum so far."""
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
        num_draft_failures=num_draft_failures,
        speculation_ns=statistics.speculation_ns + judged.speculation_ns,
        verification_ns=statistics.verification_ns + judged.verification_ns,
        rejection_ns=statistics.rejection_ns + judged.rejection_ns,
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
                draft_prob=float(token.draft_probs[place]),
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
    )


def _verdict(index: int, num_accepted: int) -> Verdict:
    if index < num_accepted:
        return Verdict.ACCEPTED
    return Verdict.REJECTED if index == num_accepted else Verdict.DROPPED
