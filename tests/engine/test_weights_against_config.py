"""All that a configuration asks for is in the files, or the model is refused by tensors' names."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from structlog.testing import capture_logs

from forethought.engine.loading.loader import EngineOptions, load_model
from forethought.errors import ModelReferenceError
from forethought.models.files.reference import ModelFiles
from tests.engine.conftest import reference_of
from tests.engine.token_pool import whole_pass
from tests.tiny import write_tiny_model

TOKENS = [3, 5, 2, 7, 11, 13, 4]
Weights = dict[str, torch.Tensor]


def rewrite(folder: Path, change: Callable[[Weights], Any]) -> Path:
    weights = load_file(folder / "model.safetensors")
    change(weights)
    contiguous = {name: weight.contiguous() for name, weight in weights.items()}
    save_file(contiguous, folder / "model.safetensors", {"format": "pt"})
    return folder


def logits_of(folder: Path) -> torch.Tensor:
    files = ModelFiles(str(folder), folder, None)
    return whole_pass(load_model(files, EngineOptions(device="cpu")), TOKENS)


@pytest.mark.parametrize(
    ("family", "name", "config"),
    [
        ("llama", "lm_head.weight", {}),
        ("llama", "model.layers.1.self_attn.o_proj.bias", {"attention_bias": True}),
        ("qwen2", "model.layers.0.self_attn.q_proj.bias", {}),
        ("qwen3", "model.layers.1.self_attn.k_norm.weight", {"head_dim": 8}),
        ("mistral", "model.embed_tokens.weight", {}),
        ("olmo2", "lm_head.weight", {}),
        ("gpt_neox", "gpt_neox.layers.0.mlp.dense_4h_to_h.bias", {}),
        ("gemma2", "model.layers.1.pre_feedforward_layernorm.weight", {"head_dim": 8}),
    ],
)
def test_a_model_whose_files_lack_a_tensor_is_refused_by_its_name(tmp_path, family, name, config):
    folder = write_tiny_model(tmp_path, architecture=family, **config)
    rewrite(folder, lambda weights: weights.pop(name))
    with pytest.raises(ModelReferenceError, match=re.escape(name)):
        logits_of(folder)


def test_a_model_that_lacks_one_expert_of_a_layer_is_refused_by_the_layer(tmp_path):
    folder = write_tiny_model(tmp_path, architecture="mixtral", num_local_experts=4)
    name = "model.layers.1.block_sparse_moe.experts.2.w3.weight"
    rewrite(folder, lambda weights: weights.pop(name))
    with pytest.raises(ModelReferenceError, match=r"do not fit.*layers\.1\."):
        logits_of(folder)


@pytest.mark.parametrize("family", ["llama", "olmo2"])
def test_a_tensor_of_another_shape_is_refused_with_both_shapes(tmp_path, family):
    folder = write_tiny_model(tmp_path, architecture=family)
    name = "model.layers.0.mlp.up_proj.weight"
    rewrite(folder, lambda weights: weights.update({name: weights[name][:-8]}))
    with pytest.raises(ModelReferenceError, match=r"up_proj\.weight \[56, 32\] for \[64, 32\]"):
        logits_of(folder)


@pytest.mark.parametrize("family", ["llama", "qwen3", "olmo2"])
def test_a_head_that_is_stored_counts_though_the_configuration_ties_it(tmp_path, family):
    config = {"head_dim": 8} if family == "qwen3" else {}
    folder = write_tiny_model(tmp_path, architecture=family, **config)
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"tie_word_embeddings": True}))
    torch.testing.assert_close(logits_of(folder), reference_of(folder)(TOKENS))


@pytest.mark.parametrize("family", ["llama", "olmo2"])
def test_a_tied_model_may_store_its_head_and_no_embedding(tmp_path, family):
    folder = write_tiny_model(tmp_path, architecture=family, tie_word_embeddings=True)
    expected = logits_of(folder)

    def rename(weights: Weights) -> None:
        weights["lm_head.weight"] = weights.pop("model.embed_tokens.weight")

    torch.testing.assert_close(logits_of(rewrite(folder, rename)), expected)


@pytest.mark.parametrize("family", ["llama", "mistral", "olmo2"])
def test_tensors_that_the_configuration_has_no_place_for_are_left_out_and_logged(tmp_path, family):
    folder = write_tiny_model(tmp_path, architecture=family)
    expected = logits_of(folder)
    more = {
        "model.layers.0.self_attn.q_proj.bias": torch.ones(32),
        "model.layers.0.self_attn.k_proj.bias": torch.ones(16),
        "model.layers.0.self_attn.v_proj.bias": torch.ones(16),
        "model.layers.2.mlp.up_proj.weight": torch.ones(64, 32),
        "model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4),
    }
    rewrite(folder, lambda weights: weights.update(more))
    with capture_logs() as logs:
        assert torch.equal(logits_of(folder), expected)
    assert "k_proj.bias" in repr(logs)
    assert "inv_freq" not in repr(logs)
