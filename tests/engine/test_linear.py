"""Products with packed weights against products with what the weights stand for."""

import gguf
import numpy as np
import pytest
import torch
from gguf.quants import quantize

from forethought.engine.gguf_file import GGUFTensor
from forethought.engine.linear import (
    DenseLinear,
    Int4Linear,
    Int8GroupsLinear,
    Int8Linear,
    Linear,
    PackedLinear,
    dense_linear,
)
from forethought.engine.weight_groups import Int4Groups, Int8Groups

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


@pytest.mark.parametrize("kind", ["Q4_0", "Q4_1"])
@pytest.mark.parametrize("num_tokens", [1, 3, 4, 5, 8, 33])
def test_a_float32_product_with_ggmls_groups_is_that_with_its_dequantised_weights(kind, num_tokens):
    tensor = stored(kind, normal(N, K))
    weight = torch.from_numpy(tensor.dequantized())
    linear = Int4Linear(Int4Groups.from_gguf(tensor), dtype=torch.float32)
    assert relative_error(linear, normal(num_tokens, K, seed=1), weight) <= 1e-6


@pytest.mark.parametrize("num_tokens", [1, 2, 3, 5, 8, 9, 33])
def test_a_product_with_ggmls_bytes_is_that_with_its_dequantised_weights(num_tokens):
    tensor = stored("Q8_0", normal(N, K))
    weight = torch.from_numpy(tensor.dequantized())
    groups = Int8Groups.from_gguf(tensor)
    assert torch.equal(groups.dequantized(), weight)
    linear = Int8GroupsLinear(groups)
    assert linear.dtype is torch.float32
    assert relative_error(linear, normal(num_tokens, K, seed=1), weight) <= 1e-6
    bias = normal(N, seed=2)
    x = normal(num_tokens, K, seed=1)
    torch.testing.assert_close(Int8GroupsLinear(groups, bias)(x), linear(x) + bias)


def test_a_bfloat16_product_with_groups_is_as_near_as_one_with_dense_bfloat16_weights():
    tensor = stored("Q4_1", normal(512, 512))
    weight = torch.from_numpy(tensor.dequantized())
    x = normal(4, 512, seed=1)
    dense = relative_error(dense_linear(weight.bfloat16()), x, weight)
    assert relative_error(Int4Linear(Int4Groups.from_gguf(tensor)), x, weight) <= 1.5 * dense


def test_groups_with_halves_exchanged_are_caught():
    tensor = stored("Q4_1", normal(N, K))
    blocks = tensor.data.reshape(-1, 20).copy()
    blocks[:, 4:] = blocks[:, 4:] << 4 | blocks[:, 4:] >> 4
    broken = GGUFTensor("Q4_1", tensor.shape, blocks.reshape(tensor.data.shape))
    linear = Int4Linear(Int4Groups.from_gguf(broken), dtype=torch.float32)
    weight = torch.from_numpy(tensor.dequantized())
    assert relative_error(linear, normal(4, K, seed=1), weight) > 0.1


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
def test_the_order_of_onednn_changes_no_product(dtype, num_tokens):
    weight, bias, x = normal(N, K).to(dtype), normal(N).to(dtype), normal(num_tokens, K).to(dtype)
    expected = DenseLinear(weight, bias)(x)
    torch.testing.assert_close(dense_linear(weight, bias)(x), expected)


def test_without_a_kernel_dense_weights_stay_as_they_are(monkeypatch):
    monkeypatch.setattr(PackedLinear, "supports", lambda dtype: False)
    assert isinstance(dense_linear(normal(N, K)), DenseLinear)


@pytest.mark.parametrize("kind", [Int8Linear, lambda w, b: Int4Linear(Int4Groups.rounded(w), b)])
def test_packed_products_add_their_bias(kind):
    weight, bias, x = normal(N, K), normal(N, seed=2), normal(3, K, seed=1).bfloat16()
    without = kind(weight, None)(x).float()
    torch.testing.assert_close(
        kind(weight, bias.bfloat16())(x).float() - without,
        bias.expand(3, N),
        atol=0.2,
        rtol=0,
    )


@pytest.mark.parametrize(
    ("shape", "supported"), [((48, 96), True), ((40, 96), False), ((48, 80), False)]
)
def test_shapes_that_the_4_bit_kernel_does_not_take_are_known(shape, supported):
    assert Int4Linear.supports(*shape) is supported


def test_float16_scales_of_ggml_are_read_without_rounding():
    tensor = stored("Q4_1", normal(16, 32))
    scale, minimum = tensor.data[0, :4].copy().view(np.float16)
    groups = Int4Groups.from_gguf(tensor)
    assert (groups.scales[0, 0], groups.minimums[0, 0]) == (float(scale), float(minimum))
