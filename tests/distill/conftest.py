"""A tiny target whose answers depend on what was said, and a small run on it."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from forethought.distill.data.conversation import Lengths
from forethought.distill.data.generator import DataOptions
from forethought.distill.pipeline import Architecture, DraftOptions, Options, Run
from forethought.distill.samples.batches import BatchOptions
from forethought.distill.training.trainer import TrainOptions
from forethought.engine.loading.loader import EngineOptions
from forethought.models.files.reference import resolve
from tests.tiny import write_tiny_model

OPTIONS = Options(
    engine=EngineOptions(dtype="float32", device="cpu", num_threads=1),
    data=DataOptions(
        num_tokens=4000, batch_size=16, shard_size=32, num_top=24, lengths=Lengths(16, 32, 2)
    ),
    draft=DraftOptions(draft_vocab_size=20, num_top=24, held_out_every=4, dtype="float32"),
    training=TrainOptions(
        num_steps=60,
        num_warm_up=5,
        checkpoint_every=10,
        matrix_rate=1e-3,
        vector_rate=1e-3,
        batches=BatchOptions(num_rows=4, row_len=32, max_context=8),
    ),
)
LAYERS = {Architecture.FEATURE: (-1,), Architecture.LLAMA: (0,)}


@pytest.fixture(scope="session")
def target_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("distill") / "target"
    return write_tiny_model(folder, vocab_size=24, seed=1, num_layers=4, scale=2.5)


@pytest.fixture(scope="session")
def data_folder(target_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose data is complete, not to be changed."""
    folder = tmp_path_factory.mktemp("distill") / "run"
    Run(resolve(str(target_folder)), folder, OPTIONS).make_data()
    return folder


def options(architecture: Architecture) -> Options:
    """For a draft of this kind."""
    draft = replace(OPTIONS.draft, architecture=architecture, layers=LAYERS[architecture])
    return replace(OPTIONS, draft=draft)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)
