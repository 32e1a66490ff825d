"""Coupled sampling: whatever is drafted, the text is the chain of the target's own choices.

Draft tokens, supports and K are gone through exhaustively on a vocabulary of three, for many seeds.
Evidence comes from the real `measure_coupled` and crosses the real wire format.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch

from forethought.engine.rows.coupling import draw_coupled, measure_coupled
from forethought.rpc.codecs.tier.evidence import evidence_from_proto, evidence_to_proto
from forethought.sampling.coupled import judge_coupled
from forethought.sampling.randomness import KeyedRandomness, coupling_key
from forethought.sampling.types import (
    Draft,
    DraftedToken,
    Evidence,
    PositionEvidence,
    TokenOrigin,
    as_probabilities,
    coupled_guess,
)
from forethought.tier import EvidenceRound, RoundTimings
from tests.exactness import coupled_twins
from tests.exactness.enumeration import COMMITTED, Model, Tokens, random_model
from tests.exactness.sampling_check import ALPHA, p_value
from tests.exactness.scenarios import ONE_HOT, POSITIVE, WITH_ZEROS
from tests.exactness.twins import Judge

VOCAB = range(3)
MAX_K = 3
SEEDS = [0, 1, 2**63, 2**64 - 1, *range(1000, 1012)]
SUPPORTS = [tuple(token for token in VOCAB if number >> token & 1) for number in range(8)]
PREFIXES = [tokens for length in range(MAX_K + 1) for tokens in product(VOCAB, repeat=length)]
TARGETS = {
    name: random_model(f"target of {name}", weights)
    for name, weights in [
        ("all tokens likely", POSITIVE),
        ("zeros in p", WITH_ZEROS),
        ("one-hot p", ONE_HOT),
    ]
}
TARGET = TARGETS["all tokens likely"]
NUM_SAMPLES = 20_000

Measure = Callable[[torch.Tensor, Sequence[Sequence[int]], Sequence[int]], list[PositionEvidence]]


@dataclass(frozen=True, slots=True)
class Tiers:
    """What draft, target and orchestrator do. The defaults are right; a twin replaces some."""

    draft_key: coupled_twins.NoiseKey = coupled_twins.right_key
    target_key: coupled_twins.NoiseKey = coupled_twins.right_key
    measure: Measure = measure_coupled
    judge: Judge = judge_coupled


TIERS = {
    "as they are": Tiers(),
    "noise keyed by round": Tiers(
        coupled_twins.by_round_too,
        coupled_twins.by_round_too,
        judge=coupled_twins.judge_coupled_with(coupled_twins.by_round_too),
    ),
    "noise not keyed by position": Tiers(
        coupled_twins.not_by_position,
        coupled_twins.not_by_position,
        judge=coupled_twins.judge_coupled_with(coupled_twins.not_by_position),
    ),
    "tail tokens by inversion": Tiers(measure=coupled_twins.tail_by_inversion),
    "a judge that accepts always": Tiers(judge=coupled_twins.accept_always),
    "a draft with noise of its own": Tiers(draft_key=coupled_twins.of_another_seed),
}


def rows(model: Model, prefixes: Sequence[Tokens]) -> torch.Tensor:
    """[n, V] float32, what a model says after each prefix."""
    return torch.tensor([[float(p) for p in model(COMMITTED + prefix)] for prefix in prefixes])


def own_chain(target: Model, seed: int, length: int = MAX_K + 1) -> Tokens:
    """The target's choices, one after the other: the least E / p, by the scalar noise."""
    chain: Tokens = ()
    noise = KeyedRandomness(seed, 0)
    for _ in range(length):
        p = rows(target, [chain])[0].double().tolist()
        position = len(COMMITTED) + len(chain)
        likely = [token for token in VOCAB if p[token]]
        chain += (min(likely, key=lambda token: noise.exponential(position, token) / p[token]),)
    return chain


