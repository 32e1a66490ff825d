"""Tiny models on both engines, and the servers of the store's tests."""

from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM

from forethought.engine.hf.transformers_model import TransformersModel
from forethought.engine.loading.loader import EngineOptions, load_model
from forethought.engine.model.causal_model import CausalModel
from forethought.models.files.reference import ModelFiles
from tests.engine.conftest import Reference, one_thread, reference_of  # noqa: F401 - a fixture
from tests.kv.tiers import MAX_LEN, VOCAB_SIZE
from tests.store.conftest import own_server, redis, shared_server  # noqa: F401 - fixtures
from tests.tiny import write_tiny_model


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kv")
    return write_tiny_model(folder, vocab_size=VOCAB_SIZE, max_model_len=MAX_LEN, head_dim=16)


@pytest.fixture(scope="session")
def lean(folder: Path) -> CausalModel:
    return load_model(ModelFiles("tiny", folder, None), EngineOptions(device="cpu"))


@pytest.fixture(scope="session")
def unlean(folder: Path) -> CausalModel:
    return TransformersModel(AutoModelForCausalLM.from_pretrained(folder).eval(), MAX_LEN)


@pytest.fixture(params=["lean", "unlean"])
def model(request: pytest.FixtureRequest) -> CausalModel:
    """The same weights in fp32, by the lean decoder and by transformers."""
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="session")
def reference(folder: Path) -> Reference:
    return reference_of(folder)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sessions wait for the store, however busy the machine is, and do not compute instead."""
    for name in ("_MIN_SLACK_S", "_MAX_SLACK_S"):
        monkeypatch.setattr(f"forethought.engine.cache.restore.{name}", 60.0)
