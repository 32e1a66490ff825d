"""The settings of manifests are read as in a pod, where no test has set variables."""

import os

import pytest


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch):
    for name in os.environ:
        if name.startswith("FORETHOUGHT_"):
            monkeypatch.delenv(name)
