"""Models with room for long answers."""

from pathlib import Path

import pytest

from tests.stack import LoadedModel, loaded
from tests.tiny import write_tiny_model

LONG = 4096


@pytest.fixture(scope="session")
def long_target_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("long") / "target"
    return write_tiny_model(folder, vocab_size=12, seed=1, max_model_len=LONG)


@pytest.fixture(scope="session")
def long_target(long_target_folder: Path) -> LoadedModel:
    return loaded(long_target_folder)


@pytest.fixture(scope="session")
def long_draft(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    folder = tmp_path_factory.mktemp("long") / "draft"
    return loaded(write_tiny_model(folder, vocab_size=12, seed=2, max_model_len=LONG))
