"""Products with groups of 4 and 8 bits, by every kernel, against those with what they stand for."""

from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module
from unittest.mock import patch

import gguf
import pytest
import torch
from gguf.quants import quantize
from hypothesis import given, settings
from hypothesis import strategies as st

from forethought.engine.linear.group_linear import GroupLinear, Int4PackLinear, int4_linear
from forethought.engine.linear.linear import Linear
from forethought.engine.linear.tile_linear import DenseTileLinear
from forethought.engine.native import kernels
from forethought.engine.weights.gguf_file import GGUFTensor
from forethought.engine.weights.weight_groups import Int4Groups, Int8Groups

N, K = 48, 96
MANY = 70  # tokens: several tiles of every build


@pytest.fixture(scope="module", params=kernels.builds_for_this_machine())
def build(request: pytest.FixtureRequest) -> Iterator[None]:
    module = import_module(f"forethought.engine.native._kernels_{request.param}")
    with patch.object(kernels, "native", module):
        yield


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def stored(kind: str, num_rows: int, num_columns: int) -> GGUFTensor:
    """Weights of a usual size as a file has them."""
    weight = (normal(num_rows, num_columns) * 0.02).numpy()
    data = quantize(weight, gguf.GGMLQuantizationType[kind])
    return GGUFTensor(kind, (num_rows, num_columns), data)


def groups_of(tensor: GGUFTensor) -> Int4Groups | Int8Groups:
    return (Int8Groups if tensor.kind == "Q8_0" else Int4Groups).from_gguf(tensor)


def activations(num_tokens: int, num_columns: int) -> torch.Tensor:
    """[T, K] bfloat16, some of them large, as they are in models."""
    x = normal(num_tokens, num_columns, seed=1)
    x[:, ::37] *= 100
    return x.bfloat16()


def activations_of_a_size(num_tokens: int, num_columns: int) -> torch.Tensor:
    """[T, K] bfloat16, none below a 64th of the largest."""
    x = normal(num_tokens, num_columns, seed=1).clamp(-1, 1)
    return (x + torch.where(x < 0, -0.02, 0.02)).bfloat16()


def relative_error(linear: Linear, x: torch.Tensor, weight: torch.Tensor) -> float:
    expected = x.to(linear.dtype).double() @ weight.double().T
    return float((linear(x.to(linear.dtype)).double() - expected).norm() / expected.norm())


def are_rounded_once(
    y: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, *, in_wholes: bool = False
) -> bool:
    """Whether y is x W^T but for float32 sums and half a step of bfloat16.

    Args:
        y: [T, N].
        x: [T, K].
        weight: [N, K].
        in_wholes: the numbers of x may be off by half a unit, of which the largest of the 32 in
            its group has at least 2**14.
    """
    exact = x.double() @ weight.double().T
    sums = x.double().abs() @ weight.double().abs().T
    bound = exact.abs() * 2**-7.99 + sums * 2**-20
    if in_wholes:
        largest = x.double().view(len(x), -1, 32).abs().amax(dim=-1)  # [T, K / 32]
        bound += largest * 2**-15 @ weight.double().abs().view(len(weight), -1, 32).sum(dim=-1).T
    return bool(((y.double() - exact).abs() <= bound).all())


LINEARS = {
    "Q4_1": lambda: GroupLinear(groups_of(stored("Q4_1", 40, K)), normal(40, seed=2)),
    "Q8_0": lambda: GroupLinear(groups_of(stored("Q8_0", 40, K))),
    "bfloat16": lambda: DenseTileLinear(normal(40, K).bfloat16(), normal(40, seed=2)),
    "float32": lambda: DenseTileLinear(normal(40, K), normal(40, seed=2)),
    "Q8_0 in float32": lambda: GroupLinear(groups_of(stored("Q8_0", 40, K)), dtype=torch.float32),
}


