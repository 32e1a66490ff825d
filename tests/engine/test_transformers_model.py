"""transformers' own models behind the engine's seam."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from transformers import AutoConfig, AutoModelForCausalLM

from forethought.engine.hf import transformers_model
from forethought.engine.hf.transformers_model import TransformersModel
from forethought.engine.loading.loader import EngineOptions, load_model
from forethought.engine.model.attention import AttentionKind
from forethought.engine.model.causal_model import CausalModel
from forethought.engine.model.packed import SequencePart, pack
from forethought.errors import ModelReferenceError
from forethought.models.files.reference import ModelFiles
from tests.engine.conftest import WINDOW, Reference, reference_of
from tests.engine.test_cached_sequence import PROMPTS, ROUNDS, play
from tests.engine.token_pool import whole_pass
from tests.tiny import write_tiny_model

TOKENS = [3, 9, 14, 2, 7, 11, 5, 8, 13, 6, 4, 10, 12, 15, 2, 3, 5, 7, 11, 13]


def assert_close(logits: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=1e-4)


def test_going_back_and_recomputing_equals_a_full_pass(
    tiny_model: CausalModel, reference: Reference
):
    full = reference(TOKENS)  # [20, V], five windows long
    tiny_model.allocate(3)
    blocks = [2, 0]
    tiny_model.forward(pack([SequencePart([*TOKENS[:15], 1, 1, 1], 0, blocks, 0)]))
    for length in (15, 12, 3, 0):
        rest = SequencePart(TOKENS[length:], length, blocks, len(TOKENS) - length)
        assert_close(tiny_model.forward(pack([rest])), full[length:])


def test_any_number_of_positions_can_be_scored(tiny_model: CausalModel, reference: Reference):
    for num_logits in (0, 1, 4):
        logits = whole_pass(tiny_model, TOKENS[:6], num_logits)
        assert logits.shape == (num_logits, tiny_model.vocab_size)
        assert logits.dtype is torch.float32
        assert_close(logits, reference(TOKENS[:6])[6 - num_logits :])


def test_sequences_in_one_pass_do_not_see_each_other(tiny_model: CausalModel, reference: Reference):
    """One goes on, one begins, and one begins and is not scored."""
    tiny_model.allocate(6)
    others = TOKENS[::-1]
    first = [SequencePart(TOKENS[:17], 0, [3, 1], 17)]
    assert_close(tiny_model.forward(pack(first)), reference(TOKENS)[:17])
    second = [
        SequencePart(others[:5], 0, [4], 0),
        SequencePart(TOKENS[17:], 17, [3, 1], 3),
        SequencePart(others, 0, [5, 0], 2),
    ]
    expected = torch.cat((reference(TOKENS)[17:], reference(others)[-2:]))
    assert_close(tiny_model.forward(pack(second)), expected)
    third = [SequencePart(others[5:], 5, [4, 2], 15), SequencePart([1], 20, [3, 1], 1)]
    expected = torch.cat((reference(others)[5:], reference([*TOKENS, 1])[-1:]))
    assert_close(tiny_model.forward(pack(third)), expected)


def test_the_pool_takes_the_memory_that_is_said(tiny_model: CausalModel):
    tiny_model.allocate(5)
    pools: Any = getattr(tiny_model, "_pools", None) or tiny_model._stack.pools
    pools = pools.values() if isinstance(pools, dict) else pools
    held = sum(pool.keys.nbytes + pool.values.nbytes for pool in pools)
    assert held == 5 * tiny_model.kv_bytes_per_block


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


FAMILIES: dict[str, dict[str, Any]] = {
    "gemma2": {
        "head_dim": 8,
        "sliding_window": WINDOW,
        "query_pre_attn_scalar": 1,
        "attn_logit_softcapping": 2.0,
    },
    "gemma3_text": {"head_dim": 8, "sliding_window": WINDOW},
    "gpt2": {},
    "gpt_neox": {},
    "gpt_oss": {"head_dim": 8, "sliding_window": WINDOW, "num_local_experts": 4},
    "olmo2": {},
    "phi3": {"pad_token_id": 0, "sliding_window": WINDOW},
    "cohere2": {"sliding_window": WINDOW},
    "mixtral": {"num_local_experts": 4},
    "starcoder2": {"sliding_window": WINDOW},
}


def load_family(folder: Path, family: str) -> CausalModel:
    write_tiny_model(folder, architecture=family, max_model_len=96, **FAMILIES[family])
    return load_model(ModelFiles("tiny", folder, None), EngineOptions(device="cpu"))


@pytest.mark.parametrize("family", FAMILIES)
def test_what_it_takes_it_computes_as_transformers_does(tmp_path: Path, family: str):
    model = load_family(tmp_path, family)
    reference = reference_of(tmp_path)
    assert isinstance(model, TransformersModel)

    def check(tokens: list[int], logits: torch.Tensor) -> None:
        assert_close(logits, reference(tokens)[-len(logits) :])

    @settings(max_examples=6, deadline=None)
    @given(prompt=PROMPTS, rounds=ROUNDS)
    def play_rounds(prompt, rounds):
        play(model, prompt, rounds, check)

    play_rounds()


@pytest.mark.parametrize(
    ("family", "forgotten"),
    [
        ("gemma2", "softcap"),
        ("gemma2", "window"),
        ("gpt_oss", "sinks"),
        ("gpt_oss", "window"),
        ("phi3", "window"),
    ],
)
def test_a_model_whose_attention_is_not_known_is_refused(monkeypatch, tmp_path, family, forgotten):
    """As if it were not known, for any attention that is to come."""

    def forgetful(*values: Any) -> AttentionKind:
        return replace(AttentionKind(*values), **{forgotten: None})

    monkeypatch.setattr(transformers_model, "AttentionKind", forgetful)
    with pytest.raises(ModelReferenceError, match="does not know"):
        load_family(tmp_path, family)


@pytest.mark.parametrize("family", ["bloom", "mpt"])
def test_a_model_that_is_biased_by_position_is_refused(tmp_path, family):
    write_tiny_model(tmp_path, architecture=family)
    with pytest.raises(ModelReferenceError):
        load_model(ModelFiles("tiny", tmp_path, None), EngineOptions(device="cpu"))


def test_a_model_whose_state_cannot_be_rolled_back_is_refused():
    config = AutoConfig.for_model(
        "mamba", vocab_size=16, hidden_size=16, state_size=4, num_hidden_layers=1
    )
    model = AutoModelForCausalLM.from_config(config).eval()
    with pytest.raises(Exception):  # noqa: B017, PT011 - any refusal will do, the loader names the model
        TransformersModel(model, max_model_len=16)
