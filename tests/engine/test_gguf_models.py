"""GGUF files that say more than sizes: it is computed as transformers does, or refused by name."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from forethought.engine.loading.loader import EngineOptions, load_model
from forethought.engine.weights.gguf_file import GGUFTensor
from forethought.errors import ModelReferenceError
from forethought.models.files.reference import ModelFiles
from tests.engine.conftest import reference_of
from tests.engine.token_pool import whole_pass
from tests.tiny import write_tiny_model

TOKENS = [(3 + 7 * index + index % 5) % 40 for index in range(90)]
PARTS = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "self_attn.qkv_proj": "attn_qkv",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.gate_up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
EXPERTS = {
    "mlp.gate": "ffn_gate_inp",
    "mlp.shared_expert.gate_proj": "ffn_gate_shexp",
    "mlp.shared_expert.up_proj": "ffn_up_shexp",
    "mlp.shared_expert.down_proj": "ffn_down_shexp",
    "mlp.shared_expert_gate": "ffn_gate_inp_shexp",
}
GEMMA_NORMS = {
    "post_attention_layernorm": "post_attention_norm",
    "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
}
WHOLE = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10_000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
ODD_HEADS = {"attention.key_length": 7, "attention.value_length": 7, "rope.dimension_count": 7}
LINEAR = {"rope_type": "linear", "rope_theta": 10_000.0, "factor": 4.0}
YARN = {
    "rope_type": "yarn",
    "rope_theta": 10_000.0,
    "factor": 4.0,
    "original_max_position_embeddings": 64,
}
SHORT, LONG = [1.0, 1.25, 2.0, 3.0], [2.0, 4.0, 8.0, 16.0]
LONGROPE = {
    "rope_type": "longrope",
    "rope_theta": 10_000.0,
    "short_factor": SHORT,
    "long_factor": LONG,
    "original_max_position_embeddings": 96,
    "attention_factor": 1.25,
}


def write_gguf(
    folder: Path,
    architecture: str,
    settings: Mapping[str, Any] | None = None,
    tensors: Mapping[str, Any] | None = None,
    quantise: Callable[[str, Sequence[int]], GGUFTensor] | None = None,
) -> ModelFiles:
    """The model of a folder as llama.cpp's converter writes it; `settings` are said besides, and
    `quantise` gives its matrices by their names and shapes."""
    model = AutoModelForCausalLM.from_pretrained(folder)
    config = model.config
    path = folder / "model.gguf"
    writer = gguf.GGUFWriter(path, architecture)
    heads = config.num_attention_heads
    rope = config.rope_parameters
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // heads
    sizes = {
        "block_count": config.num_hidden_layers,
        "context_length": config.max_position_embeddings,
        "embedding_length": config.hidden_size,
        "feed_forward_length": config.intermediate_size,
        "attention.head_count": heads,
        "attention.head_count_kv": config.num_key_value_heads,
        "attention.layer_norm_rms_epsilon": config.rms_norm_eps,
        "attention.key_length": head_dim,
        "attention.value_length": head_dim,
        "rope.dimension_count": int(head_dim * rope.get("partial_rotary_factor", 1.0)),
        "rope.freq_base": float(rope.get("full_attention", rope)["rope_theta"]),
        "vocab_size": config.vocab_size,
    }
    for key, value in (sizes | dict(settings or {})).items():
        kinds = {bool: writer.add_bool, int: writer.add_uint32, float: writer.add_float32}
        kinds |= {str: writer.add_string, list: writer.add_array}
        kinds[type(value)](key if key.startswith("general") else f"{architecture}.{key}", value)
    for name, weight in model.state_dict().items():
        if not (config.tie_word_embeddings and name == "lm_head.weight"):
            for tensor, values in _stored(name, weight, architecture, config):
                if quantise and values.ndim > 1:
                    own = quantise(tensor, values.shape)
                    kind = gguf.GGMLQuantizationType[own.kind]
                    writer.add_tensor(tensor, own.data, raw_dtype=kind)
                else:
                    writer.add_tensor(tensor, values.contiguous().numpy())
    for name, values in (tensors or {}).items():
        writer.add_tensor(name, np.array(values, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return ModelFiles(str(path), folder, path)


def _stored(
    name: str, weight: torch.Tensor, architecture: str, config: Any
) -> list[tuple[str, torch.Tensor]]:
    if name in {f"{stem}.weight" for stem in WHOLE}:
        weight = weight + 1 if architecture.startswith("gemma") and "norm" in name else weight
        return [(f"{WHOLE[name.removesuffix('.weight')]}.weight", weight)]
    _, _, layer, part = name.split(".", 3)
    prefix = f"blk.{layer}"
    if part == "mlp.experts.gate_up_proj":
        gate, up = weight.chunk(2, dim=1)
        return [(f"{prefix}.ffn_gate_exps.weight", gate), (f"{prefix}.ffn_up_exps.weight", up)]
    if part == "mlp.experts.down_proj":
        return [(f"{prefix}.ffn_down_exps.weight", weight)]
    stem, suffix = part.rsplit(".", 1)
    names = PARTS | EXPERTS | (GEMMA_NORMS if architecture.startswith("gemma") else {})
    if architecture in {"llama", "smollm3"} and stem in {"self_attn.q_proj", "self_attn.k_proj"}:
        heads = config.num_attention_heads if "q_proj" in stem else config.num_key_value_heads
        weight = weight.view(heads, 2, -1, *weight.shape[1:]).transpose(1, 2).reshape(weight.shape)
    if architecture.startswith("gemma") and "norm" in stem:
        weight = weight + 1
    if stem == "mlp.shared_expert_gate":
        weight = weight[0]
    return [(f"{prefix}.{names[stem]}.{suffix}", weight)]


def tiny(folder: Path, family: str, **config: Any) -> Path:
    return write_tiny_model(folder, architecture=family, vocab_size=40, **config)


def logits_of(files: ModelFiles) -> torch.Tensor:
    model = load_model(files, EngineOptions(device="cpu", dtype="float32"))
    return whole_pass(model, TOKENS)


def llama3_factors(folder: Path) -> list[float]:
    """What llama.cpp's converter makes of Llama 3's settings."""
    scaled = LlamaRotaryEmbedding(AutoConfig.from_pretrained(folder)).inv_freq
    plain = 1.0 / 10_000.0 ** (torch.arange(0, 8, 2).float() / 8)
    factors: list[float] = (plain / scaled).tolist()
    return factors


SCALED: dict[str, tuple[str, str, dict[str, Any], dict[str, Any]]] = {
    "linear": (
        "llama",
        "llama",
        {"rope_parameters": LINEAR},
        {"rope.scaling.type": "linear", "rope.scaling.factor": 4.0},
    ),
    "linear, as old files say it": (
        "llama",
        "llama",
        {"rope_parameters": LINEAR},
        {"rope.scale_linear": 4.0},
    ),
    "yarn": (
        "llama",
        "llama",
        {"rope_parameters": YARN},
        {
            "rope.scaling.type": "yarn",
            "rope.scaling.factor": 4.0,
            "rope.scaling.original_context_length": 64,
        },
    ),
    "yarn, of longer vectors": (
        "llama",
        "llama",
        {"rope_parameters": {**YARN, "attention_factor": 1.2 * 1.1 * (1 + 0.1 * math.log(4.0))}},
        {
            "rope.scaling.type": "yarn",
            "rope.scaling.factor": 4.0,
            "rope.scaling.original_context_length": 64,
            "rope.scaling.attn_factor": 1.2,
            "rope.scaling.yarn_attn_factor": 1.1,
        },
    ),
    "smollm3, yarn on the layers that have positions": (
        "smollm3",
        "smollm3",
        {"rope_parameters": YARN, "num_hidden_layers": 4, "pad_token_id": 0},
        {
            "rope.scaling.type": "yarn",
            "rope.scaling.factor": 4.0,
            "rope.scaling.original_context_length": 64,
        },
    ),
    "qwen2, yarn": (
        "qwen2",
        "qwen2",
        {"rope_parameters": YARN},
        {
            "rope.scaling.type": "yarn",
            "rope.scaling.factor": 4.0,
            "rope.scaling.original_context_length": 64,
        },
    ),
    "qwen3, linear": (
        "qwen3",
        "qwen3",
        {"rope_parameters": LINEAR, "head_dim": 8},
        {"rope.scaling.type": "linear", "rope.scaling.factor": 4.0},
    ),
    "gemma3, linear on its whole layers": (
        "gemma3_text",
        "gemma3",
        {
            "head_dim": 8,
            "sliding_window": 32,
            "query_pre_attn_scalar": 256,
            "tie_word_embeddings": True,
            "num_hidden_layers": 6,
            "rope_parameters": {
                "full_attention": {"rope_type": "linear", "rope_theta": 1e6, "factor": 8.0},
                "sliding_attention": {"rope_type": "default", "rope_theta": 10_000.0},
            },
        },
        {
            "attention.sliding_window": 32,
            "rope.scaling.type": "linear",
            "rope.scaling.factor": 8.0,
        },
    ),
}


@pytest.mark.parametrize("case", SCALED)
def test_scaled_positions_are_those_of_the_model_that_the_file_was_made_of(tmp_path, case):
    family, architecture, config, settings = SCALED[case]
    folder = tiny(tmp_path, family, **config)
    found = logits_of(write_gguf(folder, architecture, settings))
    torch.testing.assert_close(found, reference_of(folder)(TOKENS), atol=2e-4, rtol=2e-4)


def test_the_factors_of_llama_3_divide_the_frequencies(tmp_path):
    folder = tiny(tmp_path, "llama", rope_parameters=LLAMA3)
    files = write_gguf(folder, "llama", tensors={"rope_freqs.weight": llama3_factors(folder)})
    torch.testing.assert_close(logits_of(files), reference_of(folder)(TOKENS), atol=2e-4, rtol=2e-4)


OF_PHI3 = {"pad_token_id": 0, "original_max_position_embeddings": 96}


@pytest.mark.parametrize(
    ("family", "more"),
    [
        ("llama", {}),
        ("phi3", OF_PHI3),
        # 8 of 16 numbers of a head are turned.
        ("phi3", OF_PHI3 | {"num_attention_heads": 2, "partial_rotary_factor": 0.5}),
    ],
)
def test_factors_by_length_serve_the_lengths_of_the_short_ones(tmp_path, family, more):
    rope = LONGROPE | {"partial_rotary_factor": more.get("partial_rotary_factor", 1.0)}
    folder = tiny(tmp_path, family, **more | {"rope_parameters": rope})
    settings = {"rope.scaling.original_context_length": 96, "rope.scaling.attn_factor": 1.25}
    tensors = {"rope_factors_short.weight": SHORT, "rope_factors_long.weight": LONG}
    files = write_gguf(folder, family, settings, tensors)
    torch.testing.assert_close(logits_of(files), reference_of(folder)(TOKENS), atol=2e-4, rtol=2e-4)
    assert load_model(files, EngineOptions(device="cpu")).max_model_len == 96


@pytest.mark.parametrize(
    ("architecture", "settings", "named"),
    [
        ("llama", {"rope.scaling.type": "dynamic", "rope.scaling.factor": 2.0}, "dynamic"),
        ("llama", {"rope.scaling.yarn_log_multiplier": 0.5}, "llama.rope.scaling.yarn_log"),
        ("llama", {"attention.sliding_window": 32}, "llama.attention.sliding_window"),
        ("llama", {"logit_scale": 0.5}, "llama.logit_scale"),
        ("llama", {"rope.dimension_count": 4}, "llama.rope.dimension_count"),
        ("llama", {"expert_count": 8}, "llama.expert_count"),
        ("llama", {"feed_forward_length": [64, 32]}, "llama.feed_forward_length"),
        ("qwen2", {"attention.sliding_window_pattern": 2}, "qwen2.attention.sliding_window_patt"),
        ("qwen2", {"attn_logit_softcapping": 30.0}, "qwen2.attn_logit_softcapping"),
        ("llama", {"attention.head_count_kv": 3}, "4 heads of 8 numbers share 3 keys"),
        ("llama", ODD_HEADS, "4 heads of 7 numbers"),
        ("phi3", {"rope.dimension_count": 3}, "phi3.rope.dimension_count"),
        ("qwen2", {"rope.dimension_count": 4}, "qwen2.rope.dimension_count"),
        ("qwen2", {"expert_weights_scale": 2.5}, "qwen2.expert_weights_scale"),
        ("qwen2", {"pooling_type": 1}, "qwen2.pooling_type"),
        ("of-next-year", {}, "of-next-year"),
        ("mistral", {}, "architecture 'mistral'"),  # whose files say that they are of a Llama
    ],
)
def test_a_setting_that_is_not_computed_is_refused_by_its_name(
    tmp_path, architecture, settings, named
):
    family = architecture if architecture in {"llama", "phi3"} else "qwen2"
    folder = tiny(tmp_path, family, pad_token_id=0)
    with pytest.raises(ModelReferenceError, match=named):
        logits_of(write_gguf(folder, architecture, settings))


@pytest.mark.parametrize("family", ["llama", "qwen2"])
@pytest.mark.parametrize("name", ["blk.0.ffn_gate_exps.weight", "blk.1.attn_sinks.weight"])
def test_a_tensor_that_nobody_reads_is_refused_by_its_name(tmp_path, family, name):
    files = write_gguf(tiny(tmp_path, family), family, tensors={name: [1.0] * 4})
    with pytest.raises(ModelReferenceError, match=name):
        logits_of(files)


@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_a_size_of_nothing_is_named(tmp_path, family):
    files = write_gguf(tiny(tmp_path, family), family, {"attention.head_count": 0})
    with pytest.raises(ModelReferenceError, match="head"):
        logits_of(files)


@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_a_layer_that_the_file_does_not_count_is_refused_by_its_tensors(tmp_path, family):
    files = write_gguf(tiny(tmp_path, family), family, tensors={"blk.7.attn_norm.weight": [1.0]})
    with pytest.raises(ModelReferenceError, match=r"blk\.7\.attn_norm"):
        logits_of(files)


def test_a_bias_counts_where_it_is_and_is_missed_in_the_other_layers(tmp_path):
    folder = tiny(tmp_path, "llama")
    biases = {f"blk.{layer}.attn_k.bias": [0.5 * index for index in range(16)] for layer in (0, 1)}
    without = logits_of(write_gguf(folder, "llama"))
    with_all = logits_of(write_gguf(folder, "llama", tensors=biases))
    assert not torch.allclose(without, with_all)
    files = write_gguf(folder, "llama", tensors=dict([biases.popitem()]))
    with pytest.raises(ModelReferenceError, match=r"layers\.0\.self_attn\.k_proj\.bias"):
        logits_of(files)


@pytest.mark.parametrize(
    ("architecture", "settings", "complaint"),
    [
        ("llama", {"general.type": "adapter"}, "holds an adapter"),
        ("llama", {"general.type": "mmproj"}, "encodes images"),
        ("mamba", {}, "cannot be rolled back"),
    ],
)
def test_a_file_of_another_kind_is_refused_in_words(tmp_path, architecture, settings, complaint):
    files = write_gguf(tiny(tmp_path, "llama"), architecture, settings)
    with pytest.raises(ModelReferenceError, match=complaint):
        logits_of(files)


@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_a_tensor_that_the_file_lacks_is_named(tmp_path, family):
    folder = tiny(tmp_path, family)
    files = write_gguf(folder, family, {"block_count": 3})
    with pytest.raises(ModelReferenceError, match=r"lack.*model\.layers\.2\."):
        logits_of(files)


def test_a_llama_file_may_leave_out_what_follows_and_have_biases(tmp_path):
    folder = tiny(tmp_path, "llama", attention_bias=True, num_key_value_heads=4)
    files = write_gguf(folder, "llama")
    torch.testing.assert_close(logits_of(files), reference_of(folder)(TOKENS), atol=2e-4, rtol=2e-4)


MOE = {
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 24,
}
MOE_SAID = {
    "expert_count": 4,
    "expert_used_count": 2,
    "expert_feed_forward_length": 24,
}
HEADS_OF_16 = {"num_attention_heads": 2, "num_key_value_heads": 2}
GEMMA2 = {"attn_logit_softcapping": 20.0, "final_logit_softcapping": 25.0}


@pytest.mark.parametrize(
    ("family", "architecture", "config", "settings"),
    [
        (
            "qwen2_moe",
            "qwen2moe",
            {**MOE, "shared_expert_intermediate_size": 16},
            {**MOE_SAID, "expert_shared_feed_forward_length": 16},
        ),
        ("qwen3_moe", "qwen3moe", {**MOE, "head_dim": 8, "norm_topk_prob": True}, MOE_SAID),
        ("qwen3", "qwen3", {"head_dim": 8}, {}),
        (
            "gemma2",
            "gemma2",
            {
                **GEMMA2,
                "head_dim": 8,
                "pad_token_id": 0,
                "sliding_window": 32,
                "query_pre_attn_scalar": 256,
                "tie_word_embeddings": True,
            },
            {**GEMMA2, "attention.sliding_window": 32},
        ),
        (
            "gemma3_text",
            "gemma3",
            {
                "final_logit_softcapping": 25.0,
                "head_dim": 8,
                "sliding_window": 32,
                "layer_types": ["full_attention", "sliding_attention"],
                "tie_word_embeddings": True,
            },
            {
                "final_logit_softcapping": 25.0,
                "attention.sliding_window": 32,
                "attention.sliding_window_pattern": [False, True],
            },
        ),
        ("phi3", "phi3", {"pad_token_id": 0, "sliding_window": None}, {}),
        (
            "phi3",
            "phi3",
            {"pad_token_id": 0, "sliding_window": 32, "partial_rotary_factor": 0.75, **HEADS_OF_16},
            {"attention.sliding_window": 32},
        ),
        ("mistral", "llama", {"sliding_window": None}, {}),
        ("smollm3", "smollm3", {"pad_token_id": 0, "num_hidden_layers": 4}, {}),
    ],
)
def test_what_a_family_says_besides_sizes_counts(tmp_path, family, architecture, config, settings):
    folder = tiny(tmp_path, family, **config)
    found = logits_of(write_gguf(folder, architecture, settings))
    torch.testing.assert_close(found, reference_of(folder)(TOKENS), atol=2e-4, rtol=2e-4)


@pytest.mark.parametrize("architecture", ["gemma2", "gemma3", "phi3", "smollm3"])
def test_a_setting_that_nobody_knows_is_refused_by_its_name_in_every_family(tmp_path, architecture):
    family = {"gemma3": "gemma3_text"}.get(architecture, architecture)
    folder = tiny(tmp_path, family, head_dim=8, pad_token_id=0)
    with pytest.raises(ModelReferenceError, match=rf"{architecture}\.attention\.of_next_year"):
        logits_of(write_gguf(folder, architecture, {"attention.of_next_year": 0.5}))
