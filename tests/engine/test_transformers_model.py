"""transformers' own models behind the engine's seam."""

from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from forethought.engine.causal_model import CausalModel
from forethought.engine.transformers_model import TransformersModel
from tests.engine.conftest import WINDOW, Reference
from tests.engine.ledger import LedgerCache
from tests.tiny import write_tiny_model

TOKENS = [3, 9, 14, 2, 7, 11, 5, 8, 13, 6, 4, 10, 12, 15, 2, 3, 5, 7, 11, 13]


def assert_close(logits: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=1e-4)


def test_truncating_and_recomputing_equals_a_full_pass(
    tiny_model: CausalModel, reference: Reference
):
    full = reference(TOKENS)  # [20, V], five windows long
    cache = tiny_model.new_cache()
    tiny_model.forward([*TOKENS[:15], 1, 1, 1], cache, 0)
    for length in (15, 12, 3, 0):
        cache.truncate(length)
        assert cache.length == length
        logits = tiny_model.forward(TOKENS[length:], cache, len(TOKENS) - length)
        assert_close(logits, full[length:])


def test_any_number_of_positions_can_be_scored(tiny_model: CausalModel, reference: Reference):
    for num_logits in (0, 1, 4):
        logits = tiny_model.forward(TOKENS[:6], tiny_model.new_cache(), num_logits)
        assert logits.shape == (num_logits, tiny_model.vocab_size)
        assert logits.dtype is torch.float32
        assert_close(logits, reference(TOKENS[:6])[6 - num_logits :])


def test_the_window_of_these_tests_changes_what_the_model_says(tmp_path: Path):
    folder = write_tiny_model(tmp_path, architecture="mistral", sliding_window=None)
    unlimited = AutoModelForCausalLM.from_pretrained(folder)
    limited = AutoModelForCausalLM.from_pretrained(folder, sliding_window=WINDOW)
    with torch.inference_mode():
        difference = (
            unlimited(torch.tensor([TOKENS])).logits - limited(torch.tensor([TOKENS])).logits
        )
    assert difference[0, :WINDOW].abs().max() < 1e-4
    assert difference[0, WINDOW + 1 :].abs().max() > 0.1


def test_a_cache_of_another_engine_is_refused(tiny_model: CausalModel):
    with pytest.raises(TypeError):
        tiny_model.forward([1], LedgerCache(), 1)


def test_a_model_whose_state_cannot_be_rolled_back_is_refused():
    config = AutoConfig.for_model(
        "mamba", vocab_size=16, hidden_size=16, state_size=4, num_hidden_layers=1
    )
    model = AutoModelForCausalLM.from_config(config).eval()
    with pytest.raises(Exception):  # noqa: B017, PT011 - any refusal will do, the loader names the model
        TransformersModel(model, max_model_len=16)
