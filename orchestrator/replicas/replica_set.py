"""The replicas of a tier, of which a session takes one at a time.

The set answers one question: where does this session go? Whom it takes depends on the session's
beginning and on the replicas' load (`placement.py`), among those that are healthy. A watch per
replica (`replica_watch.py`) tells which are; a set of one without a watch stands for a tier that is
asked directly.

A replica is healthy if it answers questions, and if the rounds of its sessions succeed
(`ejection.py`): the one says nothing of the other. An ejected one is probed by a session now and
then.

What else is there is asked in order: replicas that were ejected though they answer health checks,
rather than none; and when all that are left serve the wrong model, one of them, since its
refusal says why.
"""

import asyncio
from collections.abc import Callable, Collection, Iterable
from typing import Generic

import structlog

from forethought.deployment import Standing
from forethought.rpc.connections.traffic import Traffic
from forethought.store.server.breaker import Breaker, BreakerState
from forethought.tier import ModelInfo, TierLoad
from orchestrator.replicas.ejection import NO_EJECTION, Ejection
from orchestrator.replicas.placement import place, ranking
from orchestrator.replicas.replica import NEVER, Replica, StubT
from orchestrator.replicas.retry_budget import RetryBudget

_log = structlog.get_logger(__name__)

Refusal = Callable[[ModelInfo], str]
"""Why a replica that serves this may have no sessions; empty where it may."""


def anything(_: ModelInfo) -> str:
    """Refuses nothing."""
    return ""


