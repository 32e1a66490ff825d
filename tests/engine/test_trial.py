"""What is accepted says what transformers says, also far beyond windows; the rest is refused."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM

from forethought.engine.hf import transformers_model, trial
from forethought.engine.loading.loader import EngineOptions, load_model
from forethought.engine.model.attention import AttentionKind
from forethought.engine.model.causal_model import CausalModel
from forethought.engine.model.packed import SequencePart, pack
from forethought.errors import ModelReferenceError
from forethought.models.files.reference import ModelFiles
from tests.engine.conftest import reference_of
from tests.tiny import write_tiny_model

WINDOW = 32
LENGTH = 300
MOE = {
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
    "shared_expert_intermediate_size": 32,
}
FAMILIES: dict[str, dict[str, Any]] = {
    "qwen2_moe": {**MOE, "use_sliding_window": True, "max_window_layers": 1},
    "phimoe": {"num_local_experts": 4},
    "mixtral": {"num_local_experts": 4},
    "gemma3_text": {"head_dim": 8, "num_hidden_layers": 6},
    "gpt_oss": {"head_dim": 8, "num_local_experts": 4},
    # Settings that a family's code does not read.
    "llama": {"use_sliding_window": True, "layer_types": ["sliding_attention"] * 2},
    "mistral": {"attention_bias": True, "mlp_bias": True},
    "qwen2": {"attention_bias": True, "use_sliding_window": False},
}
SLOW_FAMILIES: dict[str, dict[str, Any]] = {
    "cohere2": {"num_hidden_layers": 4},
    "exaone4": {"sliding_window_pattern": 2},
    "gemma2": {"head_dim": 8, "attn_logit_softcapping": 2.0},
    "glm4": {"head_dim": 8, "pad_token_id": 0},
    "gpt_bigcode": {},
    "gpt_neox": {},
    "granite": {},
    "jais2": {},
    "minicpm3": {
        "q_lora_rank": 16,
        "kv_lora_rank": 16,
        "qk_rope_head_dim": 8,
        "qk_nope_head_dim": 8,
        "v_head_dim": 16,
        "num_key_value_heads": 4,
    },
    "ministral": {"head_dim": 8},
    "nemotron": {},
    "olmo3": {"pad_token_id": 0},
    "olmoe": {**MOE, "sliding_window": None},
    "opt": {"ffn_dim": 64, "word_embed_proj_dim": 32},
    "phi3": {"pad_token_id": 0},
    "qwen3_moe": {**MOE, "head_dim": 8},
    "smollm3": {"pad_token_id": 0, "no_rope_layers": [1, 0]},
    "stablelm": {},
    "starcoder2": {},
}


def tiny(folder: Path, family: str, **config: Any) -> ModelFiles:
    known = {"max_model_len": 512, "sliding_window": WINDOW} | config
    write_tiny_model(folder, architecture=family, vocab_size=40, **known)
    return ModelFiles(family, folder, None)


def load(files: ModelFiles, **options: Any) -> CausalModel:
    return load_model(files, EngineOptions(device="cpu", **options))


def logits_in_pieces(model: CausalModel, tokens: list[int]) -> torch.Tensor:
    """[T, V]: a long piece beside another sequence, and short ones."""
    model.allocate(48)
    blocks, others = range(24), range(24, 48)
    beside = SequencePart(tokens[:150], 0, others, 0)
    rows, start = [], 0
    for size in (180, 1, 6, 2, 40, 1, 70):
        own = SequencePart(tokens[start : start + size], start, blocks, size)
        rows.append(model.forward(pack([own] if start else [own, beside]))[:size])
        start += size
    return torch.cat(rows)


def check_family(folder: Path, family: str, config: dict[str, Any]) -> None:
    tokens = [(3 + 7 * index + index * index % 11) % 40 for index in range(LENGTH)]
    found = logits_in_pieces(load(tiny(folder, family, **config)), tokens)
    torch.testing.assert_close(found, reference_of(folder)(tokens), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_long_text_has_the_logits_of_transformers(tmp_path, family):
    check_family(tmp_path, family, FAMILIES[family])


@pytest.mark.slow
@pytest.mark.parametrize("family", SLOW_FAMILIES)
def test_a_long_text_has_the_logits_of_transformers_in_every_family(tmp_path, family):
    check_family(tmp_path, family, SLOW_FAMILIES[family])


@pytest.mark.parametrize("window", [32, 4096])
@pytest.mark.parametrize("family", ["mixtral", "phimoe"])
def test_a_window_that_would_be_lost_is_found_out(monkeypatch, tmp_path, family, window):
    """Also one that is longer than any trial."""

    def forgetful(*values: Any) -> AttentionKind:
        return replace(AttentionKind(*values), window=None)

    monkeypatch.setattr(transformers_model, "AttentionKind", forgetful)
    files = tiny(tmp_path, family, sliding_window=window, max_model_len=8192, num_local_experts=4)
    with pytest.raises(ModelReferenceError, match="does not know"):
        load(files)


def test_a_window_under_a_name_that_is_not_known_shows_in_a_long_text(monkeypatch, tmp_path):
    def forgetful(*values: Any) -> AttentionKind:
        return replace(AttentionKind(*values), window=None)

    monkeypatch.setattr(transformers_model, "AttentionKind", forgetful)
    monkeypatch.setattr(trial, "_SHORT_WINDOW", WINDOW - 1)  # so that a short text shows nothing
    with pytest.raises(ModelReferenceError, match="does not know"):
        load(tiny(tmp_path, "mixtral", num_local_experts=4))


def test_a_window_under_a_name_that_says_nothing_shows_in_a_long_text(monkeypatch, tmp_path):
    monkeypatch.setattr(trial, "_IS_WINDOW", re.compile("no such name"))
    with pytest.raises(ModelReferenceError, match="does not know"):
        load(tiny(tmp_path, "doge", keep_window_size=40, sliding_window=None, pad_token_id=0))


def test_a_model_that_its_own_code_cannot_run_says_so(tmp_path):
    files = tiny(tmp_path, "mixtral", num_local_experts=4)
    config = json.loads((tmp_path / "config.json").read_text()) | {"num_experts_per_tok": 5}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelReferenceError, match="own code for mixtral cannot run it"):
        load(files)


def test_a_small_model_is_tried_on_one_thread_so_that_none_waits_for_another(monkeypatch, tmp_path):
    seen = []

    def compare(*_: Any) -> None:
        seen.append(torch.get_num_threads())

    monkeypatch.setattr(trial.OwnLogits, "check", compare)
    num_threads = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        load(tiny(tmp_path, "mixtral", num_local_experts=4))
        assert (seen, torch.get_num_threads()) == ([1], 3)
    finally:
        torch.set_num_threads(num_threads)


def test_windows_are_as_long_as_ever_after_the_trial(tmp_path):
    files = tiny(tmp_path, "mixtral", num_local_experts=4)
    model = AutoModelForCausalLM.from_pretrained(files.folder).eval()
    with trial.short_windows(model):
        assert model.config.sliding_window < WINDOW
    assert model.config.sliding_window == WINDOW


@pytest.mark.parametrize("family", ["llama", "olmo2"])
def test_a_model_whose_own_logits_are_no_numbers_is_refused_for_that(tmp_path, family):
    files = tiny(tmp_path, family)
    weights = load_file(tmp_path / "model.safetensors")
    weights["model.layers.1.mlp.up_proj.weight"][0] = torch.nan
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelReferenceError, match="its own logits are not numbers"):
        load(files)


@pytest.mark.parametrize("family", ["bert", "roberta", "electra"])
def test_a_model_that_looks_ahead_is_no_decoder(tmp_path, family):
    config = AutoConfig.for_model(
        family,
        vocab_size=40,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=128,
        pad_token_id=0,
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    with pytest.raises(ModelReferenceError, match="it is no decoder"):
        load(ModelFiles("it", tmp_path, None))


@pytest.mark.parametrize(
    ("family", "complaint"),
    [
        ("bloom", "computes attention on its own"),
        ("llama4_text", r"rolled back.*chunked_attention"),
        ("diffllama", "does not know"),
        ("doge", "does not run over blocks"),
    ],
)
def test_a_family_that_is_not_computed_is_refused_with_the_reason(tmp_path, family, complaint):
    more = {"num_local_experts": 2} if family == "llama4_text" else {}
    with pytest.raises(ModelReferenceError, match=complaint):
        load(tiny(tmp_path, family, **more))


ROPE = {"rope_theta": 10_000.0}
FACTORS = {
    "short_factor": [1.0, 1.2, 1.5, 2.0],
    "long_factor": [2.0, 4.0, 8.0, 16.0],
    "original_max_position_embeddings": 256,
}
LLAMA3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0}


@pytest.mark.parametrize("family", ["llama", "olmo2"])
@pytest.mark.parametrize(
    ("scaling", "length"),
    [
        ({"rope_type": "default"}, 512),
        ({"rope_type": "linear", "factor": 4.0}, 2048),
        ({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 256}, 1024),
        (
            {
                "rope_type": "llama3",
                "factor": 4.0,
                "original_max_position_embeddings": 128,
                **LLAMA3,
            },
            512,
        ),
        ({"rope_type": "dynamic", "factor": 4.0}, 512),
        ({"rope_type": "longrope", **FACTORS}, 256),
        ({"rope_type": "longrope", **FACTORS, "long_factor": FACTORS["short_factor"]}, 512),
    ],
)
def test_the_length_that_is_served_follows_from_how_positions_are_scaled(
    tmp_path, family, scaling, length
):
    files = tiny(tmp_path, family, rope_parameters=scaling | ROPE)
    assert load(files).max_model_len == length
    with pytest.raises(ModelReferenceError, match=f"{length + 1}: .* {length} tokens"):
        load(files, max_model_len=length + 1)


@pytest.mark.parametrize("family", ["llama", "olmo2"])
@pytest.mark.parametrize("kind", ["longrope", "dynamic"])
def test_a_long_sequence_does_not_turn_the_positions_of_another(tmp_path, family, kind):
    scaling = {"factor": 4.0} if kind == "dynamic" else FACTORS
    files = tiny(tmp_path, family, rope_parameters={"rope_type": kind, **scaling, **ROPE})
    model = load(files)
    tokens = [(3 + 7 * index) % 40 for index in range(model.max_model_len)]
    model.allocate(2 + len(tokens) // 16)
    others = range(2, 2 + len(tokens) // 16)
    long = SequencePart(tokens, 0, others, 1)
    beside = model.forward(pack([SequencePart(tokens[:20], 0, (0, 1), 20), long]))[:20]
    torch.testing.assert_close(beside, reference_of(tmp_path)(tokens[:20]), atol=1e-3, rtol=1e-3)


def test_positions_that_are_scaled_in_an_unknown_way_are_refused_by_name(tmp_path):
    files = tiny(tmp_path, "olmo2")
    path = tmp_path / "config.json"
    config = json.loads(path.read_text()) | {"rope_parameters": {"rope_type": "spiral", **ROPE}}
    path.write_text(json.dumps(config))
    with pytest.raises(ModelReferenceError, match="spiral"):
        load(files)
