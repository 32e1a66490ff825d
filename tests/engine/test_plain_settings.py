"""Configurations read without transformers say what transformers reads from them."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from forethought.engine.hf.transformers_settings import read_settings
from forethought.engine.weights.lean_config import LeanConfig, is_lean
from forethought.engine.weights.plain_settings import plain_settings, read_plain_settings

SIZES: dict[str, Any] = {
    "vocab_size": 100,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 4096,
    "rms_norm_eps": 1e-5,
    "hidden_act": "silu",
}
LLAMA3 = {"factor": 8.0, "low_freq_factor": 1, "high_freq_factor": 4.0}
SHORT, LONG = [1.0 + i / 8 for i in range(8)], [2.0] * 8
ROPES: list[dict[str, Any]] = [
    {"rope_theta": 10_000},
    {"rope_theta": 5e5, "rope_scaling": None},
    {"rope_parameters": {"rope_type": "default", "rope_theta": 1e6}},
    {"rope_theta": 1e4, "rope_scaling": {"type": "linear", "factor": 2}},
    {"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 3.5}},
    {
        "rope_theta": 5e5,
        "rope_scaling": {
            "rope_type": "llama3",
            "original_max_position_embeddings": 1024,
            **LLAMA3,
        },
    },
    {"rope_theta": 5e5, "rope_scaling": {"rope_type": "llama3", **LLAMA3}},
    {"rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 1024}},
    {"rope_theta": 1e6, "rope_scaling": {"rope_type": "yarn", "factor": 2.0}},
    {
        "rope_scaling": {
            "rope_type": "yarn",
            "factor": 4.0,
            "beta_fast": 16,
            "beta_slow": 2.0,
            "truncate": False,
            "mscale": 0.7,
            "mscale_all_dim": 1.2,
        }
    },
    {"rope_scaling": {"rope_type": "yarn", "factor": 4.0, "attention_factor": 1.3}},
    {
        "original_max_position_embeddings": 512,
        "rope_scaling": {"type": "longrope", "short_factor": SHORT, "long_factor": LONG},
    },
    {
        "rope_scaling": {
            "rope_type": "longrope",
            "short_factor": SHORT,
            "long_factor": SHORT,
            "factor": 4.0,
            "original_max_position_embeddings": 1024,
        }
    },
]
FULL, SLIDING = "full_attention", "sliding_attention"
FAMILIES: list[dict[str, Any]] = [
    {"model_type": "llama", "torch_dtype": "bfloat16"},
    {"model_type": "llama", "torch_dtype": "float16", "dtype": None},
    {"model_type": "llama", "attention_bias": True, "mlp_bias": True, "head_dim": 32},
    {"model_type": "llama", "tie_word_embeddings": True, "dtype": "float16", "sliding_window": 7},
    {"model_type": "mistral", "sliding_window": 33},
    {"model_type": "mistral", "sliding_window": None, "head_dim": 8},
    {"model_type": "qwen2", "use_sliding_window": False, "sliding_window": 99},
    {"model_type": "qwen2", "layer_types": [FULL] * 3, "sliding_window": None},
    {
        "model_type": "qwen2",
        "use_sliding_window": True,
        "sliding_window": 9,
        "layer_types": [FULL, SLIDING, SLIDING],
    },
    {"model_type": "qwen3", "head_dim": 16, "attention_bias": True},
]


def stored_in(folder: Path, **config: Any) -> Path:
    (folder / "config.json").write_text(json.dumps({**SIZES, **config}))
    return folder


def assert_same(folder: Path) -> None:
    plain, expected = read_plain_settings(folder), read_settings(folder)
    assert plain is not None
    assert is_lean(plain)
    assert is_lean(expected)
    assert plain.dtype == expected.dtype
    ours, theirs = (LeanConfig.from_transformers(each) for each in (plain, expected))
    for one, other in zip(ours.rotations, theirs.rotations, strict=True):
        assert torch.equal(one.inv_freq, other.inv_freq)
        assert one.scale == other.scale
    assert replace(ours, rotations=()) == replace(theirs, rotations=())


@pytest.mark.parametrize("family", FAMILIES, ids=str)
def test_each_family_has_the_settings_that_transformers_reads(tmp_path, family):
    assert_same(stored_in(tmp_path, **family))


@pytest.mark.parametrize("rope", ROPES, ids=str)
def test_positions_rotate_bit_for_bit_as_in_transformers(tmp_path, rope):
    folder = stored_in(tmp_path, model_type="llama", **rope)
    assert_same(folder)
    expected = LlamaRotaryEmbedding(read_settings(folder))
    found = LeanConfig.from_transformers(read_plain_settings(folder))
    assert torch.equal(found.rotations[0].inv_freq, expected.inv_freq)
    assert found.rotations[0].scale == expected.attention_scaling


@pytest.mark.parametrize("model_type", ["llama", "mistral", "qwen2", "qwen3"])
def test_what_transformers_saves_is_read_without_it(tmp_path, model_type):
    AutoConfig.for_model(model_type, **SIZES).save_pretrained(tmp_path)
    assert_same(tmp_path)


@pytest.mark.parametrize(
    "odd",
    [
        {"model_type": "gemma"},
        {"model_type": ["llama"]},
        {"model_type": "llama", "pretraining_tp": [1]},
        {"model_type": "llama", "dtype": ["float32"]},
        {"model_type": "llama", "hidden_size": "64"},
        {"model_type": "llama", "hidden_size": 66},
        {"model_type": "llama", "num_key_value_heads": 0},
        {"model_type": "llama", "num_attention_heads": None},
        {"model_type": "llama", "rms_norm_eps": None},
        {"model_type": "llama", "tie_word_embeddings": None},
        {"model_type": "llama", "dtype": "auto"},
        {"model_type": "llama", "quantization_config": {"quant_method": "awq"}},
        {"model_type": "llama", "partial_rotary_factor": 0.5},
        {"model_type": "llama", "rope_theta": 0},
        {"model_type": "llama", "rope_scaling": {"rope_type": "dynamic", "factor": 2.0}},
        {"model_type": "llama", "rope_scaling": {"rope_type": "linear"}},
        {"model_type": "llama", "rope_scaling": {"rope_type": "linear", "factor": -1.0}},
        {"model_type": "llama", "rope_scaling": {"rope_type": "longrope", "short_factor": [1.0]}},
        {"model_type": "llama", "rope_scaling": {"rope_type": ["linear"]}},
        {"model_type": "llama", "rope_scaling": "linear"},
        {"model_type": "qwen3", "rope_parameters": {FULL: {"rope_type": "default"}}},
        {"model_type": "llama", "layer_types": [FULL] * 3},
        {"model_type": "mistral"},
        {"model_type": "mistral", "sliding_window": 0},
        {"model_type": "qwen2", "layer_types": [FULL]},
        {"model_type": "qwen2", "layer_types": [FULL, [], FULL]},
        {"model_type": "qwen2", "layer_types": [FULL, SLIDING, FULL]},
        {"model_type": "qwen2", "use_sliding_window": True, "sliding_window": 8},
        {"model_type": "qwen3"},
    ],
    ids=str,
)
def test_what_is_not_as_usual_is_left_to_transformers(odd):
    assert plain_settings({**SIZES, **odd}) is None
