"""Tokenizers from GGUF metadata, for the two kinds that causal language models use.

"gpt2" is byte-level BPE: text is cut by a named pre-tokenizer, then merged by rank. "llama" is
SentencePiece BPE: nothing is cut, spaces become U+2581, and unknown characters fall back to byte
tokens. SentencePiece lists no merges: it joins the neighbours whose result scores best, so the
ways to cut each token in two, best score first, are its merges.

Each is built as the tokenizer.json of such models has it, which is what they were trained with;
src/llama-vocab.cpp in llama.cpp says what the metadata means and what a missing key stands for.
"""

from collections.abc import Collection
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, processors

from forethought.errors import ModelReferenceError
from forethought.models.chat.template import ChatTemplate
from forethought.models.text.end_tokens import FILE_ENDS, well_known_ends
from forethought.models.text.gguf_pretokenizer import pretokenizer_named
from forethought.models.text.gguf_vocabulary import GgufVocabulary, TokenType, read_gguf_vocabulary
from forethought.models.text.parts import TokenizerParts

_SPACE = "\u2581"
_JOINABLE = (TokenType.NORMAL, TokenType.USER_DEFINED, TokenType.UNUSED)
_ENDS = ("eos_token", "eot_token", "eom_token", "fim_pad_token", "fim_rep_token", "fim_sep_token")


def read_gguf_tokenizer(path: Path) -> TokenizerParts:
    """The tokenizer that the file describes. Raises ModelReferenceError."""
    vocabulary = read_gguf_vocabulary(path)
    builders = {"gpt2": _byte_level, "llama": _sentencepiece}
    builder = builders.get(vocabulary.model)
    if builder is None:
        raise ModelReferenceError(
            f"The tokenizer of {path} is of the kind {vocabulary.model!r}, which is not one of "
            f"{sorted(builders)}: use a folder with the model's tokenizer.json."
        )
    special = vocabulary.of_type(TokenType.CONTROL)
    ends = well_known_ends(vocabulary.tokens, special) | FILE_ENDS.intersection(vocabulary.tokens)
    try:
        backend = builder(vocabulary)
        _add_tokens(backend, vocabulary, ends)
        _add_bos_and_eos(backend, vocabulary)
    except Exception as error:
        # The Rust library raises bare exceptions for a vocabulary that does not fit together.
        raise ModelReferenceError(f"Cannot build the tokenizer of {path}: {error}") from error
    ids = vocabulary.special_token_ids
    names = {name: vocabulary.tokens[token_id] for name, token_id in ids.items()}
    template = vocabulary.chat_template
    end_ids = {ids[name] for name in _ENDS if name in ids} | set(map(backend.token_to_id, ends))
    return TokenizerParts(
        backend=backend,
        eos_token_ids=frozenset(token_id for token_id in end_ids if token_id is not None),
        chat_template=None if template is None else ChatTemplate(template, names),
        special_tokens=names,
    )


def _byte_level(vocabulary: GgufVocabulary) -> Tokenizer:
    if vocabulary.add_space_prefix:
        raise ValueError("tokenizer.ggml.add_space_prefix is set, which is not supported")
    pretokenizer = pretokenizer_named(vocabulary.pre)
    backend = Tokenizer(
        models.BPE(
            vocab=_token_ids(vocabulary),
            merges=[_halves(merge) for merge in vocabulary.merges],
            ignore_merges=pretokenizer.ignore_merges,
        )
    )
    if pretokenizer.compose:
        backend.normalizer = normalizers.NFC()
    backend.pre_tokenizer = pretokenizer.build()
    backend.decoder = decoders.ByteLevel()
    return backend


