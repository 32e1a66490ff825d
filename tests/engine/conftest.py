"""Tiny models of the architectures that differ in what their caches must do."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
from transformers import AutoModelForCausalLM

from forethought.engine.hf.transformers_model import TransformersModel
from forethought.engine.lean.lean_decoder import LeanDecoder
from forethought.engine.loading.loader import EngineOptions, load_model
from forethought.engine.model.causal_model import CausalModel
from forethought.engine.native import kernels
from forethought.models.files.reference import ModelFiles
from tests.tiny import write_tiny_model

WINDOW = 4
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "llama": {},
    "mistral": {"sliding_window": WINDOW, "head_dim": 16},  # native steps, if they are built
    "qwen2": {"sliding_window": WINDOW, "use_sliding_window": True, "max_window_layers": 1},
}

Reference = Callable[[list[int]], torch.Tensor]


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Threads that share so little work wait for each other most of the time, worst on a busy
    machine: 140 s for what takes 7."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module", params=["C", "torch"])
def rows_by(request: pytest.FixtureRequest) -> Iterator[None]:
    """Rows of the vocabulary are shaped and measured by the one, then by the other."""
    with patch.object(kernels, "are_built", request.param == "C"):
        yield


@pytest.fixture(scope="session", params=ARCHITECTURES)
def tiny_folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny") / request.param
    settings = ARCHITECTURES[request.param]
    return write_tiny_model(folder, architecture=request.param, max_model_len=96, **settings)


@pytest.fixture(scope="session", params=["lean", "transformers"])
def tiny_model(request: pytest.FixtureRequest, tiny_folder: Path) -> CausalModel:
    if request.param == "transformers":
        model = AutoModelForCausalLM.from_pretrained(tiny_folder).eval()
        return TransformersModel(model, max_model_len=96)
    files = ModelFiles(str(tiny_folder), tiny_folder, None)
    model = load_model(files, EngineOptions(device="cpu"))
    assert isinstance(model, LeanDecoder)
    return model


@pytest.fixture(scope="session")
def reference(tiny_folder: Path) -> Reference:
    return reference_of(tiny_folder)


def reference_of(folder: Path) -> Reference:
    """transformers' logits [T, V] for T tokens in one fresh pass, without any cache."""
    model = AutoModelForCausalLM.from_pretrained(folder).eval()

    @torch.inference_mode()
    def logits_of(token_ids: list[int]) -> torch.Tensor:
        return model(torch.tensor([token_ids]), use_cache=False).logits[0]

    return logits_of
