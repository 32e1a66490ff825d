"""The one stream of a session to a tier: its states, and what failures say of replicas."""

from types import SimpleNamespace
from typing import Any

import pytest

from forethought.deployment import Standing
from forethought.errors import (
    CachePositionMismatchError,
    DrainingError,
    ForethoughtError,
    HiddenStatesMismatchError,
    InvalidArgumentError,
    LoadingError,
    ModelMismatchError,
    OpeningTimeoutError,
    OverloadedError,
    RemoteError,
    ReplicaFailedError,
    SessionIdleError,
    TierProtocolError,
    TierUnavailableError,
    VocabularyMismatchError,
)
from forethought.sampling.params import SamplingParams
from forethought.store.server.breaker import Breaker
from orchestrator.loop.session import Session
from orchestrator.replicas.replica import NEVER, Replica
from orchestrator.replicas.replica_set import ReplicaSet
from orchestrator.tiers.faults import Fault, fault_of
from orchestrator.tiers.stream_keeper import NobodyThereError, StreamKeeper, StreamState
from orchestrator.tiers.tier_stream import StreamEndedError

SESSION = Session("s", tuple(range(20)), 100, SamplingParams(seed=1))


def replica(address: str) -> Replica[Any]:
    return Replica(address, address, Breaker(NEVER), standing=Standing.SERVING)


class Calls:
    """Begins calls that do nothing, and notes to whom."""

    def __init__(self) -> None:
        self.addresses: list[str] = []

    def __call__(self, address: str, timeout_s: float | None) -> Any:
        self.addresses.append(address)
        return SimpleNamespace(cancel=lambda: None)


def a_keeper(*addresses: str) -> StreamKeeper[Any]:
    tier = ReplicaSet("target", [replica(address) for address in addresses])
    return StreamKeeper(tier, Calls(), None)


def named(code: str) -> ForethoughtError:
    return RemoteError("said so", code=code)


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        (CachePositionMismatchError(""), Fault.FORGOTTEN),
        (OpeningTimeoutError(""), Fault.FORGOTTEN),
        (SessionIdleError(""), Fault.FORGOTTEN),
        (ModelMismatchError(""), Fault.MISMATCH),
        (VocabularyMismatchError(""), Fault.MISMATCH),
        (HiddenStatesMismatchError(""), Fault.MISMATCH),
        (OverloadedError(""), Fault.FULL),
        (DrainingError(""), Fault.LEFT),
        (LoadingError(""), Fault.LEFT),
        (StreamEndedError(""), Fault.LEFT),
        (TierUnavailableError(""), Fault.LOST),
        (named("CANCELLED"), Fault.LOST),
        (ReplicaFailedError(""), Fault.OWN),
        (TierProtocolError(""), Fault.OWN),
        (named("INTERNAL"), Fault.SUSPECTED),
        (named("UNKNOWN"), Fault.SUSPECTED),
        (named("UNIMPLEMENTED"), Fault.SUSPECTED),
        (named("DEADLINE_EXCEEDED"), Fault.REQUEST),
        (named("UNAUTHENTICATED"), Fault.REQUEST),
        (InvalidArgumentError({"a": "b"}), Fault.REQUEST),
    ],
    ids=lambda each: each.reason if isinstance(each, ForethoughtError) else "",
)
def test_each_failure_has_one_fault(error, fault):
    assert fault_of(error) is fault


def test_a_stream_goes_from_none_over_opening_to_open_and_back():
    keeper = a_keeper("a")
    assert (keeper.state, keeper.stream) == (StreamState.NONE, None)
    keeper.connect(SESSION)
    assert keeper.state is StreamState.OPENING
    keeper.opened()
    assert (keeper.state, keeper.address) == (StreamState.OPEN, "a")
    assert keeper.replica.num_ours == 1
    keeper.leave()
    assert (keeper.state, keeper.stream, keeper.address) == (StreamState.NONE, None, "")
    assert keeper.home.num_ours == 0


@pytest.mark.parametrize("is_open", [False, True])
def test_a_stream_that_fails_is_lost_and_goes_elsewhere(is_open):
    keeper = a_keeper("a", "b")
    keeper.connect(SESSION)
    if is_open:
        keeper.opened()
    first = keeper.address
    assert keeper.fail(TierUnavailableError("gone")) is Fault.LOST
    assert (keeper.state, keeper.stream) == (StreamState.LOST, None)
    assert keeper.goes_on_at_once()
    keeper.connect(SESSION)
    assert (keeper.state, {first, keeper.address}) == (StreamState.OPENING, {"a", "b"})


def test_a_replica_that_has_forgotten_the_session_may_have_it_again():
    keeper = a_keeper("a")
    keeper.connect(SESSION)
    keeper.fail(CachePositionMismatchError("knows less"))
    assert keeper.has_other
    keeper.connect(SESSION)
    assert keeper.address == "a"


def test_where_all_have_failed_nobody_is_there_until_time_has_passed():
    keeper = a_keeper("a")
    keeper.connect(SESSION)
    keeper.fail(TierUnavailableError("gone"))
    assert not keeper.goes_on_at_once()
    with pytest.raises(NobodyThereError):
        keeper.connect(SESSION)
    keeper.forget_absences()
    keeper.connect(SESSION)
    assert keeper.state is StreamState.OPENING


def test_a_replica_is_blamed_for_what_another_one_answers():
    keeper = a_keeper("a", "b")
    failures: list[str] = []
    keeper.replicas.misserved = lambda replica, why: failures.append(replica.address)
    keeper.connect(SESSION)
    suspect = keeper.address
    keeper.fail(named("INTERNAL"))
    keeper.connect(SESSION)
    assert not failures
    keeper.succeeded()
    assert failures == [suspect]
    keeper.succeeded()
    assert failures == [suspect]


def test_a_replica_that_serves_something_else_is_refused_for_all_sessions():
    keeper = a_keeper("a", "b")
    keeper.connect(SESSION)
    refusing = keeper.replica
    keeper.fail(ModelMismatchError("is another"))
    assert (refusing.standing, refusing.why) == (Standing.REFUSED, "is another")


def test_a_new_replica_is_told_all_and_then_only_what_is_new():
    keeper = a_keeper("a", "b")
    keeper.connect(SESSION)
    assert not keeper.untold(SESSION)
    longer = Session("s", (*SESSION.token_ids, 7, 8), 100, SESSION.sampling)
    assert list(keeper.untold(longer)) == [7, 8]
    keeper.told(longer)
    assert not keeper.untold(longer)
