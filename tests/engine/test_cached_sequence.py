"""Whatever happened to a session before, its logits are those of a fresh pass over its tokens."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from forethought.engine.cache.block_pool import BlockPool
from forethought.engine.cache.sequence import CachedSequence
from forethought.engine.model.causal_model import CausalModel
from forethought.engine.model.packed import BLOCK_LEN
from forethought.errors import CachePositionMismatchError, InvalidArgumentError
from tests.engine.conftest import Reference
from tests.engine.ledger import MAX_LEN, VOCAB_SIZE, LedgerModel, a_sequence, ledger_row
from tests.engine.token_pool import compute, run, score, step

TOKEN = st.integers(0, VOCAB_SIZE - 1)
TOKENS = st.lists(TOKEN, max_size=5)


@dataclass(frozen=True, kw_only=True)
class Round:
    """One round of speculation as a tier lives it, with disturbances before and in between."""

    prefill: int = 0  # longest chunk; 0 goes without
    drafts: Sequence[int] = ()
    by_steps: bool = False  # as a draft tier does it, which never feeds its last guess
    num_accepted: int = 0  # capped at what was drafted
    final: int = 7  # the recovered or bonus token
    missed: Sequence[int] = ()  # tokens of rounds that went on without this tier
    overlap: int = 0  # already known tokens that the commit repeats
    rewind: int = 0  # tokens given up afterwards
    preempt: bool = False  # the blocks go to others while the guesses are in the log
    release: bool = False  # the blocks are lost afterwards


SELDOM = st.sampled_from([False, False, False, True])
ROUNDS = st.lists(
    st.builds(
        Round,
        prefill=st.sampled_from([0, 1, 2, 3, 16, 20]),
        drafts=TOKENS,
        by_steps=st.booleans(),
        num_accepted=st.integers(0, 5),
        final=TOKEN,
        missed=st.one_of(st.just([]), TOKENS),
        overlap=st.sampled_from([0, 1, 2, 3, 20]),
        rewind=st.sampled_from([0, 0, 0, 1, 4, 20]),
        preempt=SELDOM,
        release=SELDOM,
    ),
    max_size=5,
)
# Within a block, and over the ends of one or two.
PROMPTS = st.one_of(
    st.lists(TOKEN, min_size=1, max_size=8), st.lists(TOKEN, min_size=14, max_size=40)
)

SESSIONS = st.tuples(TOKENS, ROUNDS.map(lambda rounds: rounds[:4]))
"""How a session goes on after the prompt that it shares with others."""

LONGEST = MAX_LEN // BLOCK_LEN
"""Blocks of one session at most."""

Check = Callable[[list[int], torch.Tensor], None]
"""Gets the tokens so far and [n, V] logits for the last n of them."""


@dataclass
class Player:
    """Plays the rounds of one session, keeping its tokens apart, and checks all logits."""

    model: CausalModel
    sequence: CachedSequence
    check: Check
    tokens: list[int] = field(default_factory=list)

    def open(self, prompt: Sequence[int]) -> None:
        self.tokens = list(prompt)
        self.sequence.extend(prompt)

    def play(self, turn: Round) -> None:
        self._prefill(turn)
        if turn.by_steps:
            self._draft(turn)
        else:
            self.sequence.speculate(turn.drafts)
            self._disturb(turn)
            self._compute(turn.drafts, len(turn.drafts) + 1)
        assert self.sequence.token_ids == self.tokens
        self._commit(turn)

    def finish(self) -> None:
        self.sequence.speculate([])
        self._compute([], 1)

    def _prefill(self, turn: Round) -> None:
        self.sequence.take_prefix()
        while turn.prefill and self.sequence.num_uncomputed > 1:
            run(self.model, self.sequence, min(turn.prefill, self.sequence.num_uncomputed - 1), 0)
            assert self.sequence.num_cached_tokens < len(self.tokens)

    def _draft(self, turn: Round) -> None:
        self.sequence.speculate([])
        self._compute([], 1)
        for count, draft in enumerate(turn.drafts[:-1], start=1):
            self.sequence.guess(draft)
            self._disturb(turn)
            self._compute(turn.drafts[:count], 1)

    def _disturb(self, turn: Round) -> None:
        if turn.preempt:
            self.sequence.release()
            self.sequence.take_prefix()

    def _compute(self, drafts: Sequence[int], num_logits: int) -> None:
        self.check([*self.tokens, *drafts], compute(self.model, self.sequence, num_logits))

    def _commit(self, turn: Round) -> None:
        start = max(len(self.tokens) - turn.overlap, 0)
        self.tokens += [*turn.drafts[: turn.num_accepted], turn.final, *turn.missed]
        self.sequence.commit(len(self.tokens), self.tokens[start:])
        assert self.sequence.token_ids == self.tokens
        if turn.release:
            self.sequence.release()
            assert self.sequence.num_cached_tokens == 0
        if turn.rewind:
            self.tokens = self.tokens[: max(len(self.tokens) - turn.rewind, 1)]
            self.sequence.commit(len(self.tokens), ())
        assert self.sequence.num_cached_tokens <= self.sequence.num_tokens == len(self.tokens)


def play(
    model: CausalModel, prompt: Sequence[int], rounds: Sequence[Round], check: Check
) -> CachedSequence:
    """Plays the rounds of a session that has a pool to itself."""
    sequence = a_sequence(pool=a_pool(model))
    play_on(model, sequence, prompt, rounds, check)
    return sequence


def play_on(
    model: CausalModel,
    sequence: CachedSequence,
    prompt: Sequence[int],
    rounds: Sequence[Round],
    check: Check,
) -> None:
    """Plays the rounds of a new sequence, with the pool that it is in to itself."""
    player = Player(model, sequence, check)
    player.open(prompt)
    for turn in rounds:
        player.play(turn)
        sequence._pool.check([sequence.block_ids])
    player.finish()
    sequence._pool.check([sequence.block_ids])


def a_pool(model: CausalModel, num_blocks: int = 16) -> BlockPool:
    """Blocks, and room for them in the model."""
    model.allocate(num_blocks)
    return BlockPool(num_blocks)


def check_ledger(tokens: list[int], logits: torch.Tensor) -> None:
    lengths = range(len(tokens) - len(logits) + 1, len(tokens) + 1)
    assert logits.tolist() == [ledger_row(tokens[:length]) for length in lengths]


@settings(max_examples=300, deadline=None)
@given(PROMPTS, ROUNDS)
def test_the_cache_holds_exactly_the_tokens_of_the_session(prompt, rounds):
    play(LedgerModel(), prompt, rounds, check_ledger)


@settings(max_examples=300, deadline=None)
@given(PROMPTS, ROUNDS, st.integers(0, 6))
def test_seen_tokens_are_the_committed_ones_each_once(prompt, rounds, num_unasked):
    model = LedgerModel()
    sequence = a_sequence(pool=a_pool(model))
    num_checks = 0

    def check(tokens: list[int], logits: torch.Tensor) -> None:
        nonlocal num_checks
        num_checks += 1
        if num_checks > num_unasked:
            assert sequence.seen_token_ids().tolist() == sorted(set(sequence.token_ids))

    play_on(model, sequence, prompt, rounds, check)


@settings(max_examples=25, deadline=None)
@given(prompt=PROMPTS, rounds=ROUNDS)
def test_logits_equal_those_of_a_fresh_pass(
    tiny_model: CausalModel, reference: Reference, prompt, rounds
):
    def check(tokens: list[int], logits: torch.Tensor) -> None:
        expected = reference(tokens)[-len(logits) :]
        torch.testing.assert_close(logits, expected, atol=1e-4, rtol=1e-4)

    play(tiny_model, prompt, rounds, check)


@settings(max_examples=300, deadline=None)
@given(PROMPTS, st.lists(SESSIONS, min_size=2, max_size=3), st.integers(LONGEST, 24))
def test_sessions_that_begin_alike_share_blocks_and_disturb_each_other_in_nothing(
    prompt, sessions, num_blocks
):
    play_side_by_side(LedgerModel(), [CachedSequence] * len(sessions), prompt, sessions, num_blocks)


def play_side_by_side(
    model: LedgerModel,
    kinds: Sequence[type[CachedSequence]],
    prompt: Sequence[int],
    sessions: Sequence[tuple[Sequence[int], Sequence[Round]]],
    num_blocks: int = 24,
) -> None:
    """Sessions in one pool that go on from one prompt, taking turns round by round.

    Where room gets scarce, all lose their blocks.
    """
    pool = a_pool(model, num_blocks)
    sequences = [kind(pool, VOCAB_SIZE, MAX_LEN) for kind in kinds]
    players = [Player(model, sequence, check_ledger) for sequence in sequences]

    def make_room() -> None:
        if pool.num_available < LONGEST:
            for sequence in sequences:
                sequence.release()

    for player, (more, _) in zip(players, sessions, strict=True):
        player.open([*prompt, *more])
    for turns in zip_longest(*(rounds for _, rounds in sessions)):
        for player, turn in zip(players, turns, strict=True):
            if turn is not None:
                make_room()
                player.play(turn)
            pool.check([sequence.block_ids for sequence in sequences])
    for player in players:
        make_room()
        player.finish()


REJECTED = Round(drafts=(1, 2, 3), num_accepted=1, missed=(4,))
ALL_REJECTED = Round(drafts=(6, 6, 6, 6, 6), final=1)
ALL_ACCEPTED = Round(drafts=(1, 2, 3), by_steps=True, num_accepted=3)
ROLLED_BACK = Round(rewind=10)


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

    def speculate(self, token_ids):
        super().speculate(token_ids)
        if self._num_computed:
            self._num_computed = self._num_tokens - 1


class WritesWhereOthersRead(CachedSequence):
    """Broken: cuts into a published block and goes on in it."""

    __slots__ = ()

    def _cut_cache(self, length):
        self._num_computed = min(self._num_computed, length)


@pytest.mark.parametrize(
    ("broken", "rounds"),
    [(TrustsPositions, [REJECTED]), (ForgetsTheLastGuess, [ALL_REJECTED, ALL_ACCEPTED])],
)
def test_a_sequence_that_keeps_the_wrong_entries_is_caught(broken, rounds):
    play(LedgerModel(), [0, 5], rounds, check_ledger)
    model = LedgerModel()
    sequence = broken(a_pool(model), VOCAB_SIZE, MAX_LEN)
    with pytest.raises(AssertionError):
        play_on(model, sequence, [0, 5], rounds, check_ledger)


def test_a_sequence_that_writes_into_shared_blocks_is_caught():
    prompt = [index % VOCAB_SIZE for index in range(20)]
    sessions = [([], [ROLLED_BACK, Round(drafts=(6, 6, 6, 6, 6))]), ([], [REJECTED, REJECTED])]
    play_side_by_side(LedgerModel(), [CachedSequence] * 2, prompt, sessions)
    kinds = [WritesWhereOthersRead, CachedSequence]
    with pytest.raises(AssertionError):
        play_side_by_side(LedgerModel(), kinds, prompt, sessions)


def opened(token_ids: Sequence[int]) -> tuple[LedgerModel, CachedSequence]:
    """A model and a sequence that has it to itself."""
    model = LedgerModel()
    return model, a_sequence(token_ids, a_pool(model))


def test_a_fully_accepted_round_computes_only_the_bonus_token_again():
    model, sequence = opened([0, 1, 2])
    score(model, sequence, [3, 4, 5])
    sequence.commit(7, [3, 4, 5, 6])
    score(model, sequence, [1])
    assert model.num_computed == [6, 2]


def test_a_draft_feeds_its_last_guess_with_the_bonus_token():
    model, sequence = opened([0, 1, 2])
    score(model, sequence, [])
    step(model, sequence, 3)  # and guesses 4, which is never fed
    sequence.commit(6, [3, 4, 5])
    score(model, sequence, [])
    assert model.num_computed == [3, 1, 2]


def test_accepted_guesses_keep_their_entries_and_rejected_ones_lose_theirs():
    model, sequence = opened([0, 1, 2])
    score(model, sequence, [3, 4, 5])
    assert sequence.num_cached_tokens == 6
    sequence.commit(5, [3, 7])
    assert sequence.num_cached_tokens == 4


def test_verifying_the_same_round_twice_gives_the_same_logits():
    model, sequence = opened([0, 1, 2])
    first = score(model, sequence, [3, 4])
    sequence.commit(3, [2])
    assert torch.equal(score(model, sequence, [3, 4]), first)
    assert model.num_computed == [5, 3]


def test_reopening_with_the_whole_prefix_computes_nothing_twice():
    model, sequence = opened([0, 1, 2])
    score(model, sequence, [])
    sequence.commit(5, [0, 1, 2, 3, 4])
    score(model, sequence, [])
    assert model.num_computed == [3, 2]


def test_a_prompt_in_chunks_leaves_the_last_token_for_its_logits():
    model, sequence = opened([0] * 8)
    for chunk in (3, 3, 1):
        assert len(run(model, sequence, chunk, 0)) == 0
    assert sequence.num_uncomputed == 1
    check_ledger([0] * 8, score(model, sequence, []))
    assert model.num_computed == [3, 3, 1, 1]


@pytest.mark.parametrize(("position", "committed"), [(5, [1]), (1, [1, 2]), (4, [])])
def test_a_commit_after_unknown_tokens_is_refused_and_changes_nothing(position, committed):
    model, sequence = opened([0, 1, 2])
    score(model, sequence, [3, 4, 5])
    with pytest.raises(CachePositionMismatchError):
        sequence.commit(position, committed)
    assert sequence.token_ids == [0, 1, 2]
    assert sequence.num_cached_tokens == 6


@pytest.mark.parametrize("token_id", [-1, VOCAB_SIZE])
def test_tokens_outside_the_vocabulary_never_reach_the_model(token_id):
    model, sequence = opened([])
    with pytest.raises(InvalidArgumentError):
        sequence.extend([0, token_id])
    sequence.extend([0])
    with pytest.raises(InvalidArgumentError):
        sequence.speculate([token_id])
    with pytest.raises(InvalidArgumentError):
        sequence.guess(token_id)
    check_ledger([0], score(model, sequence, []))


def test_a_sequence_never_outgrows_the_model():
    model, sequence = opened([])
    with pytest.raises(InvalidArgumentError):
        sequence.extend([0] * (MAX_LEN + 1))
    sequence.extend([0] * (MAX_LEN - 1))
    with pytest.raises(InvalidArgumentError):
        sequence.speculate([0, 0])
    score(model, sequence, [0])
    with pytest.raises(InvalidArgumentError):
        sequence.guess(0)


def test_nothing_can_be_scored_before_anything_is_committed():
    with pytest.raises(InvalidArgumentError):
        a_sequence().speculate([1])


class BreaksOffLate(LedgerModel):
    """Fails, if told to, when the tokens of the pass are in the pool already."""

    def forward(self, packed):
        breaks_off, self.fails = self.fails, False
        logits = super().forward(packed)
        if breaks_off:
            raise RuntimeError("broken off")
        return logits


@pytest.mark.parametrize("is_released", [True, False], ids=["released, as the engine does", "kept"])
def test_a_pass_that_breaks_off_leaves_the_session_usable(is_released):
    model = BreaksOffLate()
    sequence = a_sequence([0, 1, 2], a_pool(model))
    score(model, sequence, [3])
    model.fails = True
    with pytest.raises(RuntimeError):
        score(model, sequence, [4, 5])
    assert sequence.num_cached_tokens == 2  # not what the pass may have left
    if is_released:
        sequence.release()
        assert sequence.num_cached_tokens == 0
    check_ledger([0, 1, 2, 3], score(model, sequence, [3]))


class WatchedModel(LedgerModel):
    """Tells what is said of the cache while a pass has filled some of it."""

    def __init__(self) -> None:
        super().__init__()
        self.sequence: CachedSequence | None = None
        self.num_said: list[int] = []

    def forward(self, packed):
        logits = super().forward(packed)
        assert self.sequence is not None
        self.num_said.append(self.sequence.num_cached_tokens)
        return logits


def test_cached_tokens_count_when_their_pass_has_ended():
    model = WatchedModel()
    model.sequence = sequence = a_sequence([0, 1, 2], a_pool(model))
    score(model, sequence, [3])
    step(model, sequence, 4)
    assert model.num_said == [0, 4]
    assert sequence.num_cached_tokens == 5


LONG = [index % VOCAB_SIZE for index in range(2 * BLOCK_LEN + 4)]


def test_only_full_blocks_of_committed_tokens_are_for_others():
    model = LedgerModel()
    pool = a_pool(model)
    sequence = a_sequence(LONG[: BLOCK_LEN - 1], pool)
    score(model, sequence, LONG[BLOCK_LEN - 1 : BLOCK_LEN + 3])
    assert pool.count_match(LONG, b"") == 0  # some of the block is a guess
    sequence.commit(BLOCK_LEN, LONG[BLOCK_LEN - 1 : BLOCK_LEN])
    assert pool.count_match(LONG, b"") == BLOCK_LEN
    assert pool.count_match(LONG, b"another") == 0
    sequence.extend(LONG[BLOCK_LEN:])
    assert pool.count_match(LONG, b"") == BLOCK_LEN  # not computed yet
    score(model, sequence, [])
    assert pool.count_match(LONG, b"") == 2 * BLOCK_LEN


def test_a_sequence_takes_what_others_computed_but_for_its_last_token():
    model = LedgerModel()
    pool = a_pool(model)
    first, second, third = (a_sequence(LONG[:length], pool) for length in (36, 33, 32))
    score(model, first, [])
    for sequence, num_taken in ((second, 32), (third, 16)):
        sequence.take_prefix()
        assert sequence.num_cached_tokens == num_taken
        check_ledger(sequence.token_ids, score(model, sequence, []))
    assert model.num_computed == [36, 1, 16]
    pool.check([first.block_ids, second.block_ids, third.block_ids])


def test_sequences_with_different_salts_share_nothing():
    model = LedgerModel()
    pool = a_pool(model)
    sequences = [CachedSequence(pool, VOCAB_SIZE, MAX_LEN, salt=salt) for salt in (b"", b"a", b"b")]
    for sequence in sequences:
        sequence.extend(LONG)
        sequence.take_prefix()
        assert sequence.num_cached_tokens == 0
        check_ledger(LONG, score(model, sequence, []))
    assert not set(sequences[0].block_ids) & set(sequences[1].block_ids)
    again = CachedSequence(pool, VOCAB_SIZE, MAX_LEN, salt=b"b")
    again.extend(LONG)
    again.take_prefix()
    assert list(again.block_ids) == list(sequences[2].block_ids[:2])


def test_who_cuts_into_a_published_block_gives_it_up_and_others_keep_it():
    model = LedgerModel()
    pool = a_pool(model)
    first, second = a_sequence(LONG, pool), a_sequence(LONG, pool)
    score(model, first, [])
    second.take_prefix()
    score(model, second, [])
    shared = list(second.block_ids[:2])
    first.commit(BLOCK_LEN + 3, [])
    assert first.num_cached_tokens == BLOCK_LEN
    assert list(first.block_ids) == shared[:1]
    check_ledger([*LONG[: BLOCK_LEN + 3], 7, 7], score(model, first, [7, 7])[-1:])
    assert list(second.block_ids[:2]) == shared
    second.commit(len(LONG), LONG)
    check_ledger([*LONG, 1], score(model, second, [1]))
    pool.check([first.block_ids, second.block_ids])


def test_a_sequence_without_room_keeps_what_it_has():
    model = LedgerModel()
    pool = a_pool(model, num_blocks=3)
    first, second = a_sequence(LONG, pool), a_sequence([7, *LONG], pool)
    score(model, first, [])
    assert second.part(1, 0) is None
    first.speculate([1] * BLOCK_LEN)
    assert first.part(first.num_uncomputed, 1) is None
    pool.check([first.block_ids, second.block_ids])
    check_ledger([*LONG, 2], score(model, first, [2]))
