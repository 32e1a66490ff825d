"""Blocks belong to whom the books say, and are found again by what they hold."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from forethought.engine.cache.block_pool import BlockPool, IntegrityError, block_key, root_key
from forethought.engine.model.packed import BLOCK_LEN
from tests.engine.ledger import a_sequence

SALT = b"tenant"


def tokens(num_blocks: int, first: int = 0) -> list[int]:
    return list(range(first, first + num_blocks * BLOCK_LEN))


def published(pool: BlockPool, token_ids: list[int], salt: bytes = SALT) -> list[int]:
    """Blocks that hold these tokens, owned once."""
    block_ids = pool.allocate(len(token_ids) // BLOCK_LEN)
    assert block_ids is not None
    parent = root_key(salt)
    for index, block_id in enumerate(block_ids):
        own = token_ids[index * BLOCK_LEN : (index + 1) * BLOCK_LEN]
        parent = pool.publish(block_id, parent, own)
    return block_ids


def test_a_chain_is_found_by_its_tokens_and_only_from_its_beginning():
    pool = BlockPool(8)
    block_ids = published(pool, tokens(3))
    assert pool.take_prefix(tokens(3), SALT)[0] == block_ids
    assert pool.take_prefix([*tokens(2), *tokens(1, 99)], SALT)[0] == block_ids[:2]
    assert pool.take_prefix(tokens(2, BLOCK_LEN), SALT)[0] == []
    assert pool.take_prefix(tokens(3)[:-1], SALT)[0] == block_ids[:2]
    pool.check([block_ids, block_ids, block_ids[:2], block_ids[:2]])


def test_nobody_finds_what_was_published_under_another_salt():
    pool = BlockPool(8)
    published(pool, tokens(2))
    assert pool.count_match(tokens(2), b"other") == 0
    assert pool.count_match(tokens(2), SALT) == 2 * BLOCK_LEN


def test_a_hit_compares_the_tokens_and_not_just_their_hash(monkeypatch):
    monkeypatch.setattr(
        "forethought.engine.cache.block_pool.block_key", lambda *_: b"the same for all"
    )
    pool = BlockPool(4)
    published(pool, tokens(1))
    assert pool.count_match(tokens(1), SALT) == BLOCK_LEN
    assert pool.count_match(tokens(1, 50), SALT) == 0


def test_the_least_recently_used_is_evicted_first_and_a_chain_from_its_end():
    pool = BlockPool(4)
    old, new = published(pool, tokens(2)), published(pool, tokens(2, 100))
    pool.release(old)
    pool.release(new)
    assert pool.num_available == 4
    assert pool.allocate(1) == [old[1]]
    assert pool.count_match(tokens(2), SALT) == BLOCK_LEN
    pool.take_prefix(tokens(1), SALT)  # used again, so now it is the others' turn
    assert pool.allocate(1) == [new[1]]
    pool.check([[old[1]], [old[0]], [new[1]]])


def test_the_same_tokens_twice_are_published_once():
    pool = BlockPool(4)
    first, second = published(pool, tokens(1)), published(pool, tokens(1))
    pool.release(first)
    pool.release(second)
    pool.check([])
    assert pool.take_prefix(tokens(1), SALT)[0] == first


def test_more_than_there_is_is_not_given_in_part():
    pool = BlockPool(2)
    assert pool.allocate(3) is None
    assert pool.num_available == 2


@pytest.mark.parametrize(
    "spoil",
    [
        lambda pool, block_ids: pool._empty.append(block_ids[0]),
        lambda pool, _: pool._empty.pop(),
        lambda pool, block_ids: pool._owners.__setitem__(block_ids[0], 2),
        lambda pool, block_ids: pool._keys.__setitem__(block_ids[0], b"another"),
        lambda pool, block_ids: pool._published.pop(pool._keys[block_ids[0]]),
        lambda pool, block_ids: pool._unowned.__setitem__(block_ids[0], None),
    ],
)
def test_every_disorder_of_the_books_is_found(spoil):
    pool = BlockPool(4)
    block_ids = published(pool, tokens(2))
    pool.check([block_ids])
    spoil(pool, block_ids)
    with pytest.raises(IntegrityError):
        pool.check([block_ids])


def test_the_key_of_a_block_stands_for_all_before_it():
    first = block_key(root_key(SALT), tokens(1))
    assert block_key(first, tokens(1)) != block_key(root_key(SALT), tokens(1))
    assert len(first) == 16


@pytest.mark.parametrize("place", range(BLOCK_LEN))
def test_the_key_of_a_block_stands_for_each_of_its_tokens(place: int):
    other = tokens(1)
    other[place] += 1
    assert block_key(root_key(SALT), other) != block_key(root_key(SALT), tokens(1))


@pytest.mark.parametrize("place", [0, BLOCK_LEN - 1, BLOCK_LEN, 2 * BLOCK_LEN - 1])
def test_a_chain_that_differs_in_one_token_is_another_from_there_on(place: int):
    pool = BlockPool(8)
    block_ids = published(pool, tokens(3))
    other = tokens(3)
    other[place] = 99
    assert pool.take_prefix(other, SALT)[0] == block_ids[: place // BLOCK_LEN]
    other_ids = published(pool, other)
    assert (
        pool.take_prefix(other, SALT)[0][place // BLOCK_LEN :] == (other_ids[place // BLOCK_LEN :])
    )
    assert pool.take_prefix(tokens(3), SALT)[0] == block_ids


class Sharing(RuleBasedStateMachine):
    """Sequences over a few tokens and one small pool, doing whatever sessions do."""

    @initialize()
    def begin(self) -> None:
        self.pool = BlockPool(12)
        self.sequences = [a_sequence(pool=self.pool) for _ in range(3)]

    @rule(which=st.integers(0, 2), token_ids=st.lists(st.integers(0, 1), max_size=40))
    def commit(self, which: int, token_ids: list[int]) -> None:
        sequence = self.sequences[which]
        sequence.extend(token_ids[: 96 - sequence.num_tokens])

    @rule(which=st.integers(0, 2), surplus=st.integers(1, 40))
    def roll_back(self, which: int, surplus: int) -> None:
        sequence = self.sequences[which]
        sequence.commit(max(sequence.num_tokens - surplus, 0), ())

    @rule(which=st.integers(0, 2), token_ids=st.lists(st.integers(0, 1), max_size=5))
    def speculate(self, which: int, token_ids: list[int]) -> None:
        sequence = self.sequences[which]
        if 0 < sequence.num_tokens <= 91:
            sequence.speculate(token_ids)

    @rule(which=st.integers(0, 2), num_tokens=st.integers(1, 40))
    def compute(self, which: int, num_tokens: int) -> None:
        sequence = self.sequences[which]
        num_tokens = min(num_tokens, sequence.num_uncomputed)
        if num_tokens and sequence.part(num_tokens, 0):
            sequence.computed(num_tokens)

    @rule(which=st.integers(0, 2))
    def release(self, which: int) -> None:
        self.sequences[which].release()

    @rule(which=st.integers(0, 2))
    def take_prefix(self, which: int) -> None:
        sequence = self.sequences[which]
        sequence.take_prefix()
        assert sequence.num_cached_tokens < max(sequence.num_tokens, 1) or sequence.block_ids

    @invariant()
    def books_agree(self) -> None:
        if hasattr(self, "pool"):
            self.pool.check(sequence.block_ids for sequence in self.sequences)

    @invariant()
    def every_computed_token_has_its_place(self) -> None:
        for sequence in getattr(self, "sequences", ()):
            assert len(sequence.block_ids) * BLOCK_LEN >= sequence.num_cached_tokens


TestSharing = Sharing.TestCase
TestSharing.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
