"""How busy a replica is taken to be, between two of its reports."""

import pytest

from forethought.store.server.breaker import Breaker
from orchestrator.replicas.replica import NEVER, Replica


@pytest.mark.parametrize(
    ("reported", "ours_then", "ours_now", "load"),
    [
        (0, 0, 0, 0),
        (7, 2, 2, 7),  # five of others
        (7, 2, 4, 9),
        (7, 2, 0, 5),
        (2, 9, 9, 9),  # seven were on their way when it reported
        (2, 9, 3, 3),
    ],
)
def test_it_is_what_was_reported_with_what_we_changed_since_and_no_less_than_what_is_ours(
    reported: int, ours_then: int, ours_now: int, load: int
):
    replica = Replica("replica:1", None, Breaker(NEVER))
    replica.num_reported, replica.num_ours_reported = reported, ours_then
    replica.num_ours = ours_now
    assert replica.load == load
