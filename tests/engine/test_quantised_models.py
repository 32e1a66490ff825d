"""GGUF files with tensors of many quantised kinds, computed as they are stored."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import gguf
import pytest
import torch

from forethought.engine.hf.transformers_loader import load_weights
from forethought.engine.lean.lean_decoder import LeanDecoder
from forethought.engine.loading.loader import EngineOptions, load_model, open_checkpoint
from forethought.engine.model.packed import SequencePart, pack
from forethought.engine.native import kernels
from forethought.engine.weights.gguf_file import GGUFTensor
from forethought.errors import ModelReferenceError
from forethought.models.files.reference import ModelFiles
from tests.engine.quantised import random_tensor
from tests.engine.test_gguf_models import TOKENS, tiny, write_gguf
from tests.engine.token_pool import whole_pass


@dataclass(frozen=True)
class Family:
    """A model of transformers, and what its files say besides sizes."""

    name: str
    config: dict[str, Any]
    settings: dict[str, Any] = field(default_factory=dict)


WINDOW = {"attention.sliding_window": 32}
GEMMA = {"head_dim": 64, "tie_word_embeddings": True, "sliding_window": 32, "pad_token_id": 0}
CAPS = {"attn_logit_softcapping": 20.0, "final_logit_softcapping": 25.0}
FAMILIES = {
    "llama": Family("llama", {"tie_word_embeddings": True}),
    "qwen2": Family("qwen2", {"tie_word_embeddings": False}),
    "qwen3": Family("qwen3", {"head_dim": 64, "tie_word_embeddings": False}),
    "smollm3": Family("smollm3", {"num_hidden_layers": 4, "pad_token_id": 0}),
    "phi3": Family("phi3", {"sliding_window": 32, "pad_token_id": 0}, WINDOW),
    "gemma2": Family("gemma2", GEMMA | CAPS, WINDOW | CAPS),
    "gemma3": Family("gemma3_text", GEMMA | {"num_hidden_layers": 6}, WINDOW),
}
"""By what their files call them."""
SIZES = {"hidden_size": 256, "intermediate_size": 512, "num_attention_heads": 4}
KINDS = {
    "attn_q": "Q3_K",
    "attn_k": "F16",
    "attn_v": "Q6_K",
    "ffn_down": "Q6_K",
    "attn_output": "Q5_K",
    "ffn_gate": "IQ4_XS",
    "ffn_up": "MXFP4",
    "output": "BF16",
    "token_embd": "Q5_0",
}
"""By parts of a model; all others are Q4_K."""


def quantised(name: str, shape: Sequence[int]) -> GGUFTensor:
    part = name.split(".")[-2]
    # The rows of a large embedding are what a token is told by.
    size = 1.0 if part == "token_embd" else 0.05
    return random_tensor(KINDS.get(part, "Q4_K"), *shape, size=size, seed=sum(name.encode()))


@pytest.fixture(scope="module", params=FAMILIES)
def files(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ModelFiles:
    family = FAMILIES[request.param]
    folder = tiny(tmp_path_factory.mktemp(request.param), family.name, **SIZES, **family.config)
    return write_gguf(folder, request.param, family.settings, quantise=quantised)


def by_transformers(files: ModelFiles, tokens: Sequence[int]) -> torch.Tensor:
    """[T, V] of the dequantised weights."""
    reference = load_weights(files, torch.float32).eval()
    with torch.inference_mode():
        logits: torch.Tensor = reference(torch.tensor([tokens]), use_cache=False).logits[0]
    return logits


def loaded(files: ModelFiles, dtype: str = "auto") -> LeanDecoder:
    model = load_model(files, EngineOptions(device="cpu", dtype=dtype))
    assert isinstance(model, LeanDecoder)
    return model


def test_logits_in_float32_are_those_of_the_dequantised_weights(files):
    found = whole_pass(loaded(files, "float32"), TOKENS)
    torch.testing.assert_close(found, by_transformers(files, TOKENS), atol=1e-4, rtol=1e-4)


def test_greedy_texts_in_float32_are_those_of_the_dequantised_weights(files):
    model = loaded(files, "float32")
    model.allocate(8)
    tokens, start = TOKENS[:20], 0
    while len(tokens) < 68:
        part = SequencePart(tokens[start:], start, range(8), 1)
        start = len(tokens)
        tokens = [*tokens, int(model.forward(pack([part])).argmax())]
    assert by_transformers(files, tokens[:-1])[19:].argmax(dim=-1).tolist() == tokens[20:]


@pytest.mark.parametrize("family", ["gemma2", "smollm3"])
def test_drafts_are_not_made_of_the_layers_of_models_that_differ_from_a_llama(tmp_path, family):
    folder = tiny(tmp_path, FAMILIES[family].name, **FAMILIES[family].config)
    with pytest.raises(ModelReferenceError, match="no model of the Llama family"):
        open_checkpoint(write_gguf(folder, family, FAMILIES[family].settings))


def test_a_file_is_computed_as_it_is_stored_unless_told_otherwise(files):
    model = loaded(files)
    stored, _, kinds = model.dtype_name.partition(" ")
    assert stored == "stored"
    assert {*kinds.split("+")} >= {"Q6_K", "Q5_K", "MXFP4", "Q5_0"}
    exact = whole_pass(loaded(files, "float32"), TOKENS)
    assert (whole_pass(model, TOKENS) - exact).norm() <= 0.05 * exact.norm()
    assert loaded(files, "int4").dtype_name == "int4-g32"


@pytest.mark.parametrize("kind", ["Q4_0", "Q4_1", "Q8_0"])
@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3", "phi3", "gemma2"])
def test_a_file_of_one_kind_is_the_same_model_in_groups(tmp_path, family, kind):
    folder = tiny(tmp_path, FAMILIES[family].name, **SIZES, **FAMILIES[family].config)

    def in_one_kind(name: str, shape: Sequence[int]) -> GGUFTensor:
        return random_tensor(kind, *shape, seed=sum(name.encode()))

    files = write_gguf(folder, family, FAMILIES[family].settings, quantise=in_one_kind)
    model = loaded(files)
    assert model.dtype_name.startswith("int")
    exact = whole_pass(loaded(files, "float32"), TOKENS)
    assert (whole_pass(model, TOKENS) - exact).norm() <= 0.05 * exact.norm()


def test_without_kernels_a_file_is_dequantised(files):
    with patch.object(kernels, "are_built", False):
        assert loaded(files).dtype_name == "bfloat16"
        found = whole_pass(loaded(files, "float32"), TOKENS)
    torch.testing.assert_close(found, by_transformers(files, TOKENS), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("dtype", ["auto", "float32"])
def test_a_pass_over_several_tokens_gives_the_bits_of_passes_over_one(files, dtype):
    model = loaded(files, dtype)

    def logits_of(pieces: Sequence[int]) -> torch.Tensor:
        model.allocate(8)
        start, rows = 0, []
        for piece in pieces:
            tokens = TOKENS[start : start + piece]
            rows.append(model.forward(pack([SequencePart(tokens, start, range(8), piece)])))
            start += piece
        return torch.cat(rows)

    alone = logits_of([1] * 90)
    for pieces in ([90], [1, 2, 3, 4, 5, 75], [8, 9, 3, 40, 30], [6, 7, 57, 20]):
        assert torch.equal(logits_of(pieces), alone)


def test_the_parts_of_a_split_file_are_one_model(files, tmp_path):
    whole = gguf.GGUFReader(files.gguf)
    names = [tensor.name for tensor in whole.tensors]
    for number in (1, 2):
        path = tmp_path / f"model-0000{number}-of-00002.gguf"
        writer = gguf.GGUFWriter(path, str(whole.fields["general.architecture"].contents()))
        for key, value in whole.fields.items():
            if number == 1 and not key.startswith(("GGUF.", "general.architecture")):
                writer.add_key_value(key, value.contents(), value.types[0])
        writer.add_uint16("split.count", 2)
        for tensor in whole.tensors:
            if (names.index(tensor.name) % 2 == 0) == (number == 1):
                writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
    first = tmp_path / "model-00001-of-00002.gguf"
    parts = ModelFiles(str(first), tmp_path, first)
    assert torch.equal(whole_pass(loaded(parts), TOKENS), whole_pass(loaded(files), TOKENS))


@pytest.mark.parametrize(("kind", "named"), [(15, "Q8_K"), (99, "99")])
def test_a_kind_of_tensor_that_nobody_reads_is_refused_by_its_name(tmp_path, kind, named):
    path = with_kind(tmp_path, kind)
    with pytest.raises(ModelReferenceError, match=rf"token_embd\.weight.*{named}"):
        load_model(ModelFiles(str(path), tmp_path, path), EngineOptions(device="cpu"))


def with_kind(folder: Path, kind: int) -> Path:
    """A file whose first tensor says that it is of that kind."""
    path = folder / "model.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    embedding = random_tensor("Q4_K", 16, 256)
    writer.add_tensor("token_embd.weight", embedding.data, raw_dtype=gguf.GGMLQuantizationType.Q4_K)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    data = bytearray(path.read_bytes())
    # After the name: the number of dimensions, two of them, and the kind.
    place = data.index(b"token_embd.weight") + len("token_embd.weight") + 4 + 16
    data[place : place + 4] = kind.to_bytes(4, "little")
    path.write_bytes(data)
    return path
