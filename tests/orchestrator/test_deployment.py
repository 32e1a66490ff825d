"""What an orchestrator makes of its settings and of the target that it finds."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from forethought.errors import InvalidArgumentError
from forethought.models.generation_defaults import GenerationDefaults
from forethought.tier import ModelInfo
from orchestrator.__main__ import make_deployment
from orchestrator.settings import OrchestratorSettings
from tests.orchestrator.test_remote_tiers import TARGET

TOKENIZER = SimpleNamespace(name="t", fingerprint=TARGET.vocabulary_fingerprint)


def k_of(*flags: str, target: ModelInfo = TARGET) -> int:
    settings = OrchestratorSettings.from_command_line(["--model", "m", *flags])
    return make_deployment(
        settings, TOKENIZER, target, GenerationDefaults()
    ).default_num_speculative_tokens


def test_a_k_above_what_the_target_verifies_is_refused_with_both_numbers():
    target = replace(TARGET, max_num_speculative_tokens=16)
    assert k_of("--num-speculative-tokens", "16", target=target) == 16
    with pytest.raises(InvalidArgumentError, match=r"is 100, .* at most 16 tokens a round"):
        k_of("--num-speculative-tokens", "100", target=target)


def test_a_k_that_nobody_asked_for_is_what_the_target_verifies():
    assert k_of(target=replace(TARGET, max_num_speculative_tokens=3)) == 3
