"""A folder for each deployment, whoever else has one and wherever this one is started."""

import os
from contextlib import ExitStack
from pathlib import Path

import pytest

from forethought.local.plan.deployment_folder import deployment_folder
from forethought.local.plan.plan_error import PlanError


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_it_is_named_by_the_port():
    with deployment_folder(None, 50050) as folder:
        assert str(folder.path) == ".forethought/50050"
        assert folder.notes == ()


def test_it_belongs_to_one_deployment_at_a_time():
    with deployment_folder(None, 50050) as first, deployment_folder(None, 50050) as second:
        assert [first.path.name, second.path.name] == ["50050", "50050-2"]
    with deployment_folder(None, 50050) as third:
        assert third.path.name == "50050"


def test_what_tiers_share_goes_with_the_deployment():
    with deployment_folder(None, 1) as folder:
        folder.shared_cores.touch()
    assert not folder.shared_cores.exists()


def test_a_folder_that_cannot_be_made_is_replaced_and_that_is_said(here, tmp_path):
    (here / ".forethought").write_text("a file where the folder should be")
    with deployment_folder(None, 50050) as folder:
        assert here not in folder.path.parents
        assert (folder.path / "target.log").write_text("a log")
        assert str(folder.path) in folder.notes[0]


def test_a_folder_that_was_asked_for_is_not_replaced(here):
    (here / "file").touch()
    with ExitStack() as held, pytest.raises(PlanError, match=r"^--log-dir file/logs: Not a dir"):
        held.enter_context(deployment_folder(Path("file/logs"), 1))


def test_a_folder_that_was_asked_for_is_not_shared(here):
    with (
        deployment_folder(here / "logs", 1),
        ExitStack() as held,
        pytest.raises(PlanError, match="another deployment writes its logs there"),
    ):
        held.enter_context(deployment_folder(here / "logs", 2))


def test_the_lock_is_not_handed_on_to_processes_that_are_started():
    with deployment_folder(None, 1) as folder:
        open_files = [entry for entry in Path("/proc/self/fd").iterdir() if entry.exists()]
        held = [int(entry.name) for entry in open_files if entry.samefile(folder.path)]
        assert held
        assert not any(os.get_inheritable(number) for number in held)
