"""What is shared out, in numbers."""

import pytest

from forethought.shares import Shares


def filled(shares: Shares, *holders: str) -> Shares:
    """All of them take one by turns, for as long as anybody may."""
    while found := [each for each in holders if shares.has_room(each)]:
        for holder in found:
            if shares.has_room(holder):
                shares.take(holder)
    return shares


@pytest.mark.parametrize(("total", "most"), [(1, 1), (2, 2), (3, 3), (4, 3), (8, 6), (256, 192)])
def test_a_lone_holder_leaves_a_quarter_to_others(total, most):
    assert filled(Shares(total), "a").held_by("a") == most


def test_a_newcomer_finds_room_beside_one_that_takes_all_it_can():
    shares = filled(Shares(32), "greedy")
    assert not shares.has_room("greedy")
    assert filled(shares, "new").held_by("new") == 6


def test_holders_that_take_all_they_can_get_equal_parts():
    shares = filled(Shares(70), "a", "b")
    assert shares.held_by("a") == shares.held_by("b") == 30


def test_a_small_amount_finds_room_where_a_large_one_does_not():
    shares = Shares(1000)
    shares.take("greedy", 740)
    assert not shares.has_room("greedy", 200)
    assert not shares.has_room("new", 300)
    assert shares.has_room("new", 200)


def test_what_was_given_back_is_free_again():
    shares = filled(Shares(4), "a")
    shares.give_back("a", 3)
    assert (shares.num_taken, shares.held_by("a")) == (0, 0)
    assert shares.has_room("a")
