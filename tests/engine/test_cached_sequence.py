"""Whatever happened to a session before, its logits are those of a fresh pass over its tokens."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from forethought.engine.causal_model import CausalModel
from forethought.engine.sequence import CachedSequence
from forethought.errors import CachePositionMismatchError, InvalidArgumentError
from tests.engine.conftest import Reference
from tests.engine.ledger import MAX_LEN, VOCAB_SIZE, LedgerModel, ledger_row

TOKENS = st.lists(st.integers(0, VOCAB_SIZE - 1), max_size=5)


@dataclass(frozen=True)
class Round:
    """One round of speculation as a tier lives it, with disturbances before and in between."""

    prefill: int  # longest chunk; 0 goes without
    drafts: Sequence[int]
    by_steps: bool  # as a draft tier does it, which never feeds its last guess
    num_accepted: int  # capped at what was drafted
    final: int  # the recovered or bonus token
    missed: Sequence[int]  # tokens of rounds that went on without this tier
    overlap: int  # already known tokens that the commit repeats
    rewind: int  # tokens given up afterwards
    release: bool  # the cache is lost afterwards


ROUNDS = st.lists(
    st.builds(
        Round,
        prefill=st.integers(0, 3),
        drafts=TOKENS,
        by_steps=st.booleans(),
        num_accepted=st.integers(0, 5),
        final=st.integers(0, VOCAB_SIZE - 1),
        missed=st.one_of(st.just([]), TOKENS),
        overlap=st.integers(0, 3),
        rewind=st.sampled_from([0, 0, 0, 1, 4]),
        release=st.sampled_from([False, False, False, True]),
    ),
    max_size=6,
)
PROMPTS = st.lists(st.integers(0, VOCAB_SIZE - 1), min_size=1, max_size=8)


def play(
    sequence: CachedSequence,
    prompt: Sequence[int],
    rounds: Sequence[Round],
    check: Callable[[list[int], torch.Tensor], None],
) -> None:
    """Plays rounds, keeping the tokens apart, and checks all logits against them.

    `check` gets the tokens so far and [n, V] logits for the last n of them.
    """
    tokens = list(prompt)
    sequence.extend(prompt)
    for turn in rounds:
        while turn.prefill and sequence.prefill(turn.prefill):
            assert sequence.num_cached_tokens < len(tokens) - 1
        if turn.by_steps:
            check(tokens, sequence.score([]))
            for count, draft in enumerate(turn.drafts[:-1], start=1):
                check([*tokens, *turn.drafts[:count]], sequence.step(draft)[None])
        else:
            check([*tokens, *turn.drafts], sequence.score(turn.drafts))
        assert sequence.token_ids == tokens

        start = max(len(tokens) - turn.overlap, 0)
        tokens += [*turn.drafts[: turn.num_accepted], turn.final, *turn.missed]
        sequence.commit(len(tokens), tokens[start:])
        assert sequence.token_ids == tokens
        if turn.release:
            sequence.release()
            assert sequence.num_cached_tokens == 0
        if turn.rewind:
            tokens = tokens[: max(len(tokens) - turn.rewind, 1)]
            sequence.commit(len(tokens), ())
        assert sequence.num_cached_tokens <= sequence.num_tokens == len(tokens)
    check(tokens, sequence.score([]))


def check_ledger(tokens: list[int], logits: torch.Tensor) -> None:
    lengths = range(len(tokens) - len(logits) + 1, len(tokens) + 1)
    assert logits.tolist() == [ledger_row(tokens[:length]) for length in lengths]


@settings(max_examples=300, deadline=None)
@given(PROMPTS, ROUNDS)
def test_the_cache_holds_exactly_the_tokens_of_the_session(prompt, rounds):
    play(CachedSequence(LedgerModel()), prompt, rounds, check_ledger)


@settings(max_examples=300, deadline=None)
@given(PROMPTS, ROUNDS, st.integers(0, 6))
def test_seen_tokens_are_the_committed_ones_each_once(prompt, rounds, num_unasked):
    sequence = CachedSequence(LedgerModel())
    num_checks = 0

    def check(tokens: list[int], logits: torch.Tensor) -> None:
        nonlocal num_checks
        num_checks += 1
        if num_checks > num_unasked:
            assert sequence.seen_token_ids().tolist() == sorted(set(sequence.token_ids))

    play(sequence, prompt, rounds, check)


@settings(max_examples=25, deadline=None)
@given(prompt=PROMPTS, rounds=ROUNDS)
def test_logits_equal_those_of_a_fresh_pass(
    tiny_model: CausalModel, reference: Reference, prompt, rounds
):
    def check(tokens: list[int], logits: torch.Tensor) -> None:
        expected = reference(tokens)[-len(logits) :]
        torch.testing.assert_close(logits, expected, atol=1e-4, rtol=1e-4)

    play(CachedSequence(tiny_model), prompt, rounds, check)


REJECTED = Round(0, (1, 2, 3), False, 1, 7, (4,), 0, 0, False)
ALL_ACCEPTED = Round(0, (1, 2, 3), True, 3, 7, (), 0, 0, False)


class TrustsPositions(CachedSequence):
    """Broken: believes that what it computed is what was committed."""

    __slots__ = ()

    def commit(self, position, committed_token_ids):
        start = position - len(committed_token_ids)
        self._log[start:] = committed_token_ids
        self._num_tokens = position
        self._cut_cache(position)


class ForgetsTheLastGuess(CachedSequence):
    """Broken: after its first pass, feeds only the tokens whose logits it wants."""

    __slots__ = ()

    def _compute(self, end, num_logits):
        if not self._cache.length:
            return super()._compute(end, num_logits)
        return self._model.forward(self._log[end - num_logits : end], self._cache, num_logits)


@pytest.mark.parametrize(
    ("broken", "rounds"),
    [(TrustsPositions, [REJECTED]), (ForgetsTheLastGuess, [ALL_ACCEPTED])],
)
def test_a_sequence_that_keeps_the_wrong_entries_is_caught(broken, rounds):
    play(CachedSequence(LedgerModel()), [0, 5], rounds, check_ledger)
    with pytest.raises(AssertionError):
        play(broken(LedgerModel()), [0, 5], rounds, check_ledger)


def test_a_fully_accepted_round_computes_only_the_bonus_token_again():
    model = LedgerModel()
    sequence = CachedSequence(model)
    sequence.extend([0, 1, 2])
    sequence.score([3, 4, 5])
    sequence.commit(7, [3, 4, 5, 6])
    sequence.score([1])
    assert model.num_computed == [6, 2]


def test_a_draft_feeds_its_last_guess_with_the_bonus_token():
    model = LedgerModel()
    sequence = CachedSequence(model)
    sequence.extend([0, 1, 2])
    sequence.score([])
    sequence.step(3)  # and guesses 4, which is never fed
    sequence.commit(6, [3, 4, 5])
    sequence.score([])
    assert model.num_computed == [3, 1, 2]


def test_accepted_guesses_keep_their_entries_and_rejected_ones_lose_theirs():
    sequence = CachedSequence(LedgerModel())
    sequence.extend([0, 1, 2])
    sequence.score([3, 4, 5])
    assert sequence.num_cached_tokens == 6
    sequence.commit(5, [3, 7])
    assert sequence.num_cached_tokens == 4


def test_verifying_the_same_round_twice_gives_the_same_logits():
    model = LedgerModel()
    sequence = CachedSequence(model)
    sequence.extend([0, 1, 2])
    first = sequence.score([3, 4])
    sequence.commit(3, [2])
    assert torch.equal(sequence.score([3, 4]), first)
    assert model.num_computed == [5, 3]


def test_reopening_with_the_whole_prefix_computes_nothing_twice():
    model = LedgerModel()
    sequence = CachedSequence(model)
    sequence.extend([0, 1, 2])
    sequence.score([])
    sequence.commit(5, [0, 1, 2, 3, 4])
    sequence.score([])
    assert model.num_computed == [3, 2]


def test_prefill_takes_chunks_and_leaves_the_last_token_for_its_logits():
    model = LedgerModel()
    sequence = CachedSequence(model)
    sequence.extend([0] * 8)
    assert [sequence.prefill(3) for _ in range(4)] == [True, True, False, False]
    assert model.num_computed == [3, 3, 1]
    sequence.score([])
    assert model.num_computed[3:] == [1]


@pytest.mark.parametrize(("position", "committed"), [(5, [1]), (1, [1, 2]), (4, [])])
def test_a_commit_after_unknown_tokens_is_refused_and_changes_nothing(position, committed):
    sequence = CachedSequence(LedgerModel())
    sequence.extend([0, 1, 2])
    sequence.score([3, 4, 5])
    with pytest.raises(CachePositionMismatchError):
        sequence.commit(position, committed)
    assert sequence.token_ids == [0, 1, 2]
    assert sequence.num_cached_tokens == 6


@pytest.mark.parametrize("token_id", [-1, VOCAB_SIZE])
def test_tokens_outside_the_vocabulary_never_reach_the_model(token_id):
    sequence = CachedSequence(LedgerModel())
    with pytest.raises(InvalidArgumentError):
        sequence.extend([0, token_id])
    sequence.extend([0])
    with pytest.raises(InvalidArgumentError):
        sequence.score([token_id])
    with pytest.raises(InvalidArgumentError):
        sequence.step(token_id)
    check_ledger([0], sequence.score([]))


def test_a_sequence_never_outgrows_the_model():
    sequence = CachedSequence(LedgerModel())
    with pytest.raises(InvalidArgumentError):
        sequence.extend([0] * (MAX_LEN + 1))
    sequence.extend([0] * (MAX_LEN - 1))
    with pytest.raises(InvalidArgumentError):
        sequence.score([0, 0])
    sequence.score([0])
    with pytest.raises(InvalidArgumentError):
        sequence.step(0)


def test_nothing_can_be_scored_before_anything_is_committed():
    with pytest.raises(InvalidArgumentError):
        CachedSequence(LedgerModel()).score([1])


def test_a_pass_that_breaks_off_leaves_the_session_usable():
    model = LedgerModel()
    sequence = CachedSequence(model)
    sequence.extend([0, 1, 2])
    sequence.score([3])
    model.fails = True
    with pytest.raises(RuntimeError):
        sequence.score([4, 5])
    model.fails = False
    assert sequence.num_cached_tokens == 0
    check_ledger([0, 1, 2, 3], sequence.score([3]))


class WatchedModel(LedgerModel):
    """Tells what is said of the cache while a pass has filled some of it."""

    def __init__(self) -> None:
        super().__init__()
        self.sequence: CachedSequence | None = None
        self.num_said: list[int] = []

    def forward(self, token_ids, cache, num_logits):
        logits = super().forward(token_ids, cache, num_logits)
        assert self.sequence is not None
        self.num_said.append(self.sequence.num_cached_tokens)
        return logits


def test_cached_tokens_count_when_their_pass_has_ended():
    model = WatchedModel()
    model.sequence = sequence = CachedSequence(model)
    sequence.extend([0, 1, 2])
    sequence.score([3])
    sequence.step(4)
    assert model.num_said == [0, 4]
    assert sequence.num_cached_tokens == 5
