"""Products with tensors of GGUF files, by every build, against those with what gguf dequantises."""

from collections.abc import Iterator
from unittest.mock import patch

import pytest
import torch

from forethought.engine.linear.quant_linear import QuantLinear
from forethought.engine.native import kernels
from forethought.engine.weights.gguf_file import GGUFTensor
from forethought.engine.weights.gguf_formats import FLOAT_KINDS, STORED_KINDS
from tests.engine.quantised import block_len, filled_tensor, random_tensor

MANY = 37  # tokens: several runs of every build


@pytest.fixture(scope="module", params=kernels.builds_for_this_machine(), autouse=True)
def build(request: pytest.FixtureRequest) -> Iterator[None]:
    with patch.object(kernels, "native", kernels.load_build(request.param)):
        yield


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def activations(num_tokens: int, num_columns: int) -> torch.Tensor:
    """[T, K], some of them large, as they are in models."""
    x = normal(num_tokens, num_columns, seed=1)
    x[:, ::37] *= 20
    return x


def rounded(x: torch.Tensor) -> torch.Tensor:
    """In each group of 32 to a 127th of its largest number."""
    groups = x.view(len(x), -1, 32)
    largest = groups.abs().amax(dim=-1, keepdim=True)
    steps = (groups * (127 / largest)).round().double()
    return (steps * largest.double() / 127).view(x.shape)


def dequantised(*tensors: GGUFTensor) -> torch.Tensor:
    return torch.cat([torch.from_numpy(tensor.dequantized()) for tensor in tensors]).double()


def relative_error(y: torch.Tensor, expected: torch.Tensor) -> float:
    return float((y.double() - expected).norm() / expected.norm())


@pytest.mark.parametrize("kind", STORED_KINDS)
def test_only_activations_are_rounded_and_those_only_where_they_may_be(kind):
    for num_rows, num_blocks in ((1, 1), (40, 3)):
        tensor = random_tensor(kind, num_rows, num_blocks * block_len(kind))
        x = activations(MANY, tensor.shape[1])
        for keeps_floats in (True, False):
            seen = x.double() if keeps_floats or kind in FLOAT_KINDS else rounded(x)
            y = QuantLinear([tensor], keeps_floats=keeps_floats)(x)
            assert relative_error(y, seen @ dequantised(tensor).T) < 1e-6


@pytest.mark.parametrize("kind", STORED_KINDS)
def test_a_token_gets_the_same_numbers_to_the_last_bit_in_any_company(kind):
    tensor, x = random_tensor(kind, 24, 256), activations(MANY, 256)
    for keeps_floats in (False, True):
        linear = QuantLinear([tensor], normal(24), keeps_floats=keeps_floats)
        alone = torch.cat([linear(row[None]) for row in x])
        for num_tokens in (*range(2, 18), MANY):
            assert torch.equal(linear(x[:num_tokens]), alone[:num_tokens])
            assert torch.equal(linear(x[-num_tokens:]), alone[-num_tokens:])


@pytest.mark.parametrize("kind", STORED_KINDS)
def test_sums_of_the_largest_values_fit(kind):
    for byte in (0, 127, 128, 255):
        tensor = filled_tensor(kind, 16, 256, byte)
        for sign in (-1, 1):
            x = torch.full((3, 256), 1.0 * sign)
            expected = x.double() @ dequantised(tensor).T
            bound = 1e-6 * x.abs().double() @ dequantised(tensor).abs().T
            assert ((QuantLinear([tensor])(x) - expected).abs() <= bound + 1e-6).all()


@pytest.mark.parametrize("keeps_floats", [False, True])
def test_a_matrix_may_be_made_of_tensors_of_different_kinds(keeps_floats):
    tensors = [
        random_tensor("Q4_K", 40, 512, seed=1),
        random_tensor("Q6_K", 8, 512, seed=2),
        random_tensor("Q8_0", 33, 512, seed=3),
    ]
    bias, x = normal(81, seed=4), activations(5, 512)
    y = QuantLinear(tensors, bias, keeps_floats=keeps_floats)(x)
    seen = x.double() if keeps_floats else rounded(x)
    assert relative_error(y, seen @ dequantised(*tensors).T + bias) < 1e-6


@pytest.mark.parametrize("keeps_floats", [False, True])
def test_tensors_of_floats_beside_quantised_ones_are_multiplied_as_they_are(keeps_floats):
    tensors = [
        random_tensor("Q4_K", 40, 256, seed=1),
        random_tensor("F16", 8, 256, seed=2),
        random_tensor("BF16", 33, 256, seed=3),
    ]
    bias, x = normal(81, seed=4), activations(MANY, 256)
    linear = QuantLinear(tensors, bias, keeps_floats=keeps_floats)
    y = linear(x)
    seen = x.double() if keeps_floats else rounded(x)
    products = [seen @ dequantised(tensors[0]).T, x.double() @ dequantised(*tensors[1:]).T]
    assert relative_error(y, torch.cat(products, dim=1) + bias) < 1e-6
    assert torch.equal(torch.cat([linear(row[None]) for row in x]), y)


@pytest.mark.parametrize("kind", FLOAT_KINDS)
def test_floats_may_have_rows_of_any_length(kind):
    for num_columns in (31, 33, 100):
        tensor, x = random_tensor(kind, 20, num_columns), activations(5, num_columns)
        assert relative_error(QuantLinear([tensor])(x), x.double() @ dequantised(tensor).T) < 1e-6


@pytest.mark.parametrize("exponent", [0, 1, 2, 127, 254])
def test_every_power_of_two_of_mxfp4_is_a_factor(exponent):
    blocks = filled_tensor("MXFP4", 16, 32, 0x21).data.copy()
    blocks[:, 0] = exponent
    tensor = GGUFTensor("MXFP4", (16, 32), blocks)
    y = QuantLinear([tensor], keeps_floats=True)(torch.full((1, 32), 0.01))
    assert relative_error(y, torch.full((1, 32), 0.01).double() @ dequantised(tensor).T) < 1e-6


@pytest.mark.parametrize("size", [2.0**-60, 2.0**60])
def test_numbers_of_every_size_are_counted(size):
    tensor = random_tensor("Q4_K", 16, 256)
    x = activations(2, 256)
    exact = QuantLinear([tensor])(x).double() * size
    assert relative_error(QuantLinear([tensor])(x * size), exact) < 1e-6


@pytest.mark.parametrize("keeps_floats", [False, True])
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_what_is_no_number_stays_none(bad, keeps_floats):
    x = activations(3, 256)
    x[1, 40] = bad
    y = QuantLinear([random_tensor("Q6_K", 16, 256)], keeps_floats=keeps_floats)(x)
    assert not y[1].isfinite().any()
    assert y[[0, 2]].isfinite().all()


def test_nothing_in_is_nothing_out():
    linear = QuantLinear([random_tensor("Q5_K", 16, 256)])
    assert torch.equal(linear(torch.zeros(2, 256)), torch.zeros(2, 16))


def test_tensors_of_different_widths_make_no_matrix():
    with pytest.raises(ValueError, match="no matrix"):
        QuantLinear([random_tensor("Q4_K", 16, 256), random_tensor("Q4_K", 16, 512)])
