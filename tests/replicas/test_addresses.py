"""Addresses, and names that stand for several machines."""

import pytest
import structlog

from forethought.rpc.connections.name_resolution import NameResolver, is_name
from orchestrator.settings import OrchestratorSettings
from tests.replicas.names import name_server

__all__ = ["name_server"]

TARGETS = "targets.test:50052"


async def look(resolver: NameResolver, serving: tuple[str, ...] = ()) -> set[str]:
    return set(await resolver.look(lambda each: each in serving))


async def test_a_name_stands_for_all_of_its_records(name_server):
    name_server.say("targets.test", "10.0.0.1", "10.0.0.2")
    found = await NameResolver([TARGETS]).look()
    assert found == dict.fromkeys(["10.0.0.1:50052", "10.0.0.2:50052"], TARGETS)


async def test_a_machine_with_addresses_of_both_kinds_counts_once(name_server):
    name_server.say("targets.test", "10.0.0.1", "fd00::1")
    assert await look(NameResolver([TARGETS])) == {"10.0.0.1:50052"}


async def test_machines_that_only_one_kind_of_address_reaches_all_of_are_all_found(name_server):
    name_server.say("targets.test", "10.0.0.1", "fd00::1", "fd00::2")
    assert await look(NameResolver([TARGETS])) == {"[fd00::1]:50052", "[fd00::2]:50052"}
    name_server.say("targets.test", "10.0.0.1", "fd00::1", "10.0.0.2")
    assert await look(NameResolver([TARGETS])) == {"10.0.0.1:50052", "10.0.0.2:50052"}


async def test_addresses_of_the_newer_kind_alone_are_taken(name_server):
    name_server.say("targets.test", "fd00::1")
    assert await look(NameResolver([TARGETS])) == {"[fd00::1]:50052"}


async def test_hundreds_of_records_are_followed_as_they_change(name_server):
    numbers = [f"10.0.{index // 250}.{index % 250}" for index in range(600)]
    resolver = NameResolver([TARGETS])
    name_server.say("targets.test", *numbers)
    assert len(await look(resolver)) == 600
    name_server.say("targets.test", *numbers[300:], "10.1.0.1")
    assert await look(resolver) == {f"{each}:50052" for each in [*numbers[300:], "10.1.0.1"]}


async def test_a_name_server_that_is_away_changes_nothing(name_server):
    resolver = NameResolver([TARGETS])
    name_server.say("targets.test", "10.0.0.1")
    found = await look(resolver)
    name_server.is_away = True
    assert await look(resolver) == found == {"10.0.0.1:50052"}
    name_server.is_away = False
    name_server.say("targets.test", "10.0.0.2")
    assert await look(resolver) == {"10.0.0.2:50052"}


async def test_a_name_that_cannot_be_resolved_leaves_the_others_to_be_followed(name_server):
    resolver = NameResolver(["a.test:1", "b.test:1"])
    name_server.say("b.test", "10.0.0.1")
    assert await look(resolver) == {"10.0.0.1:1"}
    name_server.say("a.test", "10.0.1.1")
    name_server.say("b.test", "10.0.0.2")
    assert await look(resolver) == {"10.0.0.2:1", "10.0.1.1:1"}


async def test_a_name_that_vanishes_keeps_replicas_that_serve_until_they_do_not(name_server):
    resolver = NameResolver([TARGETS])
    name_server.say("targets.test", "10.0.0.1", "10.0.0.2")
    await look(resolver)
    name_server.say("targets.test")
    assert await look(resolver, ("10.0.0.1:50052",)) == {"10.0.0.1:50052"}
    assert await look(resolver) == set()
    name_server.say("targets.test", "10.0.0.3")
    assert await look(resolver) == {"10.0.0.3:50052"}


async def test_a_name_without_records_is_no_replica_until_it_has_some(name_server):
    resolver = NameResolver([TARGETS])
    with structlog.testing.capture_logs() as logs:
        for _ in range(3):
            assert await look(resolver) == set()
        name_server.say("targets.test", "10.0.0.1")
        for _ in range(3):
            assert await look(resolver) == {"10.0.0.1:50052"}
    assert [line["event"] for line in logs] == ["name_not_resolved", "name_resolved"]
    assert logs[0]["why"] == "Name or service not known"


async def test_a_name_server_that_hangs_keeps_nobody_waiting_and_is_asked_once(name_server):
    resolver = NameResolver([TARGETS, "127.0.0.1:1"], time_limit_s=0.01)
    name_server.hang()
    for _ in range(3):
        assert await look(resolver) == {"127.0.0.1:1"}
    assert name_server.num_questions == 1
    name_server.say("targets.test", "10.0.0.1")
    name_server.go_on()
    patient = NameResolver([TARGETS])
    patient._asked = resolver._asked
    assert await look(patient) == {"10.0.0.1:50052"}
    assert name_server.num_questions == 1
    name_server.hang()
    await look(resolver)
    resolver.close()


async def test_a_host_that_can_be_no_name_is_said_to_be_none():
    resolver = NameResolver([f"{'a' * 64}.test:1"])
    with structlog.testing.capture_logs() as logs:
        assert await look(resolver) == set()
    assert logs[0]["why"] == "this can be no name"


async def test_numbers_are_not_asked_for(name_server):
    addresses = ["127.0.0.1:1", "[::1]:2", "unix:///run/target", "localhost:3"]
    resolver = NameResolver(addresses)
    assert not resolver.has_names
    assert await resolver.look() == {each: each for each in addresses}
    assert not name_server.num_questions


async def test_a_replica_that_has_a_name_and_an_address_counts_once(name_server):
    name_server.say("targets.test", "10.0.0.1")
    assert await look(NameResolver(["10.0.0.1:50052", TARGETS])) == {"10.0.0.1:50052"}


@pytest.mark.parametrize(
    ("address", "expected"),
    [("targets:1", True), ("a.b.c:1", True), ("10.0.0.1:1", False), ("dns:///a:1", False)],
)
def test_what_is_a_name(address, expected):
    assert is_name(address) is expected


@pytest.mark.parametrize(
    "flags",
    [["--target", "a:1,b:2"], ["--target", "a:1", "--target", "b:2"], ["--target=a:1, b:2"]],
    ids=["with commas", "repeated", "with a space"],
)
def test_several_addresses_may_be_given(flags):
    settings = OrchestratorSettings.from_command_line(["--model", "m", *flags])
    assert settings.target == ("a:1", "b:2")


def test_several_addresses_may_come_from_the_environment(monkeypatch):
    monkeypatch.setenv("FORETHOUGHT_ORCHESTRATOR_DRAFT", "a:1,b:2")
    assert OrchestratorSettings.from_command_line(["--model", "m"]).draft == ("a:1", "b:2")


def test_several_addresses_may_come_from_the_file(monkeypatch, tmp_path):
    path = tmp_path / "forethought.toml"
    path.write_text('[orchestrator]\ntarget = ["a:1", "b:2"]\ndraft = "c:3"')
    monkeypatch.setenv("FORETHOUGHT_CONFIG", str(path))
    settings = OrchestratorSettings.from_command_line(["--model", "m"])
    assert (settings.target, settings.draft) == (("a:1", "b:2"), ("c:3",))


def test_an_empty_address_is_refused_by_name(capsys):
    with pytest.raises(SystemExit):
        OrchestratorSettings.from_command_line(["--model", "m", "--target", "a:1,"])
    assert "target" in capsys.readouterr().err