def evidence_of_all(
    target: Model, seed: int, measure: Measure
) -> dict[tuple[Tokens, Tokens], PositionEvidence]:
    """Evidence after every prefix and for every support, as it comes out of the wire."""
    cases = list(product(PREFIXES, SUPPORTS))
    keys = [coupling_key(seed, len(COMMITTED) + len(prefix)) for prefix, _ in cases]
    prefixes, supports = [prefix for prefix, _ in cases], [support for _, support in cases]
    positions = measure(rows(target, prefixes), supports, keys)
    return dict(zip(cases, over_the_wire(Evidence(tuple(positions))).positions, strict=True))


def over_the_wire(evidence: Evidence) -> Evidence:
    return evidence_from_proto(
        evidence_to_proto(EvidenceRound(0, 0, evidence, RoundTimings()))
    ).evidence


def all_drafts() -> Iterator[tuple[Draft, list[tuple[Tokens, Tokens]]]]:
    """Every draft of up to three guesses with every support, and the evidence that it needs."""
    choices = [(token, support) for support in SUPPORTS for token in support]
    for k in range(MAX_K + 1):
        for guesses in product(choices, repeat=k):
            tokens = tuple(token for token, _ in guesses)
            drafted = tuple(
                DraftedToken(token, support, as_probabilities([1 / len(support)] * len(support)))
                for token, support in guesses
            )
            supports = [*(support for _, support in guesses), ()]
            yield Draft(drafted), [(tokens[:i], support) for i, support in enumerate(supports)]


DRAFTS = list(all_drafts())


def follows_the_chain(target: Model, seed: int, tiers: Tiers) -> bool:
    """Whether every draft ends in the target's own choices, accepted as far as it foresaw them."""
    chain = own_chain(target, seed)
    evidence = evidence_of_all(target, seed, tiers.measure)
    for draft, asked in DRAFTS:
        judged = Evidence(tuple(evidence[each] for each in asked))
        outcome = tiers.judge(draft, judged, KeyedRandomness(seed, 5), len(COMMITTED))
        said = tuple(token.token_id for token in outcome.tokens)
        accepted = [token.origin is TokenOrigin.ACCEPTED for token in outcome.tokens]
        foreseen = [guess == own for guess, own in zip(draft.token_ids, chain, strict=False)]
        num_foreseen = [*foreseen, False].index(False)
        if said != chain[: num_foreseen + 1] or accepted != [True] * num_foreseen + [False]:
            return False
    return True


@pytest.mark.parametrize("name", TARGETS)
def test_every_draft_ends_in_the_targets_own_choices(name: str) -> None:
    assert len(DRAFTS) == 1 + 12 + 12**2 + 12**3
    assert all(follows_the_chain(TARGETS[name], seed, Tiers()) for seed in SEEDS)


@pytest.mark.parametrize("twin", ["tail tokens by inversion", "a judge that accepts always"])
def test_the_chain_of_choices_rejects_the_broken_twin(twin: str) -> None:
    assert not all(follows_the_chain(TARGET, seed, TIERS[twin]) for seed in SEEDS)


def test_a_guess_without_a_distribution_is_judged_like_one_with_itself_as_support() -> None:
    for seed in SEEDS[:6]:
        evidence = evidence_of_all(TARGET, seed, measure_coupled)
        for token in VOCAB:
            checked = Evidence((evidence[(), (token,)], evidence[(token,), ()]))
            with_q = Draft((DraftedToken(token, (token,), as_probabilities([1.0])),))
            randomness = KeyedRandomness(seed, 0)
            guessed, drawn = (
                judge_coupled(draft, checked, randomness, len(COMMITTED))
                for draft in (Draft((coupled_guess(token),)), with_q)
            )
            assert [each.token_id for each in guessed.tokens] == [
                each.token_id for each in drawn.tokens
            ]
            assert all(each.draft_prob is None for each in guessed.tokens)


