"""Models with room for answers that do not fit between a server and a client that reads nothing."""

from pathlib import Path

import pytest

from tests.stack import LoadedModel, loaded
from tests.tiny import write_tiny_model


@pytest.fixture(scope="session")
def long_target(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    folder: Path = tmp_path_factory.mktemp("long") / "target"
    return loaded(write_tiny_model(folder, vocab_size=12, seed=1, max_model_len=4096))
