"""What a text's length tells of its tokens is never too much."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers

from forethought.models.text.text_length import text_lengths

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


def byte_level(normalizer=None, without: str = "", split=None) -> Tokenizer:
    tokens = [*sorted(set(pre_tokenizers.ByteLevel.alphabet()) - set(without)), "ab", "Ġa"]
    vocabulary = {token: token_id for token_id, token in enumerate(tokens)}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[("a", "b"), ("Ġ", "a")]))
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.pre_tokenizer = pre_tokenizers.Sequence([*([split] if split else []), byte_level])
    if normalizer is not None:
        backend.normalizer = normalizer
    return backend


def sentencepiece() -> Tokenizer:
    tokens = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", "a", "▁a"]
    vocabulary = {token: token_id for token_id, token in enumerate(tokens)}
    backend = Tokenizer(
        models.BPE(
            vocab=vocabulary,
            merges=[("▁", "a")],
            unk_token="<unk>",
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    backend.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    return backend


WITH_BOUND = {
    "byte level": byte_level(),
    "composed": byte_level(normalizers.NFC()),
    "made compatible": byte_level(
        normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    ),
    "without some bytes": byte_level(without="zÄ"),
    "sentencepiece": sentencepiece(),
}


@pytest.mark.parametrize("kind", WITH_BOUND)
@settings(max_examples=60)
@given(text=TEXT)
@example(text="a" * 40)
@example(text="ab" * 20)
@example(text="\u03b1\u0313\u0300\u0345" * 10)
@example(text="\U0001d400" * 10)
@example(text="\u1112\u1161\u11ab" * 10)
@example(text="z" * 10)
@example(text="\u0100" * 10)
@example(text="\U00040000" * 10)
def test_a_text_has_at_least_as_many_tokens_as_its_length_says(kind, text):
    backend = WITH_BOUND[kind]
    lengths = text_lengths(backend)
    assert lengths is not None
    assert lengths.min_num_tokens(text) <= len(backend.encode(text).ids)


def test_a_long_text_is_known_to_be_long():
    lengths = text_lengths(byte_level())
    assert lengths is not None
    assert lengths.max_bytes_per_token == 2
    assert lengths.min_num_tokens("a" * 1001) == 501


def test_a_special_token_may_stand_for_more_text_than_any_word():
    backend = byte_level()
    backend.add_special_tokens([AddedToken("<|endoftext|>", special=True)])
    lengths = text_lengths(backend)
    assert lengths is not None
    assert lengths.min_num_tokens("<|endoftext|>" * 7) == 7


def swallowing() -> Tokenizer:
    backend = byte_level()
    backend.add_special_tokens([AddedToken("<mask>", lstrip=True, special=True)])
    return backend


@pytest.mark.parametrize(
    "backend",
    [
        Tokenizer(models.WordLevel({"<unk>": 0, "a": 1}, unk_token="<unk>")),
        Tokenizer(models.BPE(vocab={"a": 0}, merges=[])),
        byte_level(normalizers.StripAccents()),
        byte_level(normalizers.Replace("aa", "a")),
        byte_level(split=pre_tokenizers.WhitespaceSplit()),
        byte_level(split=pre_tokenizers.Split(" ", "removed")),
        swallowing(),
    ],
    ids=["word level", "no bytes", "accents", "shorter", "spaces", "removed", "swallowed"],
)
def test_where_text_can_be_lost_nothing_is_told(backend):
    assert text_lengths(backend) is None