@pytest.mark.usefixtures("build")
class TestOurs:
    @pytest.mark.parametrize("kind", ["Q4_0", "Q4_1", "Q8_0"])
    @pytest.mark.parametrize("shape", [(N, K), (1, 32), (17, 32), (40, 320), (129, 64)], ids=str)
    def test_a_product_is_that_with_ggmls_weights_rounded_once(self, kind, shape):
        tensor = stored(kind, *shape)
        weight = torch.from_numpy(tensor.dequantized())
        linear = GroupLinear(groups_of(tensor))
        for num_tokens in (*range(1, 18), 31, 32, 33, MANY):
            x = activations(num_tokens, shape[1])
            y = linear(x)
            assert (y.shape, y.dtype) == ((num_tokens, shape[0]), torch.bfloat16)
            assert are_rounded_once(y, x, weight, in_wholes=True)

    @pytest.mark.parametrize("kind", ["Q4_0", "Q4_1", "Q8_0"])
    def test_numbers_near_the_largest_of_their_group_lose_nothing(self, kind):
        tensor = stored(kind, N, K)
        x = activations_of_a_size(MANY, K)
        assert are_rounded_once(
            GroupLinear(groups_of(tensor))(x), x, torch.from_numpy(tensor.dequantized())
        )

    @pytest.mark.parametrize("size", [2.0**-100, 2.0**-60, 2.0**60, 2.0**90])
    def test_numbers_of_every_size_are_counted(self, size):
        linear = GroupLinear(Int4Groups.rounded(normal(N, K)), result_dtype=torch.float32)
        x = normal(3, K, seed=1).clamp(-2, 2).bfloat16()
        scaled = linear((x.double() * size).bfloat16()).double() / size
        torch.testing.assert_close(scaled, linear(x).double(), atol=1e-4, rtol=1e-5)

    @pytest.mark.parametrize("shape", [(N, K), (1, 32), (17, 32), (40, 320), (129, 64)], ids=str)
    def test_a_product_with_bfloat16_is_rounded_once(self, shape):
        weight = (normal(*shape) * 0.02).bfloat16()
        linear = DenseTileLinear(weight)
        for num_tokens in (*range(1, 18), 31, 32, 33, MANY):
            x = activations(num_tokens, shape[1])
            y = linear(x)
            assert (y.shape, y.dtype) == ((num_tokens, shape[0]), torch.bfloat16)
            assert are_rounded_once(y, x, weight)

    @pytest.mark.parametrize("shape", [(N, K), (1, 32), (17, 32), (40, 320), (129, 64)], ids=str)
    def test_a_product_with_float32_is_one_of_float32_sums(self, shape):
        weight = normal(*shape)
        linear = DenseTileLinear(weight)
        for num_tokens in (*range(1, 18), 31, 32, 33, MANY):
            x = normal(num_tokens, shape[1], seed=1)
            y = linear(x)
            assert (y.shape, y.dtype) == ((num_tokens, shape[0]), torch.float32)
            sums = x.double().abs() @ weight.double().abs().T
            assert ((y.double() - x.double() @ weight.double().T).abs() <= sums * 2**-21).all()

    def test_a_product_with_pairs_exchanged_is_caught(self):
        weight = normal(N, K).bfloat16()
        broken = DenseTileLinear(weight.view(N, -1, 2).flip(2).reshape(N, K))
        x = activations(MANY, K)
        assert not are_rounded_once(broken(x), x, weight)

    def test_a_product_with_rounded_scales_is_caught(self):
        tensor = stored("Q4_1", N, K)
        weight = torch.from_numpy(tensor.dequantized())
        groups = Int4Groups.from_gguf(tensor)
        broken = replace(groups, scales=groups.scales.bfloat16().float())
        x = activations(MANY, K)
        assert not are_rounded_once(GroupLinear(broken)(x), x, weight, in_wholes=True)

    @pytest.mark.parametrize("kind", ["Q4_1", "Q8_0"])
    def test_a_float32_result_is_not_rounded(self, kind):
        tensor = stored(kind, 40, 320)
        weight = torch.from_numpy(tensor.dequantized())
        linear = GroupLinear(groups_of(tensor), result_dtype=torch.float32)
        for num_tokens in (1, 8, 17):
            assert relative_error(linear, activations_of_a_size(num_tokens, 320), weight) <= 1e-6

    @pytest.mark.parametrize("num_tokens", [1, 2, 3, 5, 8, 9, 33])
    def test_a_float32_product_with_ggmls_bytes_is_that_with_its_weights(self, num_tokens):
        tensor = stored("Q8_0", 40, 320)
        linear = GroupLinear(groups_of(tensor), dtype=torch.float32)
        x = normal(num_tokens, 320, seed=1)
        assert linear(x).dtype is torch.float32
        assert relative_error(linear, x, torch.from_numpy(tensor.dequantized())) <= 1e-6

    def test_a_product_is_nearer_than_that_of_torchs_kernel(self):
        weight = normal(N, 512)
        groups = Int4Groups.rounded(weight)
        x = activations(MANY, 512)
        ours, torchs = (
            relative_error(kind(groups), x, groups.dequantized())
            for kind in (GroupLinear, Int4PackLinear)
        )
        assert ours < 0.9 * torchs

    @settings(max_examples=30, deadline=None)
    @given(st.sampled_from(sorted(LINEARS)), st.lists(st.integers(1, MANY), min_size=1, max_size=5))
    def test_a_tokens_numbers_do_not_depend_on_the_others_in_its_pass(self, name, sizes):
        linear = LINEARS[name]()
        x = activations(sum(sizes), K).to(linear.dtype)
        alone = torch.cat([linear(token) for token in x.split(1)])
        assert torch.equal(torch.cat([linear(part) for part in x.split(sizes)]), alone)

    def test_nor_on_the_number_of_threads(self):
        linear = GroupLinear(Int4Groups.rounded(normal(504, K)))
        x = activations(MANY * 8, K)
        expected = linear(x)
        before = torch.get_num_threads()
        torch.set_num_threads(2)
        try:
            assert torch.equal(linear(x), expected)
        finally:
            torch.set_num_threads(before)

    def test_what_is_not_a_number_stays_in_its_row(self):
        linear = GroupLinear(Int4Groups.rounded(normal(N, K)))
        x = activations(MANY, K)
        expected = linear(x)
        x[9, 5] = torch.nan
        y = linear(x)
        assert y[9].isnan().all()
        rest = torch.arange(MANY) != 9
        assert torch.equal(y[rest], expected[rest])

    @pytest.mark.parametrize("exponent", [-60, -20, 30, 60])
    def test_weights_of_every_size_keep_their_digits(self, exponent):
        groups = Int4Groups.rounded(normal(N, K))
        scaled = replace(
            groups, scales=groups.scales * 2.0**exponent, minimums=groups.minimums * 2.0**exponent
        )
        x = activations(3, K)
        assert torch.equal(GroupLinear(scaled)(x), GroupLinear(groups)(x) * 2.0**exponent)

    def test_a_group_of_equal_weights_is_kept(self):
        linear = GroupLinear(Int4Groups.rounded(torch.full((16, 32), 0.25)))
        assert torch.equal(
            linear(torch.ones(1, 32).bfloat16()), torch.full((1, 16), 8.0).bfloat16()
        )

    def test_rows_that_do_not_lie_together_are_taken(self):
        linear = GroupLinear(Int4Groups.rounded(normal(N, K)))
        wide = activations(5, 2 * K)
        assert torch.equal(linear(wide[:, :K]), linear(wide[:, :K].contiguous()))


