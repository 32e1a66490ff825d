"""Which replica a session goes to: a function of its beginning, who is there, and the load."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.replicas.placement import (
    BLOCK_TOKENS,
    LOAD_FACTOR,
    LOAD_SLACK,
    MAX_BLOCKS,
    place,
    placement_key,
    ranking,
)

ADDRESSES = [f"10.0.0.{number}:50052" for number in range(1, 6)]
KEYS = [placement_key((number,) * BLOCK_TOKENS, "") for number in range(2000)]


def winners(addresses):
    return [ranking(key, addresses)[0] for key in KEYS]


def test_sessions_that_begin_alike_have_the_same_key_whatever_follows():
    beginning = tuple(range(BLOCK_TOKENS * MAX_BLOCKS))
    assert placement_key((*beginning, 1, 2), "t") == placement_key((*beginning, 3), "t")
    assert placement_key((*beginning[1:], 7), "t") != placement_key(beginning, "t")


def test_what_is_less_than_a_block_does_not_count_beside_full_blocks():
    block = tuple(range(BLOCK_TOKENS))
    assert placement_key((*block, 1), "") == placement_key((*block, 2, 3), "")


def test_a_session_shorter_than_a_block_is_its_own_beginning():
    assert placement_key((1, 2), "") == placement_key((1, 2), "")
    assert placement_key((1, 2), "") != placement_key((1, 3), "")


def test_tenants_share_no_blocks_and_so_no_key():
    assert placement_key((1, 2), "a") != placement_key((1, 2), "b")


def test_every_replica_has_its_share_of_beginnings():
    counts = Counter(winners(ADDRESSES))
    assert set(counts) == set(ADDRESSES)
    fair = len(KEYS) / len(ADDRESSES)
    assert all(0.8 * fair < count < 1.2 * fair for count in counts.values())


def test_a_replica_that_goes_moves_only_what_it_had():
    before, after = winners(ADDRESSES), winners(ADDRESSES[:-1])
    moved = [old for old, new in zip(before, after, strict=True) if old != new]
    assert set(moved) == {ADDRESSES[-1]}
    assert len(moved) == Counter(before)[ADDRESSES[-1]]


def test_a_replica_that_comes_moves_only_what_it_gets():
    before, after = winners(ADDRESSES[:-1]), winners(ADDRESSES)
    assert {new for old, new in zip(before, after, strict=True) if old != new} == {ADDRESSES[-1]}


@given(st.permutations(ADDRESSES), st.sampled_from(KEYS))
def test_the_order_of_the_addresses_does_not_matter(addresses, key):
    assert ranking(key, addresses) == ranking(key, ADDRESSES)


def test_what_the_dead_one_had_is_shared_by_all_that_are_left():
    before, after = winners(ADDRESSES), winners(ADDRESSES[:-1])
    heirs = Counter(new for old, new in zip(before, after, strict=True) if old == ADDRESSES[-1])
    assert set(heirs) == set(ADDRESSES[:-1])


def test_the_first_of_the_ranking_has_the_session_though_it_is_a_little_busier():
    assert place(["a", "b", "c"], [4, 1, 1]) == "a"


def test_one_that_is_far_busier_than_the_others_is_passed_over():
    assert place(["a", "b", "c"], [6, 1, 1]) == "b"


def test_who_is_passed_over_for_load_makes_room_for_the_next_that_is_not_busy():
    assert place(["a", "b", "c"], [40, 40, 0]) == "c"


def test_when_all_are_busy_alike_beginnings_decide():
    assert place(["a", "b"], [100, 100]) == "a"


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=5))
def test_nobody_gets_a_session_who_has_far_more_than_the_mean(loads):
    ranked = ADDRESSES[: len(loads)]
    chosen = loads[ranked.index(place(ranked, loads))]
    assert chosen <= LOAD_FACTOR * sum(loads) / len(loads) + LOAD_SLACK
