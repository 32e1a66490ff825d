"""A process that computes without the kernels in C says so, once, and what that costs."""

from types import SimpleNamespace

import pytest
import torch
from structlog.testing import capture_logs

from forethought.engine.loading import loader
from forethought.engine.loading.loader import EngineOptions, load_model
from forethought.engine.native import kernels
from forethought.models.files.reference import resolve


@pytest.fixture(autouse=True)
def fresh_process():
    """Nothing has been said yet."""
    kernels.warn_if_missing.cache_clear()
    yield
    kernels.warn_if_missing.cache_clear()


@pytest.fixture
def find_with(monkeypatch):
    """Looks for kernels where importing one does what `load` does."""

    def find(load, others=()):
        monkeypatch.setattr(kernels, "import_module", load)
        names = [f"forethought.engine.native._kernels_{each}" for each in others]
        monkeypatch.setattr(kernels, "find_spec", lambda name: name in names)
        native, why = kernels.find_fastest()
        monkeypatch.setattr(kernels, "native", native)
        monkeypatch.setattr(kernels, "are_built", native is not None)
        monkeypatch.setattr(kernels, "why_missing", why)
        return native

    return find


def not_there(name):
    raise ModuleNotFoundError(name)


def warnings_of(logs):
    return [each for each in logs if each["event"] == "kernels_missing"]


def test_whoever_loads_models_without_kernels_is_told_once(find_with, tiny_target_folder):
    assert find_with(not_there) is None
    with capture_logs() as logs:
        for _ in range(2):
            load_model(resolve(str(tiny_target_folder)), EngineOptions(dtype="float32"))
    [warning] = warnings_of(logs)
    assert warning["log_level"] == "warning"
    assert "no C compiler with OpenMP" in warning["why"]
    assert "times as long" in warning["cost"]
    assert "install" in warning["remedy"]


def test_nothing_is_said_where_the_kernels_are(tiny_target_folder):
    with capture_logs() as logs:
        load_model(resolve(str(tiny_target_folder)), EngineOptions(dtype="float32"))
    assert not warnings_of(logs)


def test_nothing_is_said_on_another_device_than_a_cpu(find_with, monkeypatch, tiny_target_folder):
    find_with(not_there)
    monkeypatch.setattr(loader, "choose_device", lambda _: torch.device("cuda"))
    monkeypatch.setattr(loader, "_load_in_transformers", lambda *_: None)
    with capture_logs() as logs:
        load_model(resolve(str(tiny_target_folder)), EngineOptions(dtype="float32"))
    assert not warnings_of(logs)


def test_a_system_without_openmp_is_named_as_the_cause(find_with):
    def cannot_load(name):
        raise ImportError("libgomp.so.1: cannot open shared object file")

    assert find_with(cannot_load) is None
    with capture_logs() as logs:
        kernels.warn_if_missing()
    assert "libgomp.so.1" in warnings_of(logs)[0]["why"]


def test_builds_for_other_processors_are_named_as_the_cause(find_with):
    assert find_with(not_there, others=["avx512_bf16"]) is None
    with capture_logs() as logs:
        kernels.warn_if_missing()
    assert "can run none of those that are there (avx512_bf16)" in warnings_of(logs)[0]["why"]


def test_a_slower_build_is_taken_where_the_fastest_is_missing_or_slow(find_with):
    whole = SimpleNamespace(**vars(kernels.native))

    def only_default(name):
        if name.endswith("default"):
            return whole
        raise ModuleNotFoundError(name)

    assert find_with(only_default) is whole
    whole.HAS_SLOW_PAIRS = 1
    assert find_with(only_default) is None