class ReplicaSet(Generic[StubT]):
    """All replicas of one tier.

    Args:
        tier: its name, for logs.
        refusal: what a replica must not serve.
    """

    def __init__(
        self, tier: str, replicas: Iterable[Replica[StubT]] = (), refusal: Refusal = anything
    ) -> None:
        self.tier = tier
        self.budget = RetryBudget()
        self.num_moves = 0
        """Sessions that one replica has taken after another had them."""
        self.traffic = Traffic()
        """Of all replicas, those that are gone included."""
        self._replicas = {replica.address: replica for replica in replicas}
        self._refusal = refusal
        self._changed = asyncio.Event()

    @property
    def all(self) -> tuple[Replica[StubT], ...]:
        """Every replica that there is an address of."""
        return tuple(self._replicas.values())

    @property
    def is_usable(self) -> bool:
        """Whether a session has a replica to go to that is known to serve."""
        return any(
            replica.standing is Standing.SERVING and (replica.is_healthy or replica.wants_probe)
            for replica in self.all
        )

    def describe(self) -> dict[str, str]:
        """How each replica does, by its address; for the log."""
        return {each.address: each.why or each.standing.value for each in self.all}

    def add(self, replica: Replica[StubT]) -> None:
        """One more, or another one at an address."""
        self._replicas[replica.address] = replica

    def remove(self, replica: Replica[StubT]) -> None:
        """Forgets one, whose sessions leave when they can."""
        replica.is_leaving = True
        del self._replicas[replica.address]

    def choose(self, key: bytes, tried: Collection[Replica[StubT]] = ()) -> Replica[StubT] | None:
        """The replica for a session, or None while there is none. It counts as load until `leave`.

        Args:
            key: of `placement_key`.
            tried: those that have just failed it.
        """
        candidates = self._candidates(tried)
        if not candidates:
            return None
        probed = next((replica for replica in candidates if replica.wants_probe), None)
        if probed is not None:
            probed.ejection.probe()
            chosen = probed
        else:
            by_address = {replica.address: replica for replica in candidates}
            ranked = ranking(key, tuple(by_address))
            chosen = by_address[place(ranked, [by_address[address].load for address in ranked])]
        chosen.num_ours += 1
        return chosen

    def has_other(self, tried: Collection[Replica[StubT] | None]) -> bool:
        """Whether a session could go to a healthy replica that is none of these."""
        return any(replica.is_healthy and replica not in tried for replica in self.all)

    def may_have_other(self, tried: Collection[Replica[StubT]]) -> bool:
        """Whether there is a replica that is none of these, though it may be away just now."""
        return any(
            replica.standing is not Standing.REFUSED and replica not in tried
            for replica in self.all
        )

    def should_leave(self, replica: Replica[StubT]) -> bool:
        """Whether a session should move on between two rounds."""
        is_bad = replica.is_draining or replica.ejection.is_resting
        return is_bad and self.has_other((replica,))

    def took(self, replica: Replica[StubT] | None, before: Replica[StubT] | None) -> None:
        """A replica has taken a session that another one may have had before."""
        self.budget.succeeded()
        if before not in (None, replica):
            self.num_moves += 1

    def leave(self, replica: Replica[StubT]) -> None:
        """A session that chose a replica has gone."""
        replica.num_ours -= 1
        replica.ejection.given_up()

    def served(self, replica: Replica[StubT]) -> None:
        """A replica has answered a round of a session."""
        was_out = replica.ejection.is_out
        replica.ejection.answered()
        if was_out:
            _log.info("replica_back", tier=self.tier, address=replica.address)
            self.notify()

    def misserved(self, replica: Replica[StubT], why: str) -> None:
        """A replica has failed a round of a session, by its own fault. So many eject it."""
        if replica.ejection.failed():
            self._note_ejection(replica, why)

    def lost(self, replica: Replica[StubT], why: str) -> None:
        """A session's stream to a replica broke, or goes unanswered."""
        self.failed(replica, why)
        self.misserved(replica, why)
        replica.look.set()

    def failed(self, replica: Replica[StubT], why: str) -> None:
        """A call to a replica got no answer. So many in a row eject it."""
        before = replica.breaker.state
        replica.breaker.failed()
        if (before, replica.breaker.state) == (BreakerState.CLOSED, BreakerState.OPEN):
            self._note_ejection(replica, why)

    def answered(self, replica: Replica[StubT], load: TierLoad) -> None:
        """A replica says what it holds. If it was ejected for its silence, it is back."""
        was_out = replica.breaker.state is not BreakerState.CLOSED
        replica.breaker.succeeded()
        replica.num_reported, replica.num_ours_reported = load.num_sessions, replica.num_ours
        if was_out:
            _log.info("replica_back", tier=self.tier, address=replica.address)
            self.notify()

    def require(self, refusal: Refusal) -> None:
        """Changes what replicas must not serve, for those that are known already too."""
        self._refusal = refusal
        for replica in self.all:
            if replica.model is not None and replica.standing in {
                Standing.SERVING,
                Standing.REFUSED,
            }:
                self.serves(replica, replica.model)

    def serves(self, replica: Replica[StubT], model: ModelInfo) -> None:
        """A replica that is open to sessions says what it serves."""
        replica.model = model
        why = self._refusal(model)
        self.stands(replica, Standing.REFUSED if why else Standing.SERVING, why)

    def stands(self, replica: Replica[StubT], standing: Standing, why: str = "") -> None:
        """Notes how a replica does; in the log where that is news."""
        if (replica.standing, replica.why) != (standing, why):
            is_news = replica.standing is not standing or standing is Standing.REFUSED
            if standing is Standing.REFUSED:
                replica.num_refusals += 1
            replica.standing, replica.why = standing, why
            if is_news:
                log = _log.info if standing is Standing.SERVING else _log.warning
                log(f"replica_{standing.value}", tier=self.tier, address=replica.address, why=why)
                self.notify()

    def notify(self) -> None:
        """Wakes those who wait for a change."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def change(self, timeout_s: float | None = None) -> None:
        """Returns when something changes, or after so many seconds."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._changed.wait()
        except TimeoutError:
            pass

    def _note_ejection(self, replica: Replica[StubT], why: str) -> None:
        replica.num_ejections += 1
        _log.warning("replica_ejected", tier=self.tier, address=replica.address, why=why)
        self.notify()

    def _candidates(self, tried: Collection[Replica[StubT]]) -> list[Replica[StubT]]:
        left = [replica for replica in self.all if replica not in tried]
        answering = [replica for replica in left if replica.is_answering]
        # A session that has just lost one replica is no probe of another.
        healthy = [
            each for each in answering if each.is_healthy or (each.wants_probe and not tried)
        ]
        if answering:
            return healthy or answering
        is_hopeless = all(replica.standing is Standing.REFUSED for replica in self.all)
        return left if is_hopeless else []


def alone(stub: StubT) -> ReplicaSet[StubT]:
    """A tier of one replica that nobody watches."""
    return ReplicaSet("", [Replica("", stub, Breaker(NEVER), ejection=Ejection(NO_EJECTION))])


def as_replicas(tier: ReplicaSet[StubT] | StubT) -> ReplicaSet[StubT]:
    """The replicas of a tier that may be one stub."""
    return tier if isinstance(tier, ReplicaSet) else alone(tier)
