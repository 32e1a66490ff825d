"""The models that other tests build on are worth testing with."""

import torch

from forethought.engine.loading.loader import EngineOptions, load_model
from forethought.models.files.reference import resolve
from forethought.models.text.tokenizer import load_tokenizer
from tests.engine.token_pool import whole_pass
from tests.tiny import EOS_ID, tiny_tokens, write_tiny_model


def next_token_probs(folder) -> torch.Tensor:
    model = load_model(resolve(str(folder)), EngineOptions(dtype="float32"))
    tokens = torch.randint(16, (60,), generator=torch.Generator().manual_seed(1)).tolist()
    return whole_pass(model, tokens).softmax(dim=-1)  # [60, 16]


def test_distributions_are_neither_uniform_nor_certain_and_depend_on_the_context(tmp_path):
    probs = next_token_probs(write_tiny_model(tmp_path))
    assert 0.2 < probs.amax(dim=-1).mean() < 0.7
    assert (probs[1:] - probs[:-1]).abs().sum(dim=-1).min() > 0.1


def test_two_seeds_are_a_target_and_a_draft_that_is_often_wrong(tmp_path):
    target = next_token_probs(write_tiny_model(tmp_path / "target", seed=0))
    draft = next_token_probs(write_tiny_model(tmp_path / "draft", seed=1))
    assert 0.2 < target.minimum(draft).sum(dim=-1).mean() < 0.8  # the acceptance rate


def test_the_tokenizer_spells_its_vocabulary(tmp_path):
    folder = write_tiny_model(tmp_path, vocab_size=16)
    tokenizer = load_tokenizer(resolve(str(folder)))
    assert tiny_tokens(16) == ["<unk>", "</s>", " ", *"abcdefghijklm"]
    assert tokenizer.vocab_size == 16
    assert EOS_ID in tokenizer.eos_token_ids
    assert tokenizer.encode("bad cab", add_special_tokens=True) == [4, 3, 6, 2, 5, 3, 4]
    assert tokenizer.decode([4, 3, 6, 2, 5, 3, 4]) == "bad cab"
    assert tokenizer.has_chat_template
