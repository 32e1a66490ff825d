"""What Python hands to the functions in C is what they take, or it is refused at the start."""

from ctypes import addressof
from types import SimpleNamespace

import pytest

from forethought.engine.native import kernels, structures
from forethought.engine.native.structures import Choice, Norm, Product, Shape, WeightFormat

BUILDS = kernels.builds_for_this_machine()


@pytest.fixture
def build_with(monkeypatch):
    """Loads a build that is one of this machine's but for some of its attributes."""

    def load(**attributes):
        whole = vars(kernels.native)
        module = SimpleNamespace(**{**whole, "__file__": "/site/_kernels_avx2.so", **attributes})
        monkeypatch.setattr(kernels, "import_module", lambda _: module)
        return kernels.load_build("avx2")

    return load


@pytest.mark.parametrize("build", BUILDS)
def test_every_build_takes_the_structures_that_python_fills_in(build):
    module = kernels.load_build(build)
    assert structures.layouts() == module.LAYOUTS
    assert tuple(each.name for each in WeightFormat) == module.WEIGHT_FORMATS


def moved(fields):
    """The same with its first two fields in the other order."""
    (first, at, size), (second, also_at, _), *others = fields
    return ((second, at, size), (first, also_at, size), *others)


@pytest.mark.parametrize("change", ["size", "order", "missing", "more"])
def test_a_build_with_another_layout_is_refused_at_the_start(build_with, change):
    layouts = structures.layouts()
    size, fields = layouts["Norm"]
    match change:
        case "size":
            layouts["Norm"] = (size + 8, fields)
        case "order":
            layouts["Norm"] = (size, moved(fields))
        case "missing":
            del layouts["Norm"]
        case "more":
            layouts["Norm"] = (size, (*fields, ("bias", size, 8)))
    with pytest.raises(ImportError, match=r"/site/_kernels_avx2.so was built .* \(Norm differ"):
        build_with(LAYOUTS=layouts)


def test_a_build_with_other_weight_formats_or_of_an_old_version_is_refused(build_with):
    with pytest.raises(ImportError, match="WeightFormat differ"):
        build_with(WEIGHT_FORMATS=("GROUPS_4",))
    with pytest.raises(ImportError, match=r"install forethought again"):
        build_with(LAYOUTS={})


def test_a_build_that_is_the_same_is_taken(build_with):
    assert build_with().LAYOUTS


def test_a_field_that_a_structure_does_not_have_is_refused():
    with pytest.raises(AttributeError):
        Product(tokens=1)


@pytest.mark.parametrize("given", [Shape(), b"\0" * 8])
def test_a_function_takes_no_structure_of_another_size(given):
    with pytest.raises(TypeError, match="Norm has"):
        kernels.native.norm(given)
    with pytest.raises(TypeError):
        kernels.native.choose(12345)


def test_weights_without_a_kernel_for_their_activations_are_refused():
    matrix = structures.GroupMatrix(format=WeightFormat.BFLOATS_16, n=16, k=32)
    product = Product(matrix=addressof(matrix), x_dtype=0, num_tokens=1)
    with pytest.raises(ValueError, match="take no such numbers"):
        kernels.native.multiply(product)


def test_nothing_is_done_for_no_rows():
    assert kernels.native.norm(Norm()) == 0
    assert kernels.native.choose(Choice()) == 0
