"""From the answers of both arms to a verdict, with what it is worth.

For each prompt and each length, the first tokens of the plain answers are compared with those of
the speculative ones. Bonferroni's correction makes `alpha` the chance that any of these tests
rejects a lossless deployment, however they depend on each other.

No test proves that two distributions are the same. What it can say is how large a bias it would
have found, so that is part of the verdict, and a test that would have found next to none counts
for nothing.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from forethought.probe.homogeneity import Comparison, Outcome, compare

MAX_POOLED_SHARE = 0.5
"""A comparison with more than this in one cell is blind to most of what could differ."""
FIRST_SPECULATED = 2
"""The first token comes of a round without a draft. A bias shows from here on."""


@dataclass(frozen=True, slots=True)
class Answers:
    """What one arm answered to one prompt."""

    token_ids: tuple[Outcome, ...]
    num_draft_tokens: int = 0
    num_accepted_tokens: int = 0
    num_drafted_answers: int = 0  # those with at least one drafted token
    num_draft_failures: int = 0  # rounds that wanted a draft and got none

    def prefixes(self, num_tokens: int) -> Counter[Outcome]:
        """How often the answers begin with which tokens."""
        return Counter(token_ids[:num_tokens] for token_ids in self.token_ids)


@dataclass(frozen=True, slots=True)
class PromptAnswers:
    """Equally many answers of both arms to one prompt."""

    plain: Answers
    speculative: Answers


@dataclass(frozen=True, slots=True)
class Criteria:
    """What is asked of a verdict."""

    num_tokens: int  # longest prefix; all shorter ones are compared too
    alpha: float  # chance that a lossless deployment is called biased
    max_unseen_bias: float  # in total variation; where a larger one could hide, nothing is said
    power: float = 0.9  # probability with which a bias "would have been found"


class Obstacle(Enum):
    """Why a test that found nothing says nothing."""

    RARE = "most prefixes are too rare"
    SELDOM_DRAFTED = "too few answers hold drafts"
    INSENSITIVE = "too few samples"


@dataclass(frozen=True, slots=True)
class PrefixTest:
    """The comparison of one prompt's answers by their first tokens."""

    prompt: int  # index
    num_tokens: int
    comparison: Comparison
    p_value: float
    detectable_bias: float  # total variation that is found with the power asked for
    obstacle: Obstacle | None


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """How small a bias would have been found at one length, in each of some prompts."""

    num_tokens: int
    bias: float  # total variation
    num_prompts: int


class Verdict(Enum):
    """What is said of a deployment."""

    LOSSLESS = "lossless"  # as far as the samples can tell
    BIASED = "biased"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True, slots=True)
class Judgement:
    """A verdict and what it rests on."""

    verdict: Verdict
    reason: str  # why it is inconclusive; empty otherwise
    alpha_per_test: float
    tests: tuple[PrefixTest, ...]  # by prompt, then by length

    @property
    def worst(self) -> PrefixTest:
        """The test with the least p-value, the shortest prefix of several."""
        return min(self.tests, key=lambda test: (test.p_value, test.num_tokens))

    @property
    def sensitivities(self) -> list[Sensitivity]:
        """By length, for the lengths at which tests say something."""
        telling: dict[int, list[float]] = {}
        for test in self.tests:
            if test.obstacle is None and test.num_tokens >= FIRST_SPECULATED:
                telling.setdefault(test.num_tokens, []).append(test.detectable_bias)
        return [Sensitivity(n, max(biases), len(biases)) for n, biases in sorted(telling.items())]


def judge_answers(answers: Sequence[PromptAnswers], criteria: Criteria) -> Judgement:
    """Compares all prefixes of all prompts.

    Raises:
        ValueError: the arms did not answer a prompt equally often.
    """
    alpha = criteria.alpha / (len(answers) * criteria.num_tokens)
    tests = tuple(
        _test(prompt, of_prompt, num_tokens, alpha, criteria)
        for prompt, of_prompt in enumerate(answers)
        for num_tokens in range(1, criteria.num_tokens + 1)
    )
    if any(test.p_value < alpha for test in tests):
        return Judgement(Verdict.BIASED, "", alpha, tests)
    if not any(of_prompt.speculative.num_draft_tokens for of_prompt in answers):
        return Judgement(Verdict.INCONCLUSIVE, "nothing was drafted", alpha, tests)
    obstacles = [test.obstacle for test in tests if test.num_tokens >= FIRST_SPECULATED]
    if None not in obstacles:
        [(commonest, _)] = Counter(o.value for o in obstacles if o is not None).most_common(1)
        return Judgement(Verdict.INCONCLUSIVE, commonest, alpha, tests)
    return Judgement(Verdict.LOSSLESS, "", alpha, tests)


def _test(
    prompt: int, answers: PromptAnswers, num_tokens: int, alpha: float, criteria: Criteria
) -> PrefixTest:
    plain, speculative = answers.plain, answers.speculative
    comparison = compare(plain.prefixes(num_tokens), speculative.prefixes(num_tokens))
    bias = comparison.detectable_bias(alpha, criteria.power)
    obstacle = None
    if comparison.pooled_share > MAX_POOLED_SHARE:
        obstacle = Obstacle.RARE
    elif bias > criteria.max_unseen_bias:
        obstacle = Obstacle.INSENSITIVE
    elif bias * comparison.num_samples > speculative.num_drafted_answers:
        # Answers without a draft are plain ones: the bias is at most the share of the others.
        obstacle = Obstacle.SELDOM_DRAFTED
    return PrefixTest(prompt, num_tokens, comparison, comparison.p_value, bias, obstacle)
