"""The embedded store listens where no other user of the machine can reach it."""

import socket
import stat
from pathlib import Path

import pytest

from forethought.configuration.store_url import socket_of_url, url_of_socket
from forethought.local.plan.plan import planned
from forethought.local.plan.plan_error import PlanError
from forethought.local.plan.plan_options import PlanOptions
from forethought.local.plan.private_socket import private_socket
from forethought.local.processes.probes import Readiness, probe_redis
from forethought.local.processes.process import spawn_background, stop_processes
from forethought.store.server.connection import ConnectionSettings, StoreConnection
from forethought.store.start_check import require_store, sessions_are_kept
from tests.ports import free_port


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_its_folder_is_nobody_elses_whatever_was_there_before(tmp_path):
    (tmp_path / "valkey").mkdir(0o777)
    (tmp_path / "valkey" / "valkey.sock").write_text("left behind")
    with private_socket(tmp_path, "valkey") as path:
        assert path == tmp_path / "valkey" / "valkey.sock"
        assert mode_of(path.parent) == 0o700
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("why", ["the path is too long", "no folder can be made"])
def test_where_the_deployment_has_no_place_for_it_the_folder_is_a_temporary_one(tmp_path, why):
    folder = tmp_path / ("x" * 100)
    folder.mkdir()
    if why == "no folder can be made":
        (folder / "valkey").write_text("a file")
    with private_socket(folder, "valkey") as path:
        assert folder not in path.parents
        assert mode_of(path.parent) == 0o700
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
    assert not path.parent.exists()


def test_a_machine_without_any_place_for_it_is_told_in_words(tmp_path, monkeypatch):
    folder = tmp_path / ("x" * 100)
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    with pytest.raises(PlanError, match=r"no place for the socket of valkey: .*too long"):
        private_socket(folder, "valkey").__enter__()


@pytest.mark.parametrize("options", [{"embedded_store": False}, {"redis_url": "redis://a"}])
def test_without_an_embedded_store_there_is_no_socket(tmp_path, options):
    with planned(PlanOptions(port=free_port(), **options), tmp_path):
        assert not (tmp_path / "valkey").exists()


async def test_the_store_works_there_and_listens_on_no_port(tmp_path):
    folder = tmp_path / "a folder #1 %20?"
    folder.mkdir()
    with (
        planned(PlanOptions(port=free_port()), folder) as plan,
        (tmp_path / "log").open("w") as log,
    ):
        tier = next(tier for tier in plan.tiers if tier.name == "valkey")
        assert await probe_redis(tier.address) is Readiness.AWAY
        process = await spawn_background(tier.command, log)
        try:
            await require_store(tier.address, sessions_are_kept)
            assert await probe_redis(tier.address) is Readiness.READY
            connection = StoreConnection(ConnectionSettings(tier.address, timeout_s=10))
            facts = await connection.run(lambda client: client.info("server"))
            await connection.close()
            assert facts["tcp_port"] == 0
        finally:
            await stop_processes([process], grace_s=10)


@pytest.mark.parametrize("path", ["/run/a b/#.sock", "/run/%41?x=1", "/run/ä"])
def test_a_path_survives_its_url(path):
    assert socket_of_url(url_of_socket(Path(path))) == path
    assert socket_of_url("redis://host/run/x") is None
