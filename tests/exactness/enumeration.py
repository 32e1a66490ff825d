"""Rounds of the whole stack, enumerated: which sequences they make, with which probability.

A `Scenario` says what the two models predict; a `Stack` says what the tiers do with it. Each tier
is reduced to its arithmetic, in fractions, with the real `draw_index` and the real judge. Nothing
is sampled: `joint_distribution` follows every path (`symbolic.explore`).
"""

import random
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from typing import Any

import numpy as np

from forethought.sampling.randomness import Randomness, Stream
from forethought.sampling.rejection import draw_index, judge
from forethought.sampling.types import Draft, DraftedToken, Evidence, PositionEvidence
from tests.exactness.symbolic import SymbolicRandomness, explore
from tests.exactness.twins import Judge

Tokens = tuple[int, ...]
Distribution = tuple[Any, ...]  # [V] fractions, summing to 1; they stand in for floats
Model = Callable[[Tokens], Distribution]  # of the whole prefix

COMMITTED: Tokens = (1, 0)
"""What the session holds before the round."""
NO_TOKEN = -1
"""Stands for a tail token where there is no tail. In an output it would be noticed."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """What the models predict, and how much of it the draft uses."""

    target: Model
    draft: Model  # before truncation
    support_size: int  # M
    num_speculative_tokens: int = 3  # K


@dataclass(frozen=True, slots=True)
class Stack:
    """What the tiers do. The defaults are right; a broken twin replaces one of them."""

    judge: Judge = judge
    report: Callable[[Draft, Sequence[Fraction]], Draft] = lambda draft, kept_masses: draft
    target_randomness: Callable[[Randomness], Randomness] = lambda randomness: randomness
    not_by_round: Collection[Stream] = ()  # streams that draw the same in every round
    stops: Callable[[Distribution], bool] = lambda _: False  # at a place, of the draft before cuts
    drops: Callable[[DraftedToken], bool] = lambda _: False  # a guess, and with it the draft's rest


def random_model(name: str, weights: Sequence[int], vocab_size: int = 3) -> Model:
    """A model that weighs each token with one of `weights`, at random for each prefix.

    The same name gives the same model. A prefix whose weights are all zero gets a one-hot
    distribution, so `weights=(0,)` is a model at temperature 0.
    """

    @cache
    def predict(prefix: Tokens) -> Distribution:
        dice = random.Random(f"{name} {prefix}")
        drawn = [dice.choice(weights) for _ in range(vocab_size)]
        if not any(drawn):
            drawn[dice.randrange(vocab_size)] = 1
        return tuple(Fraction(weight, sum(drawn)) for weight in drawn)

    return predict


def is_lossless(scenario: Scenario, stack: Stack, num_rounds: int = 1) -> bool:
    """Whether all sequences have exactly the target's probability."""
    joint = joint_distribution(scenario, stack, num_rounds)
    return joint == target_distribution(scenario, num_rounds)


def target_distribution(scenario: Scenario, num_rounds: int = 1) -> dict[Tokens, Fraction]:
    """What the target alone says of the tokens that `joint_distribution` looks at."""
    return dict(_completions(scenario, (), scenario.num_speculative_tokens + num_rounds))


def joint_distribution(
    scenario: Scenario, stack: Stack, num_rounds: int = 1
) -> dict[Tokens, Fraction]:
    """What so many rounds say of the next K + `num_rounds` tokens; sequences without mass are left
    out.

    Rounds that end sooner are completed by the target, which is what later ones would do if each
    were lossless; what goes beyond is cut.
    """
    num_tokens = scenario.num_speculative_tokens + num_rounds
    joint: defaultdict[Tokens, Fraction] = defaultdict(Fraction)
    for output, probability in explore(lambda noise: _play(scenario, stack, noise, num_rounds)):
        for tokens, conditional in _completions(scenario, output[:num_tokens], num_tokens):
            joint[tokens] += probability * conditional
    return dict(joint)


def mean_num_accepted(scenario: Scenario, stack: Stack) -> Fraction:
    """How many guesses one round accepts on average."""
    rounds = explore(lambda noise: _play(scenario, stack, noise, num_rounds=1))
    return sum(((len(output) - 1) * chance for output, chance in rounds), Fraction(0))


def _play(
    scenario: Scenario, stack: Stack, randomness: SymbolicRandomness, num_rounds: int
) -> Tokens:
    output: Tokens = ()
    for number in range(num_rounds):
        noise = randomness.of_round(number, stack.not_by_round)
        output += _play_round(scenario, stack, noise, COMMITTED + output)
    return output


def _play_round(
    scenario: Scenario, stack: Stack, randomness: Randomness, committed: Tokens
) -> Tokens:
    draft = _propose(scenario, stack, randomness, committed)
    evidence = _verify(scenario, draft, stack.target_randomness(randomness), committed)
    outcome = stack.judge(draft, evidence, randomness, len(committed))
    return tuple(token.token_id for token in outcome.tokens)


def _propose(scenario: Scenario, stack: Stack, randomness: Randomness, prefix: Tokens) -> Draft:
    """Step 1: guesses drawn from q, the top M of the draft model, renormalised."""
    drafted: list[DraftedToken] = []
    kept_masses: list[Fraction] = []
    for _ in range(scenario.num_speculative_tokens):
        full = scenario.draft(prefix)
        if stack.stops(full):
            break
        support = sorted(range(len(full)), key=lambda i: -full[i])[: scenario.support_size]
        kept_masses.append(sum((full[i] for i in support), Fraction(0)))
        q = [full[i] / kept_masses[-1] for i in support]  # [M]
        place = draw_index(q, randomness.uniform(Stream.DRAFT, len(prefix)))
        guess = DraftedToken(support[place], support, np.array(q, dtype=object))
        if stack.drops(guess):
            kept_masses.pop()
            break
        drafted.append(guess)
        prefix = (*prefix, support[place])
    return stack.report(Draft(tuple(drafted)), kept_masses)


def _verify(scenario: Scenario, draft: Draft, randomness: Randomness, prefix: Tokens) -> Evidence:
    """Step 2: p over the support of each q and one token from outside; at last all of p."""
    positions: list[PositionEvidence] = []
    for support, token in [(d.support_token_ids, d.token_id) for d in draft.tokens] + [((), 0)]:
        p = scenario.target(prefix)
        outside: list[Any] = [0 if i in support else p[i] for i in range(len(p))]
        tail = NO_TOKEN
        if any(outside):
            tail = draw_index(outside, randomness.uniform(Stream.TAIL, len(prefix)))
        positions.append(
            PositionEvidence(
                target_probs=np.array([p[i] for i in support], dtype=object),  # [M]
                tail_mass=sum(outside),
                tail_token_id=tail,
                tail_token_prob=outside[tail] if any(outside) else 0,
                greedy_token_id=p.index(max(p)),
            )
        )
        prefix = (*prefix, token)
    return Evidence(tuple(positions))


def _completions(
    scenario: Scenario, output: Tokens, num_tokens: int
) -> Iterator[tuple[Tokens, Fraction]]:
    """Every continuation of `output` to `num_tokens`, with the target's probability for it."""
    if len(output) == num_tokens:
        yield output, Fraction(1)
        return
    for token, p in enumerate(scenario.target(COMMITTED + output)):
        if p:
            for tokens, conditional in _completions(scenario, (*output, token), num_tokens):
                yield tokens, p * conditional
