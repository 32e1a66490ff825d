"""A head over a part of the vocabulary."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from forethought.engine.lean.lean_decoder import LeanDecoder
from forethought.engine.linear.linear import dense_linear
from forethought.engine.linear.part_head import PartHead
from forethought.engine.loading.loader import EngineOptions, load_model
from forethought.engine.weights.gguf_file import GGUFTensor
from forethought.errors import ModelReferenceError
from forethought.models.files.reference import ModelFiles, resolve
from tests.engine.quantised import random_tensor
from tests.engine.test_gguf_models import TOKENS, tiny, write_gguf
from tests.engine.token_pool import whole_pass
from tests.tiny import write_tiny_model

KEPT = [0, 1, 5, 17, 18, 31, 39]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_it_scores_its_tokens_as_the_whole_head_does_and_says_no_other(dtype: torch.dtype):
    generator = torch.Generator().manual_seed(0)
    whole = torch.randn(40, 32, generator=generator).to(dtype)
    x = torch.randn(3, 32, generator=generator).to(dtype)
    token_ids = torch.tensor([31, 2, 7, 39, 0], dtype=torch.int32)
    product = dense_linear(whole[token_ids.long()], is_head=True)
    scores = PartHead(product, token_ids, 40)(x)
    expected = torch.full((3, 40), -torch.inf)
    expected[:, token_ids.long()] = (x.float() @ whole.float().T)[:, token_ids.long()]
    torch.testing.assert_close(scores.float(), expected, atol=1e-2, rtol=1e-2)


@pytest.mark.parametrize(
    ("token_ids", "why"),
    [
        ([], "scores no token"),
        ([0, 1, 8], "beyond a vocabulary of 8"),
        ([0, -1, 2], "beyond a vocabulary of 8"),
        ([0, 1, 1], "not distinct"),
    ],
)
def test_ids_that_do_not_fit_are_refused(token_ids: list[int], why: str):
    product = dense_linear(torch.zeros(3, 32))
    with pytest.raises(ValueError, match=why):
        PartHead(product, torch.tensor(token_ids), 8)


def loaded(files: ModelFiles, dtype: str, head_token_ids: Sequence[int] = ()) -> LeanDecoder:
    options = EngineOptions(device="cpu", dtype=dtype, head_token_ids=head_token_ids)
    model = load_model(files, options)
    assert isinstance(model, LeanDecoder)
    return model


def assert_only_kept_rows_are_scored(files: ModelFiles, dtype: str) -> None:
    """Bit for bit as with the whole head."""
    whole = whole_pass(loaded(files, dtype), TOKENS)
    part = whole_pass(loaded(files, dtype, [*KEPT, 40, 1_000]), TOKENS)
    assert part.shape == whole.shape
    assert torch.equal(part[:, KEPT], whole[:, KEPT])
    left_out = [token_id for token_id in range(40) if token_id not in KEPT]
    assert (part[:, left_out] == -torch.inf).all()


@pytest.mark.parametrize("ties", [False, True], ids=["own head", "tied head"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "int8", "int4"])
def test_kept_rows_of_a_folder_have_the_bits_of_the_whole_head(tmp_path, dtype, ties):
    tiny(tmp_path, "qwen2", tie_word_embeddings=ties)
    assert_only_kept_rows_are_scored(resolve(str(tmp_path)), dtype)


CAP = 0.25
"""Below what a tiny model scores, so that it bends most of it."""


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8", "int4"])
def test_a_smaller_head_whose_scores_are_capped_still_leaves_tokens_out(tmp_path, dtype):
    folder = tiny(tmp_path, "gemma2", head_dim=8, tie_word_embeddings=True, pad_token_id=0)
    capped = {"attention.sliding_window": 32, "final_logit_softcapping": CAP}
    files = write_gguf(folder, "gemma2", capped)
    assert_only_kept_rows_are_scored(files, dtype)
    kept = whole_pass(loaded(files, dtype, KEPT), TOKENS)[:, KEPT]
    assert CAP / 2 < kept.abs().max() <= CAP


@pytest.mark.parametrize("ties", [False, True], ids=["own head", "tied head"])
@pytest.mark.parametrize(
    ("kind", "dtype"),
    [
        ("Q6_K", "auto"),
        ("Q4_K", "float32"),
        ("Q5_0", "auto"),
        ("Q4_1", "auto"),
        ("Q8_0", "auto"),
        ("Q6_K", "bfloat16"),
    ],
)
def test_kept_rows_of_a_gguf_file_have_the_bits_of_the_whole_head(tmp_path, kind, dtype, ties):
    folder = tiny(
        tmp_path, "qwen2", hidden_size=256, intermediate_size=512, tie_word_embeddings=ties
    )

    def quantise(name: str, shape: Sequence[int]) -> GGUFTensor:
        return random_tensor(kind, *shape, seed=sum(name.encode()))

    assert_only_kept_rows_are_scored(write_gguf(folder, "qwen2", quantise=quantise), dtype)


def test_a_draft_with_a_part_of_its_vocabulary_keeps_those_of_its_tokens_that_are_named(tmp_path):
    write_tiny_model(tmp_path, vocab_size=40)
    path = tmp_path / "model.safetensors"
    weights = load_file(path)
    own = torch.tensor([39, 2, 17, 0, 31, 4], dtype=torch.int32)
    weights["lm_head.weight"] = weights["lm_head.weight"][own.long()].contiguous()
    save_file(weights | {"token_ids": own}, path, {"format": "pt"})
    files = resolve(str(tmp_path))
    whole = whole_pass(loaded(files, "float32"), TOKENS)
    part = whole_pass(loaded(files, "float32", KEPT), TOKENS)
    both = sorted({*KEPT} & {*own.tolist()})
    assert torch.equal(part[:, both], whole[:, both])
    assert part.isfinite().sum() == len(TOKENS) * len(both)
    with pytest.raises(ModelReferenceError, match="none of the tokens that it is to score"):
        loaded(files, "float32", [3])


def test_a_model_of_transformers_is_refused_a_smaller_head_by_name(tmp_path: Path):
    folder = write_tiny_model(tmp_path, vocab_size=40, architecture="olmo")
    with pytest.raises(ModelReferenceError, match="smaller head, not olmo on cpu"):
        load_model(resolve(str(folder)), EngineOptions(device="cpu", head_token_ids=KEPT))
