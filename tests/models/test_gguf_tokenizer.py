"""Tokenizers from small GGUF files written for the purpose."""

import unicodedata
from itertools import pairwise

import gguf
import pytest
import structlog
from gguf import TokenType
from gguf.vocab import bytes_to_unicode
from hypothesis import given
from hypothesis import strategies as st

from forethought.errors import ModelReferenceError
from forethought.models.files.reference import resolve
from forethought.models.text import gguf_pretokenizer
from forethought.models.text.tokenizer import TextTokenizer, load_tokenizer

SPACE = "\u2581"
PIECES = [
    f"{SPACE}the", "hell", "ello", f"{SPACE}hello", "th", "the", f"{SPACE}th", "he", f"{SPACE}he",
    "ll", "lo", f"{SPACE}t", f"{SPACE}h", "el", f"{SPACE}", "e", "h", "l", "o", "t", "é",
]  # fmt: skip


class SentencePieceFile:
    """A vocabulary in the order of real ones: control tokens, bytes, pieces best score first."""

    def __init__(self) -> None:
        self.tokens = ["<unk>", "<s>", "</s>"]
        self.types = [TokenType.UNKNOWN, TokenType.CONTROL, TokenType.CONTROL]
        self.tokens += [f"<0x{byte:02X}>" for byte in range(256)]
        self.types += [TokenType.BYTE] * 256
        self.tokens += [*PIECES, "<tool>"]
        self.types += [*[TokenType.NORMAL] * len(PIECES), TokenType.USER_DEFINED]
        self.scores = [-float(token_id) for token_id in range(len(self.tokens))]

    def write(self, path, **settings) -> TextTokenizer:
        writer = gguf.GGUFWriter(path, "llama")
        writer.add_tokenizer_model("llama")
        writer.add_token_list(self.tokens)
        writer.add_token_scores(self.scores)
        writer.add_token_types(self.types)
        writer.add_bos_token_id(1)
        writer.add_eos_token_id(2)
        writer.add_unk_token_id(0)
        return finish(writer, path, **settings)