@pytest.mark.parametrize("kind", ["Q4_0", "Q4_1"])
@pytest.mark.parametrize("num_tokens", [1, 3, 4, 5, 8, 33])
def test_torchs_float32_product_with_ggmls_groups_is_that_with_its_weights(kind, num_tokens):
    tensor = stored(kind, N, K)
    weight = torch.from_numpy(tensor.dequantized())
    linear = Int4PackLinear(Int4Groups.from_gguf(tensor), dtype=torch.float32)
    assert relative_error(linear, normal(num_tokens, K, seed=1), weight) <= 1e-6


@pytest.mark.parametrize("kind", [GroupLinear, Int4PackLinear])
def test_groups_with_halves_exchanged_are_caught(kind):
    tensor = stored("Q4_1", N, K)
    blocks = tensor.data.reshape(-1, 20).copy()
    blocks[:, 4:] = blocks[:, 4:] << 4 | blocks[:, 4:] >> 4
    broken = GGUFTensor("Q4_1", tensor.shape, blocks.reshape(tensor.data.shape))
    weight = torch.from_numpy(tensor.dequantized())
    assert relative_error(kind(Int4Groups.from_gguf(broken)), activations(4, K), weight) > 0.1


@pytest.mark.parametrize("kind", [GroupLinear, Int4PackLinear])
def test_products_add_their_bias(kind):
    groups, bias, x = Int4Groups.rounded(normal(N, K)), normal(N, seed=2), activations(3, K)
    bias = bias.bfloat16()
    without = kind(groups)(x).float()
    torch.testing.assert_close(kind(groups, bias)(x).float(), without + bias, atol=0, rtol=0.02)


@pytest.mark.parametrize(
    ("shape", "supported"), [((48, 96), True), ((40, 96), False), ((48, 80), False)]
)
def test_shapes_that_torchs_kernel_does_not_take_are_known(shape, supported):
    assert Int4PackLinear.supports(*shape) is supported


def test_without_the_extension_torchs_kernel_takes_what_it_can(monkeypatch):
    monkeypatch.setattr(kernels, "are_built", False)
    assert isinstance(int4_linear(Int4Groups.rounded(normal(48, 32))), Int4PackLinear)
    assert int4_linear(Int4Groups.rounded(normal(40, 32))) is None


def test_what_does_not_fit_a_matrix_is_refused():
    weight = normal(N, K).bfloat16()
    linear = DenseTileLinear(weight)
    for x in (activations(3, K - 32), activations(3, K).float()):
        with pytest.raises(ValueError, match="not what goes in here"):
            linear(x)
    with pytest.raises(ValueError, match="a bias of shape"):
        DenseTileLinear(weight, normal(N - 1))
