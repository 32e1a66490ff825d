"""What a probe found, ready to be shown: sums of speculation, and the prefixes that differ most."""

from collections.abc import Mapping
from dataclasses import dataclass

from forethought.probe.homogeneity import Outcome, p_value_of_share
from forethought.probe.sampling import Samples
from forethought.probe.verdict import Judgement, PrefixTest, Verdict

_NUM_DEVIATIONS = 5


@dataclass(frozen=True, slots=True)
class Speculation:
    """What was speculated in the speculative arm, over all prompts."""

    num_answers: int
    num_drafted_answers: int
    num_draft_tokens: int
    num_accepted_tokens: int
    num_draft_failures: int


@dataclass(frozen=True, slots=True)
class Deviation:
    """A prefix, or all rare ones together, and how often each arm began with it."""

    token_ids: Outcome  # empty for rare ones together
    text: str
    num_prefixes: int
    plain: float  # frequency, from 0 to 1
    speculative: float
    p_value: float  # of this one alone, against all others


@dataclass(frozen=True, slots=True)
class Report:
    """A judgement with what explains it."""

    judgement: Judgement
    speculation: Speculation
    deviations: tuple[Deviation, ...]  # of the worst test, if the verdict is biased


def make_report(judgement: Judgement, samples: Samples) -> Report:
    """Adds up and looks closer."""
    arms = [answers.speculative for answers in samples.answers]
    speculation = Speculation(
        sum(len(arm.token_ids) for arm in arms),
        sum(arm.num_drafted_answers for arm in arms),
        sum(arm.num_draft_tokens for arm in arms),
        sum(arm.num_accepted_tokens for arm in arms),
        sum(arm.num_draft_failures for arm in arms),
    )
    is_biased = judgement.verdict is Verdict.BIASED
    deviations = _deviations(judgement.worst, samples.texts) if is_biased else ()
    return Report(judgement, speculation, deviations)


def _deviations(test: PrefixTest, texts: Mapping[int, str]) -> tuple[Deviation, ...]:
    num_samples = test.comparison.num_samples
    deviations = []
    for cell in test.comparison.cells[:_NUM_DEVIATIONS]:
        token_ids = cell.outcomes[0] if len(cell.outcomes) == 1 else ()
        deviations.append(
            Deviation(
                token_ids,
                "".join(texts[token_id] for token_id in token_ids),
                len(cell.outcomes),
                cell.first / num_samples,
                cell.second / num_samples,
                p_value_of_share(cell.first, cell.second, num_samples),
            )
        )
    return tuple(deviations)
