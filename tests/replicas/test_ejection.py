"""A replica whose rounds fail is done without, whatever it answers to questions."""

from dataclasses import replace

import grpc
import pytest

from forethought.deployment import Standing
from forethought.errors import (
    DrainingError,
    ForethoughtError,
    InvalidArgumentError,
    OpeningTimeoutError,
    OverloadedError,
    ReplicaFailedError,
    SessionIdleError,
    TierProtocolError,
)
from forethought.sampling.types import Draft
from forethought.store.server.breaker import Breaker
from forethought.tier import PassCost
from orchestrator.replicas.ejection import Ejection, EjectionSettings
from orchestrator.replicas.replica import SILENCE, Replica, check_model
from orchestrator.replicas.replica_set import ReplicaSet
from orchestrator.tiers.patience import ReopenOptions
from orchestrator.tiers.remote_verifier import RemoteVerifier
from tests.errors.test_error_mapping import as_rpc_error
from tests.lifecycle.requests import asking
from tests.orchestrator.test_remote_tiers import (
    SESSION,
    TARGET,
    ScriptedTier,
    evidence,
    verify_opened,
)
from tests.replicas.tiers import a_fleet
from tests.stack import generate
from tests.waiting import until

NUM_REQUESTS = 5
FOREVER = EjectionSettings(first_pause_s=600)


