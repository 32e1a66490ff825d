"""What processes of a deployment do not import: their start costs what they import."""

import subprocess
import sys
from pathlib import Path

import gguf
import pytest

from tests.engine.test_loader import write_gguf
from tests.tiny import write_tiny_model

UNNEEDED_FOR_A_MODEL = {
    "accelerate",
    "huggingface_hub.hf_api",
    "scipy",
    "sympy",
    "torch._dynamo",
    "torch._inductor",
    "transformers",
}
UNNEEDED_WITHOUT_A_MODEL = {*UNNEEDED_FOR_A_MODEL, "gguf", "safetensors", "torch"}


def modules_after(code: str, *arguments: object) -> set[str]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    return {*result.stdout.splitlines()[-1].split()}


@pytest.fixture(scope="module")
def references(tmp_path_factory) -> list[Path]:
    """Models of each family that the lean decoder knows, in the forms in which it reads them."""
    folder = tmp_path_factory.mktemp("models")
    families = ("llama", "mistral", "qwen2", "qwen3")
    folders = [write_tiny_model(folder / family, architecture=family) for family in families]
    return [*folders, write_gguf(folders[0], gguf.GGMLQuantizationType.Q4_1)]


def test_a_tier_serves_models_of_the_lean_decoder_without_transformers(references):
    code = (
        "import sys\n"
        "import draft_service.__main__, draft_service.servicer\n"
        "import target_service.__main__, target_service.servicer\n"
        "from forethought.engine.loading.loader import EngineOptions, load_model\n"
        "from forethought.engine.loading.warm_up import load_for_tier\n"
        "from forethought.models.files.reference import resolve\n"
        "from target_service.settings import TargetSettings\n"
        "load_for_tier(TargetSettings(model=sys.argv[1]))\n"
        "for each in sys.argv[2:]: load_model(resolve(each), EngineOptions())\n"
        "print(*sys.modules)\n"
    )
    assert UNNEEDED_FOR_A_MODEL & modules_after(code, *references) == set()


@pytest.mark.parametrize("package", ["orchestrator", "gateway"])
def test_a_process_without_a_model_imports_no_engine(package):
    modules = modules_after(f"import sys, {package}.__main__; print(*sys.modules)")
    assert UNNEEDED_WITHOUT_A_MODEL & modules == set()
