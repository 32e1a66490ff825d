"""Addresses, and names that stand for several machines."""

import asyncio
import socket

import pytest

from forethought.rpc.name_resolution import is_name, resolve_all
from orchestrator.settings import OrchestratorSettings


def records(*rows):
    """What a name server answers: pairs of host and kind."""
    return [
        (family, socket.SOCK_STREAM, 6, "", (host, 50052))
        for host, family in ((host, family) for family, host in rows)
    ]


@pytest.fixture
def name_server(monkeypatch):
    """Answers by host; whoever is not in it cannot be resolved."""
    answers = {}

    async def getaddrinfo(self, host, port, **_):
        if host not in answers:
            raise socket.gaierror("no such name")
        return records(*answers[host])

    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", getaddrinfo)
    return answers


V4, V6 = socket.AF_INET, socket.AF_INET6


async def test_a_name_stands_for_all_of_its_records(name_server):
    name_server["targets"] = [(V4, "10.0.0.1"), (V4, "10.0.0.2")]
    found = await resolve_all(["targets:50052"], {})
    assert found == dict.fromkeys(["10.0.0.1:50052", "10.0.0.2:50052"], "targets:50052")


async def test_a_machine_with_addresses_of_both_kinds_counts_once(name_server):
    name_server["targets"] = [(V4, "10.0.0.1"), (V6, "fd00::1")]
    assert await resolve_all(["targets:50052"], {}) == {"10.0.0.1:50052": "targets:50052"}


async def test_addresses_of_the_newer_kind_alone_are_taken(name_server):
    name_server["targets"] = [(V6, "fd00::1")]
    assert await resolve_all(["targets:50052"], {}) == {"[fd00::1]:50052": "targets:50052"}


async def test_a_name_server_that_is_away_changes_nothing(name_server):
    known = {"10.0.0.1:50052": "targets:50052"}
    assert await resolve_all(["targets:50052"], known) == known


async def test_numbers_are_not_asked_for(name_server):
    addresses = ["127.0.0.1:1", "[::1]:2", "unix:///run/target", "localhost:3"]
    assert await resolve_all(addresses, {}) == {each: each for each in addresses}


@pytest.mark.parametrize(
    ("address", "expected"),
    [("targets:1", True), ("a.b.c:1", True), ("10.0.0.1:1", False), ("dns:///a:1", False)],
)
def test_what_is_a_name(address, expected):
    assert is_name(address) is expected


@pytest.fixture
def quiet(monkeypatch):
    """Settings configure the logs of the whole process; not of this one."""
    monkeypatch.setattr("forethought.settings.configure_logging", lambda *_: None)


@pytest.mark.parametrize(
    "flags",
    [["--target", "a:1,b:2"], ["--target", "a:1", "--target", "b:2"], ["--target=a:1, b:2"]],
    ids=["with commas", "repeated", "with a space"],
)
def test_several_addresses_may_be_given(quiet, flags):
    settings = OrchestratorSettings.from_command_line(["--model", "m", *flags])
    assert settings.target == ("a:1", "b:2")


def test_several_addresses_may_come_from_the_environment(quiet, monkeypatch):
    monkeypatch.setenv("FORETHOUGHT_ORCHESTRATOR_DRAFT", "a:1,b:2")
    assert OrchestratorSettings.from_command_line(["--model", "m"]).draft == ("a:1", "b:2")


def test_several_addresses_may_come_from_the_file(quiet, monkeypatch, tmp_path):
    path = tmp_path / "forethought.toml"
    path.write_text('[orchestrator]\ntarget = ["a:1", "b:2"]\ndraft = "c:3"')
    monkeypatch.setenv("FORETHOUGHT_CONFIG", str(path))
    settings = OrchestratorSettings.from_command_line(["--model", "m"])
    assert (settings.target, settings.draft) == (("a:1", "b:2"), ("c:3",))


def test_an_empty_address_is_refused_by_name(quiet, capsys):
    with pytest.raises(SystemExit):
        OrchestratorSettings.from_command_line(["--model", "m", "--target", "a:1,"])
    assert "target" in capsys.readouterr().err