def text(seed: int, k: int, draft_model: Model, tiers: Tiers, length: int = 2) -> Tokens:
    """Some tokens, by rounds of speculation, verification and judgement as the stack has them."""
    output: Tokens = ()
    number = 0
    while len(output) < length:
        start = len(COMMITTED) + len(output)
        guesses: Tokens = ()
        for _ in range(k):
            key = coupling_key(*tiers.draft_key(seed, number, start + len(guesses)))
            guesses += (draw_coupled(rows(draft_model, [output + guesses]), [key])[0].token_id,)
        prefixes = [output + guesses[:i] for i in range(k + 1)]
        keys = [coupling_key(*tiers.target_key(seed, number, start + i)) for i in range(k + 1)]
        supports = [*((token,) for token in guesses), ()]
        positions = tiers.measure(rows(TARGET, prefixes), supports, keys)
        outcome = tiers.judge(
            Draft(tuple(coupled_guess(token) for token in guesses)),
            over_the_wire(Evidence(tuple(positions))),
            KeyedRandomness(seed, number),
            start,
        )
        output += tuple(token.token_id for token in outcome.tokens)
        number += 1
    return output[:length]


DRAFT_MODELS = {"good": TARGET, "bad": random_model("bad draft", POSITIVE)}


def depends_on_the_target_alone(tiers: Tiers) -> bool:
    """Whether the text for a seed is the same with every draft and every K."""
    return all(
        len({text(seed, k, model, tiers, 6) for k in range(4) for model in DRAFT_MODELS.values()})
        == 1
        for seed in range(40)
    )


@pytest.mark.parametrize("tiers", ["as they are", "a draft with noise of its own"])
def test_the_text_does_not_depend_on_the_draft(tiers: str) -> None:
    assert depends_on_the_target_alone(TIERS[tiers])


@pytest.mark.parametrize("twin", ["noise keyed by round", "tail tokens by inversion"])
def test_a_text_that_depends_on_the_draft_is_noticed(twin: str) -> None:
    assert not depends_on_the_target_alone(TIERS[twin])


def p_value_of_pairs(tiers: Tiers) -> float:
    """Of the pairs that many seeds begin with."""
    pairs: Counter[Any] = Counter(text(seed, 2, DRAFT_MODELS["bad"], tiers) for seed in range(2000))
    first = rows(TARGET, [()])[0].double().tolist()
    expected = {}
    for a, p in enumerate(first):
        for b, conditional in enumerate(rows(TARGET, [(a,)])[0].double().tolist()):
            expected[a, b] = p * conditional
    return p_value(pairs, expected)


@pytest.mark.parametrize("tiers", ["as they are", "a draft with noise of its own"])
def test_texts_of_many_seeds_are_distributed_as_the_target_says(tiers: str) -> None:
    assert p_value_of_pairs(TIERS[tiers]) > ALPHA


@pytest.mark.parametrize("twin", ["noise not keyed by position", "tail tokens by inversion"])
def test_texts_of_another_distribution_are_noticed(twin: str) -> None:
    assert p_value_of_pairs(TIERS[twin]) < ALPHA


def test_draft_and_target_choose_alike_as_often_as_the_paper_promises() -> None:
    """At least (1 - d) / (1 + d) of the time, d being the distance of p and q."""
    dice = np.random.default_rng(0)
    p = dice.dirichlet([1.0] * 20)
    q = 0.8 * p + 0.2 * dice.dirichlet([1.0] * 20)
    keys = [coupling_key(seed, 0) for seed in range(NUM_SAMPLES)]
    by_p, by_q = (
        np.array(
            [
                guess.token_id
                for guess in draw_coupled(torch.tensor(each).float().expand(len(keys), -1), keys)
            ]
        )
        for each in (p, q)
    )
    distance = float(np.abs(p - q).sum()) / 2
    least = (1 - distance) / (1 + distance)
    deviation = (least * (1 - least) / NUM_SAMPLES) ** 0.5
    assert float((by_p == by_q).mean()) > least - 4 * deviation