def _sentencepiece(vocabulary: GgufVocabulary) -> Tokenizer:
    """The space in front goes before every stretch of text between special tokens, as in the
    tokenizer.json of Llama 2 and in llama.cpp; transformers 5 puts it before the first only.
    """
    unknown = vocabulary.special_token_ids.get("unk_token")
    backend = Tokenizer(
        models.BPE(
            vocab=_token_ids(vocabulary),
            merges=_merges_by_score(vocabulary),
            unk_token=None if unknown is None else vocabulary.tokens[unknown],
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    normalize: list[normalizers.Normalizer] = [normalizers.Replace(" ", _SPACE)]
    decode = [decoders.Replace(_SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    if vocabulary.add_space_prefix is not False:
        normalize.insert(0, normalizers.Prepend(_SPACE))
        decode.append(decoders.Strip(" ", 1, 0))
    backend.normalizer = normalizers.Sequence(normalize)
    backend.decoder = decoders.Sequence(decode)
    return backend


def _token_ids(vocabulary: GgufVocabulary) -> dict[str, int]:
    """Without the names that converters invent for unused rows of the embedding matrix, so that
    a vocabulary is the same whether it comes from GGUF or from tokenizer.json.
    """
    return {
        token: token_id
        for token_id, (token, kind) in enumerate(
            zip(vocabulary.tokens, vocabulary.types, strict=True)
        )
        if not (kind == TokenType.UNUSED and token == f"[PAD{token_id}]")
    }


def _halves(merge: str) -> tuple[str, str]:
    left, _, right = merge.partition(" ")
    return left, right


def _merges_by_score(vocabulary: GgufVocabulary) -> list[tuple[str, str]]:
    """Best score first, then the longer left part, then the longer right part."""
    scored = zip(vocabulary.tokens, vocabulary.scores, vocabulary.types, strict=True)
    joinable = {token: score for token, score, kind in scored if kind in _JOINABLE}
    merges = [
        (score, token[:cut], token[cut:])
        for token, score in joinable.items()
        for cut in range(1, len(token))
        if token[:cut] in joinable and token[cut:] in joinable
    ]
    merges.sort(key=lambda merge: (merge[0], len(merge[1]), len(merge[2])), reverse=True)
    return [(left, right) for _score, left, right in merges]


def _add_tokens(backend: Tokenizer, vocabulary: GgufVocabulary, ends: Collection[str]) -> None:
    """Tokens that are looked for in the text as they are, before it is cut. Ends of an answer are
    special whatever their type says."""
    special = {*vocabulary.of_type(TokenType.CONTROL, TokenType.UNKNOWN), *ends}
    plain = [token for token in vocabulary.of_type(TokenType.USER_DEFINED) if token not in special]
    backend.add_special_tokens([AddedToken(t, normalized=False, special=True) for t in special])
    backend.add_tokens([AddedToken(t, normalized=False, special=False) for t in plain])


def _add_bos_and_eos(backend: Tokenizer, vocabulary: GgufVocabulary) -> None:
    """Around a text that is no rendered chat."""
    add_bos = vocabulary.add_bos
    if add_bos is None:
        add_bos = vocabulary.model == "llama" or pretokenizer_named(vocabulary.pre).add_bos
    bos = _around(vocabulary, "bos", is_wanted=add_bos, is_stated=vocabulary.add_bos is not None)
    eos = _around(vocabulary, "eos", is_wanted=vocabulary.add_eos, is_stated=True)
    if bos or eos:
        ids = vocabulary.special_token_ids
        backend.post_processor = processors.TemplateProcessing(
            single=[*bos, "$A", *eos],
            special_tokens=[(token, ids["bos_token"]) for token in bos]
            + [(token, ids["eos_token"]) for token in eos],
        )


def _around(
    vocabulary: GgufVocabulary, name: str, *, is_wanted: bool, is_stated: bool
) -> list[str]:
    """The token to add, or none."""
    token_id = vocabulary.special_token_ids.get(f"{name}_token")
    if not is_wanted or (token_id is None and not is_stated):
        return []
    if token_id is None:
        raise ValueError(
            f"tokenizer.ggml.add_{name}_token is set, and tokenizer.ggml.{name}_token_id is not"
        )
    return [vocabulary.tokens[token_id]]
