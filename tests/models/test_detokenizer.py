"""Streaming gives the text of all tokens, in pieces that never hold half a character."""

import pytest
from gguf.vocab import bytes_to_unicode
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models

from forethought.models.text.detokenizer import StreamingDetokenizer
from forethought.models.text.parts import TokenizerParts
from forethought.models.text.tokenizer import TextTokenizer

HALF = "\ufffd"
# SmolLM2 has no tokens for some control characters and for the planes that Unicode does not use.
CHARACTERS = st.characters(
    max_codepoint=0x3FFFF, exclude_categories=["Cs"], exclude_characters="\x04\x06\x13\x14\x16\x1d"
)
EMOJI = "👩‍👩‍👧‍👦🏳️‍🌈😀é世界ไทย"


def stream(tokenizer, token_ids, context=()) -> list[str]:
    detokenizer = StreamingDetokenizer(tokenizer, context)
    return [*(detokenizer.push(token_id) for token_id in token_ids), detokenizer.flush()]


class CountingTokenizer(TextTokenizer):
    """Notes how many ids every call decodes."""

    def __init__(self, tokenizer: TextTokenizer) -> None:
        super().__init__("counting", TokenizerParts(tokenizer._backend, frozenset(), None))
        self.decoded: list[int] = []

    def decode(self, token_ids, *, skip_special_tokens=True):
        self.decoded.append(len(token_ids))
        return super().decode(token_ids, skip_special_tokens=skip_special_tokens)


@pytest.fixture(scope="module")
def byte_fallback() -> TextTokenizer:
    """SentencePiece in small: the 256 byte tokens, then three words with a space in front."""
    tokens = [f"<0x{byte:02X}>" for byte in range(256)] + ["▁the", "▁", "x"]
    vocab = {token: token_id for token_id, token in enumerate(tokens)}
    backend = Tokenizer(models.BPE(vocab=vocab, merges=[], byte_fallback=True))
    backend.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    return TextTokenizer("byte-fallback", TokenizerParts(backend, frozenset(), None))


@pytest.fixture(scope="module")
def broken_tokens(smollm2) -> list[int]:
    """The tokens that are not whole characters: some 300 of 49,152."""
    return [i for i in range(smollm2.vocab_size) if HALF in smollm2.token_text(i)]


@settings(max_examples=300)
@given(token_ids=st.lists(st.integers(0, 49_155), max_size=40))
def test_pieces_join_to_the_text_of_any_tokens(smollm2, token_ids):
    assert "".join(stream(smollm2, token_ids)) == smollm2.decode(token_ids)


@settings(max_examples=300)
@given(data=st.data())
def test_pieces_join_to_the_text_of_broken_characters(smollm2, broken_tokens, data):
    token_ids = data.draw(st.lists(st.sampled_from(broken_tokens), max_size=40))
    assert "".join(stream(smollm2, token_ids)) == smollm2.decode(token_ids)


@settings(max_examples=200)
@given(text=st.text(CHARACTERS) | st.text(st.sampled_from(EMOJI)))
def test_no_piece_of_valid_text_holds_half_a_character(smollm2, text):
    text = text.replace(HALF, "")
    pieces = stream(smollm2, smollm2.encode(text, add_special_tokens=False))
    assert "".join(pieces) == text
    assert not any(HALF in piece for piece in pieces)


def test_the_twin_that_decodes_each_token_alone_does_cut_characters(smollm2):
    token_ids = smollm2.encode(EMOJI, add_special_tokens=False)
    assert HALF in "".join(smollm2.decode([token_id]) for token_id in token_ids)


def test_a_piece_comes_with_the_token_that_completes_it(smollm2):
    token_ids = smollm2.encode("世", add_special_tokens=False)
    assert len(token_ids) > 1
    assert stream(smollm2, token_ids) == [""] * (len(token_ids) - 1) + ["世", ""]


def test_flush_gives_what_is_left_and_then_nothing(smollm2):
    detokenizer = StreamingDetokenizer(smollm2)
    assert detokenizer.push(smollm2.encode("世", add_special_tokens=False)[0]) == ""
    assert detokenizer.flush() == HALF
    assert detokenizer.flush() == ""


def test_special_and_unknown_tokens_add_nothing_and_break_no_character(smollm2):
    first, *rest = smollm2.encode("世", add_special_tokens=False)
    assert "".join(stream(smollm2, [first, 2, 49_152, *rest, 2])) == "世"


def test_garbage_without_end_is_given_out_and_costs_the_same(smollm2):
    counting = CountingTokenizer(smollm2)
    unfinished = smollm2.encode("世", add_special_tokens=False)[0]
    assert "".join(stream(counting, [unfinished] * 500)) == HALF * 500
    assert max(counting.decoded) <= 8


def test_bytes_that_the_decoder_never_settles_are_given_out_all_the_same(byte_fallback):
    counting = CountingTokenizer(byte_fallback)
    pieces = stream(counting, [0xFF, *[0x41] * 500])
    assert max(counting.decoded) <= 32
    assert len("".join(pieces)) == 501


def test_broken_characters_of_several_tokens_are_cut_where_they_end(smollm2):
    """Found by random search: a cut inside the first three bytes counted them twice."""
    byte_tokens = {
        byte: token_id
        for byte, character in bytes_to_unicode().items()
        if (token_id := smollm2._backend.token_to_id(character)) is not None
    }
    token_ids = [byte_tokens[byte] for byte in bytes.fromhex("f380b5e1b8e695")]
    assert "".join(stream(smollm2, token_ids)) == smollm2.decode(token_ids)


def test_a_token_costs_the_same_at_any_length(smollm2):
    counting = CountingTokenizer(smollm2)
    token_ids = smollm2.encode("Grüße 世界 😀 and so on. " * 50, add_special_tokens=False)
    stream(counting, token_ids, context=token_ids)
    assert max(counting.decoded) <= 8
    assert len(counting.decoded) <= 3 * (len(token_ids) + 8) + 3


@given(words=st.lists(st.sampled_from([256, 257, 258]), max_size=12))
def test_the_first_space_is_dropped_once_and_no_other(byte_fallback, words):
    assert "".join(stream(byte_fallback, words)) == byte_fallback.decode(words)


@given(
    prompt=st.lists(st.sampled_from([256, 257, 258]), min_size=1, max_size=20),
    answer=st.lists(st.sampled_from([256, 257, 258]), max_size=6),
)
def test_after_a_prompt_the_pieces_continue_its_text(byte_fallback, prompt, answer):
    continued = "".join(stream(byte_fallback, answer, context=prompt))
    assert byte_fallback.decode(prompt) + continued == byte_fallback.decode(prompt + answer)


@given(text=st.text().filter(lambda text: HALF not in text))
def test_byte_fallback_completes_every_character(byte_fallback, text):
    token_ids = [byte for character in text for byte in character.encode()]
    pieces = stream(byte_fallback, token_ids, context=[258])
    assert "".join(pieces) == text
    assert not any(HALF in piece for piece in pieces)


def test_a_bad_byte_after_a_character_leaves_the_character(byte_fallback):
    assert "".join(stream(byte_fallback, [*"é".encode(), 0xFF, 258])) == f"é{HALF}x"


def test_a_character_that_the_context_leaves_unfinished_is_given_out_whole(smollm2):
    token_ids = smollm2.encode("so 世", add_special_tokens=False)
    assert "".join(stream(smollm2, token_ids[-1:], context=token_ids[:-1])) == "世"
