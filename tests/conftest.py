"""What all tests share: no network, one thread, tiny models made once."""

import gc
import os
import sys
from pathlib import Path

import pytest
import structlog
from hypothesis import HealthCheck, settings

gc.disable()  # until all tests are collected: that makes millions of objects, which stay
os.environ["HF_HUB_OFFLINE"] = "1"

import forethought.telemetry  # noqa: E402 - after the above

# Who reads settings in this process, or runs a script in it, leaves the logs as they are, since
# other tests look at them. Before anything has imported it.
forethought.telemetry.configure_logging = lambda *_: None

from tests.draft.feature_reference import write_feature_draft  # noqa: E402
from tests.stack import LoadedModel, loaded  # noqa: E402
from tests.tiny import write_tiny_model  # noqa: E402

# As in every process of ours, logs go where no output is looked for.
structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.__stderr__))

# The machine may be busy with other tests: slow is no sign of wrong. Each run tries the same
# examples, so that it ends as the last one did; the long form of the tests tries others.
_patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("searching", _patient)
settings.register_profile("steady", _patient, derandomize=True)
settings.load_profile("steady")

for _process in ("TARGET", "DRAFT", "ORCHESTRATOR", "GATEWAY"):  # several of each on one machine
    os.environ[f"FORETHOUGHT_{_process}_ADMIN_LISTEN"] = "127.0.0.1:0"


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session")
def tiny_target_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("tiny") / "target", vocab_size=12, seed=1)


@pytest.fixture(scope="session")
def tiny_draft_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The target's vocabulary and other weights: a bad draft."""
    return write_tiny_model(tmp_path_factory.mktemp("tiny") / "draft", vocab_size=12, seed=2)


@pytest.fixture(scope="session")
def tiny_feature_folder(tmp_path_factory: pytest.TempPathFactory, tiny_target: LoadedModel) -> Path:
    """Guesses from the target's hidden states, and knows 9 of its 12 tokens."""
    place = tmp_path_factory.mktemp("tiny") / "feature"
    return write_feature_draft(place, tiny_target.info, range(2, 11), seed=3)


@pytest.fixture(scope="session")
def tiny_target(tiny_target_folder: Path) -> LoadedModel:
    return loaded(tiny_target_folder)


@pytest.fixture(scope="session")
def tiny_draft(tiny_draft_folder: Path) -> LoadedModel:
    return loaded(tiny_draft_folder)