class Clock:
    """Stands still unless it is put forward."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ejection(clock: Clock) -> Ejection:
    return Ejection(
        EjectionSettings(3, first_pause_s=1.0, max_pause_s=8.0, num_rounds_to_trust=5), clock
    )


def failing(ejection: Ejection, times: int) -> list[bool]:
    return [ejection.failed() for _ in range(times)]


def test_so_many_failed_rounds_in_a_row_eject_a_replica(ejection):
    assert failing(ejection, 2) == [False, False]
    for _ in range(50):
        ejection.answered()
    assert failing(ejection, 3) == [False, False, True]
    assert ejection.is_out
    assert failing(ejection, 3) == [False, False, False]  # those that were under way


def rounds_to_ejection(ejection: Ejection, num_good: int) -> int | None:
    """How many rounds a replica is trusted with that fails one after so many good ones; None: for
    ever, as far as anyone can tell."""
    for number in range(1, 10_000):
        if number % (num_good + 1):
            ejection.answered()
        elif ejection.failed():
            return number
    return None


@pytest.mark.parametrize(("num_good", "num_rounds"), [(0, 3), (1, 8), (2, 15), (9, None)])
def test_a_replica_that_fails_often_is_ejected_and_one_that_fails_seldom_is_not(
    ejection, num_good, num_rounds
):
    assert rounds_to_ejection(ejection, num_good) == num_rounds


def test_a_replica_that_fails_every_other_round_gets_hardly_any_soon(clock):
    bad, good = (
        Replica(name, None, Breaker(SILENCE), Standing.SERVING, ejection=Ejection(clock=clock))
        for name in ("bad", "good")
    )
    replicas, num_failed, num_asked = ReplicaSet("target", (bad, good)), 0, 0
    for number in range(6000):  # in ten minutes, each of a session of its own
        clock.now = number / 10
        replica = replicas.choose(str(number).encode())
        if replica is bad:
            num_asked += 1
            if num_asked % 2:
                num_failed += 1
                replicas.misserved(replica, "a broken GPU")
            else:
                replicas.served(replica)
        replicas.leave(replica)
    assert num_failed < 40
    assert bad.num_ejections > 10


def test_an_ejected_replica_has_one_probe_once_its_pause_is_over(ejection, clock):
    failing(ejection, 3)
    clock.now = 0.9
    assert not ejection.wants_probe
    clock.now = 1.0
    assert ejection.wants_probe
    ejection.probe()
    assert not ejection.wants_probe
    ejection.given_up()
    assert ejection.wants_probe
    ejection.probe()
    ejection.answered()
    assert not ejection.is_out


def test_pauses_grow_as_long_as_probes_fail(ejection, clock):
    failing(ejection, 3)
    for pause_s in (1, 2, 4, 8, 8):
        clock.now += pause_s - 0.5
        assert not ejection.wants_probe
        clock.now += 0.5
        ejection.probe()
        assert ejection.failed()


def test_a_replica_that_fails_again_soon_after_it_was_taken_back_is_ejected_for_longer(
    ejection, clock
):
    failing(ejection, 3)
    clock.now = 1.0
    ejection.probe()
    ejection.answered()
    assert ejection.failed()
    clock.now = 2.9
    assert not ejection.wants_probe
    clock.now = 3.0
    assert ejection.wants_probe


def test_a_replica_that_answers_many_rounds_is_trusted_again(ejection, clock):
    failing(ejection, 3)
    clock.now = 1.0
    ejection.probe()
    for _ in range(5):
        ejection.answered()
    assert failing(ejection, 3) == [False, False, True]
    clock.now = 2.0
    assert ejection.wants_probe


def break_passes(member, error: Exception) -> None:
    """Lets every pass of a target fail, while it answers all questions."""

    async def run(*_):
        raise error

    member.tier.engine.run = run


def forge_evidence(member) -> None:
    """Lets a target answer with tokens that it does not have."""
    run = member.tier.engine.run

    async def forged(work):
        evidence, timings = await run(work)
        bonus = replace(evidence.positions[-1], tail_token_id=2**31)
        return replace(evidence, positions=(*evidence.positions[:-1], bonus)), timings

    member.tier.engine.run = forged


FAULTS = {
    "a bug": lambda member: break_passes(member, RuntimeError("a bug")),
    "INTERNAL": lambda member: break_passes(member, ForethoughtError("not numbers")),
    "REPLICA_FAILED": lambda member: break_passes(member, ReplicaFailedError("a broken GPU")),
    "forged evidence": forge_evidence,
}


async def home_of(fleet):
    """The target that sessions go to, once a session has shown it."""
    expected = await generate(fleet.client, asking(max_tokens=12))
    [home] = [each for each in fleet.targets.values() if each.gate.num_passes]
    return home, expected


@pytest.mark.parametrize("fault", FAULTS)
async def test_no_request_hears_of_a_target_whose_rounds_fail_beside_a_good_one(
    long_target, long_draft, fault
):
    async with a_fleet(long_target, long_draft) as fleet:
        bad, expected = await home_of(fleet)
        known = fleet.known(bad)
        known.ejection = Ejection(FOREVER)
        FAULTS[fault](bad)
        for _ in range(NUM_REQUESTS):
            assert (
                await generate(fleet.client, asking(max_tokens=12))
            ).token_ids == expected.token_ids
        assert known.ejection.is_out
        assert known.num_ejections == 1
        # It answers questions all the time, and that is not enough.
        assert known.is_reachable
        assert not known.is_healthy


async def test_questions_that_are_answered_take_no_target_back_and_a_good_round_does(
    long_target, long_draft
):
    async with a_fleet(long_target, long_draft) as fleet:
        bad, expected = await home_of(fleet)
        known, run = fleet.known(bad), bad.tier.engine.run
        known.ejection = Ejection(FOREVER)
        break_passes(bad, ReplicaFailedError("a broken GPU"))
        while not known.ejection.is_out:
            await generate(fleet.client, asking(max_tokens=12))
        answered = fleet.known_targets.answered
        questions = []

        def count(replica, load):
            questions.append(replica)
            answered(replica, load)

        fleet.known_targets.answered = count
        await until(lambda: questions.count(known) >= 3)
        assert not known.is_healthy

        known.ejection = Ejection(EjectionSettings(max_failures=1, first_pause_s=0.0))
        known.ejection.failed()
        bad.tier.engine.run = run
        num_passes = bad.gate.num_passes
        assert (await generate(fleet.client, asking(max_tokens=12))).token_ids == expected.token_ids
        assert known.is_healthy
        assert bad.gate.num_passes > num_passes


async def test_a_session_whose_target_begins_to_fail_goes_on_with_the_same_text(
    long_target, long_draft
):
    async with a_fleet(long_target, long_draft) as fleet:
        bad, expected = await home_of(fleet)
        run, rounds = bad.tier.engine.run, []

        async def fail_later(work):
            rounds.append(work)
            if len(rounds) > 5:
                raise ReplicaFailedError("a broken GPU")
            return await run(work)

        bad.tier.engine.run = fail_later
        answer = await generate(fleet.client, asking(max_tokens=12))
    assert answer.token_ids == expected.token_ids
    assert len(rounds) > 5


@pytest.mark.parametrize("error", [RuntimeError("a bug"), ReplicaFailedError("a broken GPU")])
async def test_a_draft_whose_rounds_fail_is_left_for_another(long_target, long_draft, error):
    async with a_fleet(long_target, long_draft) as fleet:
        expected = await generate(fleet.client, asking(max_tokens=12))
        [bad] = [each for each in fleet.drafts.values() if each.gate.num_passes]
        known = fleet.known(bad)
        known.ejection = Ejection(FOREVER)

        async def run(*_):
            raise error

        bad.tier.engine.run = run
        for _ in range(4):
            answer = await generate(fleet.client, asking(max_tokens=12))
            assert answer.token_ids == expected.token_ids
            assert answer.finished.speculation.num_draft_tokens > 0
        assert known.ejection.is_out


def some_targets(*stubs: ScriptedTier) -> ReplicaSet:
    """Replicas that are what they say."""
    return ReplicaSet(
        "target",
        [
            Replica(str(place), stub, Breaker(SILENCE), Standing.SERVING)
            for place, stub in enumerate(stubs)
        ],
    )


def remote(targets: ReplicaSet) -> RemoteVerifier:
    return RemoteVerifier(targets, TARGET, reopen=ReopenOptions(5.0, 0.001))


def answering_with(error: Exception, times: int = 9) -> ScriptedTier:
    return ScriptedTier(*[[verify_opened(), error] for _ in range(times)])


def status(code: str) -> grpc.aio.AioRpcError:
    nothing = grpc.aio.Metadata()
    return grpc.aio.AioRpcError(grpc.StatusCode[code], nothing, nothing, "why")


@pytest.mark.parametrize("code", ["INTERNAL", "UNKNOWN", "DATA_LOSS", "UNIMPLEMENTED"])
async def test_only_when_all_targets_have_failed_a_round_is_the_client_told(code):
    tiers = [answering_with(status(code)) for _ in range(3)]
    with pytest.raises(ReplicaFailedError, match="every target replica failed: why"):
        await remote(some_targets(*tiers)).verify(SESSION, Draft())
    assert [len(tier.calls) for tier in tiers] == [1, 1, 1]


async def test_nonsense_from_all_targets_is_told_as_such():
    tiers = [ScriptedTier([verify_opened(), evidence(7, 3)]) for _ in range(2)]
    with pytest.raises(TierProtocolError):
        await remote(some_targets(*tiers)).verify(SESSION, Draft())


async def test_a_request_that_every_target_fails_ejects_none():
    """Else whoever finds one could eject them all."""
    targets = some_targets(*(answering_with(status("INTERNAL")) for _ in range(2)))
    for _ in range(5):
        with pytest.raises(ReplicaFailedError):
            await remote(targets).verify(SESSION, Draft())
    assert all(each.is_healthy for each in targets.all)


@pytest.mark.parametrize(
    "error",
    [
        status("INVALID_ARGUMENT"),
        as_rpc_error(InvalidArgumentError({"round": "no"})),
        as_rpc_error(OverloadedError("full")),
        status("RESOURCE_EXHAUSTED"),
        status("DEADLINE_EXCEEDED"),
        status("FAILED_PRECONDITION"),
    ],
    ids=lambda error: error.code().name,
)
async def test_what_a_request_is_to_blame_for_never_ejects_a_target(error):
    targets = some_targets(*(ScriptedTier(*[[error] for _ in range(9)]) for _ in range(2)))
    for _ in range(4):
        with pytest.raises(ForethoughtError):
            await remote(targets).start(SESSION)
    assert all(each.is_healthy for each in targets.all)


async def test_evidence_that_is_refused_at_one_target_is_asked_of_another():
    forged = evidence(0, 3)
    forged.evidence.positions[0].tail_token_id = 2**31
    targets = some_targets(
        ScriptedTier(*[[verify_opened(), forged] for _ in range(9)]),
        ScriptedTier(*[[verify_opened(), evidence(0, 3)] for _ in range(9)]),
    )
    for _ in range(9):
        await remote(targets).verify(SESSION, Draft())


@pytest.mark.parametrize(
    "error",
    [
        as_rpc_error(SessionIdleError("asked for nothing")),
        as_rpc_error(OpeningTimeoutError("not opened in time")),
        as_rpc_error(DrainingError("shutting down")),
    ],
    ids=lambda error: error.details(),
)
async def test_a_stream_that_ends_in_order_is_opened_again_and_ejects_no_target(error):
    targets = some_targets(
        *(
            ScriptedTier(*[[verify_opened(), error], [verify_opened(), evidence(0, 3)]] * 5)
            for _ in range(2)
        )
    )
    for _ in range(5):
        await remote(targets).verify(SESSION, Draft())
    assert all(each.is_healthy for each in targets.all)


async def test_a_write_to_a_stream_that_has_ended_ejects_no_target():
    class Ended(ScriptedTier):
        """Ends its first stream before the first round."""

        def _open(self, timeout, metadata=()):
            call = super()._open(timeout)
            write = call.write

            async def write_late(message):
                if len(self.calls) % 2 and call.sent:
                    raise status("INTERNAL")
                await write(message)

            call.write = write_late
            return call

    script = [verify_opened(), evidence(0, 3)]
    targets = some_targets(Ended(*[script] * 20))
    targets.all[0].ejection = Ejection(EjectionSettings(max_failures=1))
    for _ in range(5):
        await remote(targets).verify(SESSION, Draft())
    assert targets.all[0].is_healthy


NONSENSE = {
    "sizes that do not grow": {"pass_costs": (PassCost(2, 5), PassCost(2, 6))},
    "no time at all": {"pass_costs": (PassCost(1, 0),)},
    "hours": {"pass_costs": (PassCost(1, 2**63),)},
    "too many tokens": {"max_num_speculative_tokens": 2**31},
}


@pytest.mark.parametrize("nonsense", NONSENSE)
def test_what_no_tier_can_say_of_its_model_is_refused(nonsense):
    with pytest.raises(TierProtocolError):
        check_model(replace(TARGET, **NONSENSE[nonsense]))
