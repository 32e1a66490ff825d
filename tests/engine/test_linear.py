"""Products with packed weights against products with what the weights stand for."""

import gguf
import numpy as np
import pytest
import torch
from gguf.quants import quantize

from forethought.engine.linear.linear import (
    DenseLinear,
    Int8Linear,
    Linear,
    PackedLinear,
    dense_linear,
)
from forethought.engine.linear.tile_linear import DenseTileLinear
from forethought.engine.native import kernels
from forethought.engine.weights.gguf_file import GGUFTensor
from forethought.engine.weights.weight_groups import Int4Groups, Int8Groups

N, K = 48, 96


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def stored(kind: str, weight: torch.Tensor) -> GGUFTensor:
    data = quantize(weight.numpy(), gguf.GGMLQuantizationType[kind])
    return GGUFTensor(kind, tuple(weight.shape), data)


def relative_error(linear: Linear, x: torch.Tensor, weight: torch.Tensor) -> float:
    expected = x.to(linear.dtype).double() @ weight.double().T
    return float((linear(x.to(linear.dtype)).double() - expected).norm() / expected.norm())


@pytest.mark.parametrize("kind", ["Q4_0", "Q4_1"])
def test_groups_hold_exactly_what_ggml_stored(kind):
    tensor = stored(kind, normal(N, K))
    dequantized = torch.from_numpy(tensor.dequantized())
    groups = Int4Groups.from_gguf(tensor)
    assert groups.values.max() <= 15
    torch.testing.assert_close(groups.dequantized(), dequantized, rtol=0, atol=1e-6)


def test_groups_hold_exactly_the_bytes_that_ggml_stored():
    tensor = stored("Q8_0", normal(N, K))
    assert torch.equal(
        Int8Groups.from_gguf(tensor).dequantized(), torch.from_numpy(tensor.dequantized())
    )


def test_dense_weights_round_to_the_nearest_level():
    weight = normal(N, K)
    groups = Int4Groups.rounded(weight)
    distance = (groups.dequantized() - weight).abs().view(N, -1, 32)
    assert (distance <= groups.scales[..., None] * 0.5001).all()


def test_a_group_of_equal_weights_is_kept():
    weight = torch.full((16, 32), 0.25)
    assert torch.equal(Int4Groups.rounded(weight).dequantized(), weight)


def test_rows_of_several_matrices_can_be_stacked():
    parts = [normal(16, K, seed=seed) for seed in range(3)]
    whole = Int4Groups.stacked([Int4Groups.rounded(part) for part in parts])
    assert torch.equal(whole.dequantized(), Int4Groups.rounded(torch.cat(parts)).dequantized())


def test_bytes_with_a_scale_a_row_are_near():
    weight = normal(N, K)
    assert relative_error(Int8Linear(weight), normal(4, K, seed=1), weight) < 0.01


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("num_tokens", [1, 5, 64])
def test_the_order_of_weights_in_memory_changes_no_product(dtype, num_tokens):
    weight, bias, x = normal(N, K).to(dtype), normal(N).to(dtype), normal(num_tokens, K).to(dtype)
    expected = DenseLinear(weight, bias)(x)
    torch.testing.assert_close(dense_linear(weight, bias)(x), expected)
    if PackedLinear.supports(dtype):
        torch.testing.assert_close(PackedLinear(weight, bias)(x), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_whole_groups_are_multiplied_in_c_and_all_else_by_onednn(monkeypatch, dtype):
    weight = normal(N, K).to(dtype)
    # Without AVX-512 oneDNN has no bfloat16.
    other = PackedLinear if PackedLinear.supports(dtype) else DenseLinear
    assert isinstance(dense_linear(weight), DenseTileLinear)
    assert isinstance(dense_linear(weight[:, :80]), other)
    monkeypatch.setattr(kernels, "are_built", False)
    assert isinstance(dense_linear(weight), other)


def test_without_a_kernel_dense_weights_stay_as_they_are(monkeypatch):
    monkeypatch.setattr(PackedLinear, "supports", lambda dtype: False)
    monkeypatch.setattr(kernels, "are_built", False)
    assert isinstance(dense_linear(normal(N, K)), DenseLinear)


def test_scores_are_not_rounded():
    weight, x = normal(N, K).bfloat16(), normal(3, K, seed=1).bfloat16()
    head = dense_linear(weight, is_head=True)
    assert head(x).dtype is torch.float32
    assert relative_error(head, x, weight) < 1e-6


def test_products_with_bytes_add_their_bias():
    weight, bias, x = normal(N, K), normal(N, seed=2), normal(3, K, seed=1).bfloat16()
    without = Int8Linear(weight)(x).float()
    torch.testing.assert_close(
        Int8Linear(weight, bias.bfloat16())(x).float() - without,
        bias.expand(3, N),
        atol=0.2,
        rtol=0,
    )


def test_float16_scales_of_ggml_are_read_without_rounding():
    tensor = stored("Q4_1", normal(16, 32))
    scale, minimum = tensor.data[0, :4].copy().view(np.float16)
    groups = Int4Groups.from_gguf(tensor)
    assert (groups.scales[0, 0], groups.minimums[0, 0]) == (float(scale), float(minimum))


def test_a_build_whose_instructions_are_slow_here_is_not_taken():
    assert not kernels.native.HAS_SLOW_PAIRS
