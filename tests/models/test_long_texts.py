"""Long texts become tokens in a process that can be ended."""

import pytest
from tokenizers import Regex, Tokenizer, models, pre_tokenizers

from forethought.errors import InvalidArgumentError
from forethought.models.encoding import process as encoding_process
from forethought.models.encoding.process import (
    MAX_SHORT_CHARS,
    EncodingProcess,
    IsolatedTokenizer,
    load_isolated_tokenizer,
)
from forethought.models.text.components import byte_chars
from forethought.models.text.gguf_pretokenizer import pretokenizer_named
from forethought.models.text.parts import TokenizerParts
from orchestrator.__main__ import load_text_tokenizer
from tests.tiny import write_tiny_model

LONG = MAX_SHORT_CHARS + 1


BACKTRACKING = pre_tokenizers.Split(Regex("(a+)+$"), "isolated")
"""Without end in "aaa…b": the library gives up, with a panic."""


@pytest.fixture(scope="module")
def isolated(smollm2_files):
    tokenizer = load_isolated_tokenizer(smollm2_files)
    yield tokenizer
    tokenizer.close()


@pytest.fixture
def slow():
    """Whose regular expression looks from each digit to the end of all."""
    alphabet = {char: byte for byte, char in byte_chars().items()}
    backend = Tokenizer(models.BPE(vocab=alphabet, merges=[]))
    backend.pre_tokenizer = pretokenizer_named("superbpe").build()
    tokenizer = IsolatedTokenizer("slow", TokenizerParts(backend, frozenset(), None))
    yield tokenizer
    tokenizer.close()


@pytest.mark.parametrize("add_special_tokens", [False, True])
@pytest.mark.parametrize("text", ["a wörld 世界 😀 ", "1", " ", "<|im_start|>user\n"])
def test_a_long_text_has_the_tokens_that_it_has_anywhere(
    isolated, smollm2, text, add_special_tokens
):
    text *= LONG
    assert isolated.encode(text, add_special_tokens=add_special_tokens) == smollm2.encode(
        text, add_special_tokens=add_special_tokens
    )


def test_a_short_text_needs_no_process(slow, monkeypatch):
    monkeypatch.setattr(EncodingProcess, "encode", None)
    assert slow.encode("a" * MAX_SHORT_CHARS, add_special_tokens=False) == [97] * MAX_SHORT_CHARS


def test_a_text_that_takes_too_long_is_refused_and_the_next_one_is_not(slow, monkeypatch):
    monkeypatch.setattr(encoding_process, "MIN_CPU_S", 0)
    with pytest.raises(InvalidArgumentError, match="processor time"):
        slow.encode("1" * 200_000, add_special_tokens=False)
    assert slow.encode("a" * LONG, add_special_tokens=False) == [97] * LONG


def test_a_process_that_was_ended_begins_again(slow):
    for _ in range(2):
        assert slow.encode("a" * LONG, add_special_tokens=False) == [97] * LONG
        child = slow._process._process._process
        child.kill()
        child.wait()


@pytest.mark.parametrize("num_more", [0, LONG])
def test_a_text_on_which_a_regular_expression_gives_up_is_refused_and_the_next_one_is_not(num_more):
    backend = Tokenizer(models.WordLevel({"b": 0}, unk_token="b"))
    backend.pre_tokenizer = BACKTRACKING
    tokenizer = IsolatedTokenizer("panicking", TokenizerParts(backend, frozenset(), None))
    with pytest.raises(InvalidArgumentError, match=r"tokenizer fails on it.*retry-limit") as caught:
        tokenizer.encode("a" * 40 + "b" * (1 + num_more), add_special_tokens=False)
    assert list(caught.value.violations) == ["prompt"]
    assert tokenizer.encode("b" * (1 + num_more), add_special_tokens=False) == [0]
    tokenizer.close()


def test_a_text_that_has_no_tokens_is_an_error_and_the_next_one_is_none():
    backend = Tokenizer(models.WordLevel({"a": 0}, unk_token="unknown"))
    tokenizer = EncodingProcess(backend)
    with pytest.raises(InvalidArgumentError, match=r"tokenizer fails on it.*UNK"):
        tokenizer.encode("b", add_special_tokens=False)
    assert tokenizer.encode("a", add_special_tokens=False) == [0]
    tokenizer.close()


def test_the_orchestrator_tokenizes_long_texts_in_a_process(tmp_path):
    folder = write_tiny_model(tmp_path / "model", vocab_size=12, seed=1)
    tokenizer = load_text_tokenizer(str(folder))
    assert isinstance(tokenizer, IsolatedTokenizer)
    tokenizer.close()