def finish(writer, path, **settings) -> TextTokenizer:
    for name, value in settings.items():
        add = writer.add_bool if isinstance(value, bool) else writer.add_uint32
        add(f"tokenizer.ggml.{name}", value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return load_tokenizer(resolve(str(path)))


def byte_level_file(path, pre, *, merges=(), extra=(), **settings) -> TextTokenizer:
    """Bytes as the first 256 tokens, then what the merges make, then `extra` (token, type)."""
    joined = [merge.replace(" ", "") for merge in merges]
    tokens = [*bytes_to_unicode().values(), *joined, *(token for token, _kind in extra)]
    types = [TokenType.NORMAL] * (256 + len(joined)) + [kind for _token, kind in extra]
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tokenizer_model("gpt2")
    if pre is not None:
        writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    if merges:
        writer.add_token_merges(list(merges))
    return finish(writer, path, **settings)


def pieces(tokenizer: TextTokenizer, text: str) -> list[str]:
    token_ids = tokenizer.encode(text, add_special_tokens=False)
    return [tokenizer.token_text(token_id) for token_id in token_ids]


def join_best_neighbours(text: str) -> list[str]:
    """SentencePiece BPE as defined: join the best-scored pair, the leftmost first, till none is."""
    symbols = list(SPACE + text.replace(" ", SPACE)) if text else []
    while True:
        pairs = [a + b for a, b in pairwise(symbols)]
        known = [(PIECES.index(pair), at) for at, pair in enumerate(pairs) if pair in PIECES]
        if not known:
            return symbols
        _rank, at = min(known)
        symbols[at : at + 2] = [pairs[at]]


@pytest.fixture(scope="module")
def sentencepiece(tmp_path_factory) -> TextTokenizer:
    return SentencePieceFile().write(tmp_path_factory.mktemp("spm") / "spm.gguf")


@given(text=st.text("helotw é", max_size=20))
def test_sentencepiece_joins_the_neighbours_that_score_best(sentencepiece, text):
    expected = []
    for symbol in join_best_neighbours(text):
        if symbol in PIECES:
            expected.append(PIECES.index(symbol) + 259)
        else:
            expected += [byte + 3 for byte in symbol.encode()]
    assert sentencepiece.encode(text, add_special_tokens=False) == expected


@given(text=st.text())
def test_sentencepiece_brings_every_text_back(sentencepiece, text):
    token_ids = sentencepiece.encode(text, add_special_tokens=True)
    assert token_ids[0] == 1
    assert sentencepiece.decode(token_ids) == text.replace(SPACE, " ")


def test_sentencepiece_shows_the_space_of_a_single_token(sentencepiece):
    assert pieces(sentencepiece, "the the") == [" the", " the"]


def test_sentencepiece_adds_no_space_in_front_where_the_file_says_so(tmp_path):
    tokenizer = SentencePieceFile().write(tmp_path / "a.gguf", add_space_prefix=False)
    assert pieces(tokenizer, "the the") == ["the", " the"]
    assert tokenizer.decode(tokenizer.encode(" the", add_special_tokens=False)) == " the"


def test_sentencepiece_puts_the_space_after_tokens_written_in_the_text_as_llama_does(sentencepiece):
    assert pieces(sentencepiece, "</s>the") == ["</s>", " the"]


def test_control_tokens_are_special_and_user_defined_ones_are_text(sentencepiece):
    tool = len(PIECES) + 259
    token_ids = sentencepiece.encode("the<tool></s>", add_special_tokens=False)
    assert token_ids == [259, tool, 2]
    assert sentencepiece.decode(token_ids) == "the<tool>"
    assert (sentencepiece.has_text(tool), sentencepiece.has_text(2)) == (True, False)


def test_text_that_looks_like_a_byte_token_is_text(sentencepiece):
    assert 3 + 0x0A not in sentencepiece.encode("<0x0A>", add_special_tokens=False)
    assert 3 + 0x0A in sentencepiece.encode("\n", add_special_tokens=False)


@pytest.mark.parametrize(("stated", "added"), [(None, True), (True, True), (False, False)])
def test_sentencepiece_begins_with_bos_unless_the_file_says_no(tmp_path, stated, added):
    settings = {} if stated is None else {"add_bos_token": stated}
    tokenizer = SentencePieceFile().write(tmp_path / "a.gguf", **settings)
    assert (tokenizer.encode("the", add_special_tokens=True)[0] == 1) is added
    assert tokenizer.encode("the", add_special_tokens=False)[0] != 1


def test_sentencepiece_agrees_with_transformers(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    transformers = pytest.importorskip("transformers")
    ours = SentencePieceFile().write(tmp_path / "a.gguf", add_bos_token=True)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path, gguf_file="a.gguf")
    for text in ("hello the\nthe<tool>", "the  été </s>", "x😀y"):
        token_ids = ours.encode(text, add_special_tokens=True)
        assert token_ids == theirs.encode(text)
        assert ours.decode(token_ids) == theirs.decode(token_ids, skip_special_tokens=True)


@pytest.mark.parametrize(
    ("pre", "expected"),
    [
        ("gpt-2", ["a", " ", " 12", "34", "'", "S"]),
        ("smollm", ["a", "  ", "1", "2", "3", "4", "'", "S"]),
        ("qwen2", ["a", " ", " ", "1", "2", "3", "4", "'S"]),
        ("llama-bpe", ["a", " ", " ", "12", "3", "4", "'S"]),
    ],
)
def test_each_pretokenizer_cuts_where_its_models_were_trained_to(tmp_path, pre, expected):
    merges = ["Ġ Ġ", "1 2", "Ġ 12", "3 4", "' S"]
    tokenizer = byte_level_file(tmp_path / "a.gguf", pre, merges=merges)
    assert pieces(tokenizer, "a  1234'S") == expected


def test_qwen2_composes_characters_first(tmp_path):
    tokenizer = byte_level_file(tmp_path / "a.gguf", "qwen2")
    assert tokenizer.decode(tokenizer.encode("e\u0301", add_special_tokens=False)) == "\u00e9"


def test_llama3_takes_a_piece_that_is_a_token_whole_and_begins_with_bos(tmp_path):
    extra = [("word", TokenType.NORMAL), ("<|begin|>", TokenType.CONTROL)]
    tokenizer = byte_level_file(tmp_path / "a.gguf", "llama-bpe", extra=extra, bos_token_id=257)
    assert tokenizer.encode("word", add_special_tokens=True) == [257, 256]
    assert tokenizer.encode("words", add_special_tokens=False)[0] != 256


def test_rows_that_only_fill_the_embedding_matrix_are_not_part_of_the_vocabulary(tmp_path):
    plain = byte_level_file(tmp_path / "a.gguf", "gpt-2")
    extra = [("[PAD256]", TokenType.UNUSED), ("[PAD257]", TokenType.UNUSED)]
    padded = byte_level_file(tmp_path / "b.gguf", "gpt-2", extra=extra)
    assert (plain.vocab_size, padded.vocab_size) == (256, 256)
    assert plain.fingerprint == padded.fingerprint


def test_an_unknown_pretokenizer_is_refused_by_its_name(tmp_path):
    with pytest.raises(ModelReferenceError, match=r"a\.gguf.*'from-the-future'.*llama-bpe"):
        byte_level_file(tmp_path / "a.gguf", "from-the-future")


def test_a_file_without_a_pretokenizer_gets_the_default_and_the_log_says_so(tmp_path):
    with structlog.testing.capture_logs() as logs:
        tokenizer = byte_level_file(tmp_path / "a.gguf", None, merges=["1 2", "12 3", "123 4"])
    assert "gguf_pretokenizer_missing" in [log["event"] for log in logs]
    assert pieces(tokenizer, "1234") == ["123", "4"]


NAMES = [name for names in gguf_pretokenizer._BY_NAME for name in names.split()]


@pytest.mark.parametrize("pre", NAMES)
def test_every_pretokenizer_brings_every_text_back(tmp_path, pre):
    tokenizer = byte_level_file(tmp_path / "a.gguf", pre)
    for text in (
        "It's 12345 o'clock,\n\n\tTEXTandText  !!  ",
        "日本語 e\u0301 テキスト",
        "(a|b) … \u06d4x",
    ):
        token_ids = tokenizer.encode(text, add_special_tokens=False)
        assert tokenizer.decode(token_ids) in (text, unicodedata.normalize("NFC", text))


CUTS = {
    "gpt-2": ["It", "'s", " 12345", " TEXTandText", ",", "\n\n", " 日本語カナ"],
    "default": ["It", "'", "s", " ", "123", "45", " TEXTandText", ",", "\n\n", " 日本語カナ"],
    "falcon": ["It", "'", "s", " ", "123", "45", " TEXTandText", ",", "\n\n", " 日本語カナ"],
    "smollm": ["It", "'s", " ", *"12345", " TEXTandText", ",", "\n\n", " 日本語カナ"],
    "llama-bpe": ["It", "'s", " ", "123", "45", " TEXTandText", ",\n\n", " 日本語カナ"],
    "qwen2": ["It", "'s", " ", *"12345", " TEXTandText", ",\n\n", " 日本語カナ"],
    "gpt-4o": ["It's", " ", "123", "45", " TEXTand", "Text", ",\n\n", " 日本語カナ"],
    "tekken": ["It", "'s", " ", *"12345", " TEXTand", "Text", ",\n\n", " 日本語カナ"],
    "kimi-k2": ["It's", " ", "123", "45", " TEXTand", "Text", ",\n\n", " ", "日本語", "カナ"],
    "deepseek-v3": ["It", "'s", " ", "123", "45", " TEXTandText", ",\n\n", " ", "日本語カナ"],
    "deepseek-coder": [
        "It",
        "'",
        "s",
        " ",
        *"12345",
        " TEXTandText",
        ",",
        "\n",
        "\n",
        " ",
        "日本語カナ",
    ],
    "superbpe": ["It's ", "12", "345", " TEXTandText,\n\n 日本語カナ"],
    "tiny_aya": ["It's", " ", "12", "345", " TEXTand", "Text", ",\n\n", " 日本語カナ"],
    "seed-coder": ["It", "'s", " ", *"12345", " TEXTandText", ",", "\n\n", " 日本語カナ"],
    "bloom": ["It's", " 12345", " TEXTandText", ",\n\n", " 日本語カナ"],
    "viking": ["It's", " ", *"12345", " TEXTandText", ",\n\n", " 日本語カナ"],
}


@pytest.mark.parametrize(("pre", "expected"), CUTS.items(), ids=CUTS)
def test_text_is_cut_as_the_name_says(pre, expected):
    cut = gguf_pretokenizer.pretokenizer_named(pre).build()
    text = "It's 12345 TEXTandText,\n\n 日本語カナ"
    assert [text[start:end] for _piece, (start, end) in cut.pre_tokenize_str(text)] == expected


def test_all_tokens_that_end_an_answer_count(tmp_path):
    ends = {"eos_token_id": 1, "eot_token_id": 2, "fim_rep_token_id": 3, "eom_token_id": 999}
    with structlog.testing.capture_logs() as logs:
        tokenizer = byte_level_file(tmp_path / "a.gguf", "gpt-2", **ends)
    assert tokenizer.eos_token_ids == {1, 2, 3}
    assert [log["tokens"] for log in logs] == [{"eom_token": 999}]


@pytest.mark.parametrize("kind", [TokenType.CONTROL, TokenType.NORMAL, TokenType.USER_DEFINED])
def test_a_token_with_the_name_of_an_end_ends_an_answer_and_is_no_text(tmp_path, kind):
    names = ["<|eot_id|>", "<|im_end|>", "<end_of_turn>", "<|endoftext|>", "<EOT>", "<|fim_pad|>"]
    extra = [(name, kind) for name in names]
    tokenizer = byte_level_file(tmp_path / "a.gguf", "gpt-2", extra=extra, eos_token_id=1)
    assert tokenizer.eos_token_ids == {1, *range(256, 256 + len(names))}
    assert tokenizer.encode("<EOT>", add_special_tokens=False) == [260]
    assert not tokenizer.has_text(260)


def test_a_tag_of_html_ends_nothing_unless_it_is_a_control_token(tmp_path):
    for kind, ends in ((TokenType.CONTROL, {256}), (TokenType.USER_DEFINED, set())):
        tokenizer = byte_level_file(tmp_path / "a.gguf", "gpt-2", extra=[("</s>", kind)])
        assert tokenizer.eos_token_ids == ends
        assert tokenizer.has_text(256) is (not ends)


def test_the_end_of_a_part_of_an_answer_does_not_end_it(tmp_path):
    extra = [(name, TokenType.CONTROL) for name in ("<|end|>", "<|return|>", "<|call|>")]
    tokenizer = byte_level_file(tmp_path / "a.gguf", "gpt-4o", extra=extra)
    assert tokenizer.eos_token_ids == {257, 258}


@pytest.mark.parametrize("stated", [True, False])
def test_the_end_goes_behind_a_text_where_the_file_says_so(tmp_path, stated):
    settings = {"add_bos_token": True, "add_eos_token": stated}
    tokenizer = SentencePieceFile().write(tmp_path / "a.gguf", **settings)
    token_ids = tokenizer.encode("the", add_special_tokens=True)
    assert token_ids == [1, 259, 2][: 2 + stated]


@pytest.mark.parametrize("name", ["bos", "eos"])
def test_a_token_to_add_that_the_file_does_not_name_is_refused(tmp_path, name):
    with pytest.raises(ModelReferenceError, match=rf"add_{name}_token is set.*{name}_token_id"):
        byte_level_file(tmp_path / "a.gguf", "gpt-2", **{f"add_{name}_token": True})


@pytest.mark.parametrize("name", ["remove_extra_whitespaces", "add_sep_token"])
def test_a_setting_that_changes_tokens_and_is_not_computed_is_refused_by_its_name(tmp_path, name):
    with pytest.raises(ModelReferenceError, match=rf"tokenizer\.ggml\.{name} is set"):
        SentencePieceFile().write(tmp_path / "a.gguf", **{name: True})
    SentencePieceFile().write(tmp_path / "b.gguf", **{name: False})


def test_a_space_in_front_of_byte_level_text_is_refused(tmp_path):
    with pytest.raises(ModelReferenceError, match=r"tokenizer\.ggml\.add_space_prefix"):
        byte_level_file(tmp_path / "a.gguf", "gpt-2", add_space_prefix=True)


def minimal(path, *, model="gpt2", tokens=("a", "b"), merges=("a b",), types=(1, 1)):
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tokenizer_model(model)
    writer.add_tokenizer_pre("gpt-2")
    for add, values in (
        (writer.add_token_list, tokens),
        (writer.add_token_merges, merges),
        (writer.add_token_types, types),
    ):
        if values:
            add(list(values))
    return finish(writer, path)


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        ({"model": "t5"}, r"'t5'.*\['gpt2', 'llama'\].*tokenizer\.json"),
        ({"tokens": ()}, r"tokenizer\.ggml\.tokens is missing"),
        ({"tokens": ("a", "a")}, "the token 'a' twice"),
        ({"model": "bert"}, "'bert'"),
        ({"model": "rwkv"}, "'rwkv'"),
        ({"tokens": (1, 2)}, r"tokenizer\.ggml\.tokens is not an array of str"),
        ({"types": (1, 1, 1)}, "differ in length"),
        ({"merges": ("a c",)}, "Cannot build the tokenizer"),
    ],
)
def test_a_vocabulary_that_does_not_fit_together_is_refused(tmp_path, damage, complaint):
    with pytest.raises(ModelReferenceError, match=complaint):
        minimal(tmp_path / "a.gguf", **damage)
