"""Text to token ids and back, the same for every model format.

Tokenizers run in the orchestrator, so this stands on the `tokenizers` library alone. Transformers'
loader would bring torch with it.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path

from forethought.errors import InvalidArgumentError, ModelReferenceError
from forethought.models.chat.template import CONVERSATION_FIELD, Message
from forethought.models.files.fingerprint import vocabulary_fingerprint
from forethought.models.files.reference import ModelFiles
from forethought.models.text.folder_tokenizer import read_folder_tokenizer
from forethought.models.text.gguf_tokenizer import read_gguf_tokenizer
from forethought.models.text.panics import PanicError, panics_as_errors
from forethought.models.text.parts import TokenizerParts
from forethought.models.text.text_length import TextLengths, text_lengths
from forethought.models.text.token_order import merge_order
from forethought.models.text.token_texts import TokenTexts, token_texts

_MAX_ID = 2**32 - 1

_TRIED_TEXT = "It is 1."

_LONG = 1000
"""Token ids from which on decoding takes long enough to matter to other threads."""


def load_tokenizer(files: ModelFiles) -> "TextTokenizer":
    """The tokenizer of a resolved model. Raises ModelReferenceError."""
    return TextTokenizer(files.reference, read_parts(files))


def read_parts(files: ModelFiles) -> TokenizerParts:
    """What the tokenizer of a resolved model is made of. Raises ModelReferenceError."""
    if files.gguf is not None:
        parts = read_gguf_tokenizer(files.gguf)
    else:
        parts = read_folder_tokenizer(files.folder)
    try:
        with panics_as_errors():
            parts.backend.decode(parts.backend.encode(_TRIED_TEXT).ids)
    except PanicError as error:  # it would on every text
        raise ModelReferenceError(
            f"The tokenizer of {files.reference} cannot be used: {error}"
        ) from error
    except Exception:  # noqa: BLE001, S110 - may be that of the vocabulary with this text
        pass
    return parts


def untokenizable(why: str) -> InvalidArgumentError:
    """What is said of a text on which the library fails."""
    return InvalidArgumentError({"prompt": f"the model's tokenizer fails on it: {why}"})


class TextTokenizer:
    """A model's tokenizer and chat template. Immutable, and safe to share between threads."""

    def __init__(self, name: str, parts: TokenizerParts) -> None:
        self.name = name
        """The reference that it was loaded from."""
        self.eos_token_ids = parts.eos_token_ids
        """Tokens that end an answer; may be empty."""
        self.special_tokens = parts.special_tokens
        """By the names that chat templates have for them, such as eos_token."""
        self._backend = parts.backend
        self._chat_template = parts.chat_template

    def save(self, path: Path) -> None:
        """Writes tokenizer.json, whatever format it was read from. It holds no chat template, and
        not which tokens end an answer."""
        self._backend.save(str(path))

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        """Token ids of `text`; special tokens written out in it become their ids.

        `add_special_tokens` adds what the model expects around a text, such as a
        beginning-of-sequence token. Pass False for rendered chats, which hold it already.
        Raises InvalidArgumentError where the library fails on the text.
        """
        # The library lets other threads run during calls for batches only, and the fast one leaves
        # out the offsets, which nobody asks for.
        try:
            with panics_as_errors():
                [encoding] = self._backend.encode_batch_fast(
                    [text], add_special_tokens=add_special_tokens
                )
        except Exception as error:
            raise untokenizable(str(error)) from error
        return encoding.ids

    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        """The text of the ids; bytes that are no UTF-8 become U+FFFD, unknown ids nothing."""
        if len(token_ids) >= _LONG:
            # As in `encode`.
            batch = [list(token_ids)]
            return self._backend.decode_batch(batch, skip_special_tokens=skip_special_tokens)[0]
        return self._backend.decode(token_ids, skip_special_tokens=skip_special_tokens)

    def token_text(self, token_id: int) -> str:
        """One token on its own, for showing: special tokens by name, unknown ids as `<id>`."""
        if not self._is_known(token_id):
            return f"<{token_id}>"
        if token_id in self._special_ids:
            return str(self._backend.id_to_token(token_id))
        # Some decoders drop the space that begins a text: the second of two keeps it.
        once, twice = self.decode([token_id]), self.decode([token_id, token_id])
        return twice.removeprefix(once) if twice.startswith(once) else once

    def has_text(self, token_id: int) -> bool:
        """Whether `decode` shows the token: special and unknown ones it does not."""
        return token_id not in self._special_ids and self._is_known(token_id)

    @cached_property
    def vocab_size(self) -> int:
        """The largest id + 1. The model's logits may be wider."""
        return max(self._backend.get_vocab().values(), default=-1) + 1

    def min_num_tokens(self, text: str) -> int:
        """Tokens that `text` makes at least, told from its length; 0 where that tells nothing."""
        return 0 if self._text_lengths is None else self._text_lengths.min_num_tokens(text)

    @cached_property
    def fingerprint(self) -> str:
        """Equal for tokenizers whose ids mean the same tokens; 32 hex digits."""
        tokens = [""] * self.vocab_size
        for token, token_id in self._backend.get_vocab().items():
            tokens[token_id] = token
        return vocabulary_fingerprint(tokens)

    @cached_property
    def token_texts(self) -> TokenTexts | None:
        """The bytes that each token stands for; None where they cannot be told."""
        return token_texts(self._backend)

    def merge_order(self) -> list[int]:
        """All tokens, those first that training the tokenizer found most frequent."""
        return merge_order(self._backend)

    @property
    def has_chat_template(self) -> bool:
        return self._chat_template is not None

    @property
    def chat_template(self) -> str:
        """A program in Jinja; empty where the model has none."""
        return "" if self._chat_template is None else self._chat_template.source

    def render_chat(self, messages: Iterable[Message]) -> str:
        """The prompt for (role, content) messages, up to where the answer begins.

        Encode it without adding special tokens. Raises InvalidArgumentError when the model has
        no chat template, or the template refuses the messages.
        """
        if self._chat_template is None:
            raise InvalidArgumentError(
                {CONVERSATION_FIELD: f"model {self.name!r} has no chat template: send text instead"}
            )
        return self._chat_template.render(list(messages))

    @cached_property
    def _text_lengths(self) -> TextLengths | None:
        return text_lengths(self._backend)

    @cached_property
    def special_token_ids(self) -> Mapping[str, int]:
        """The tokens that are no text, such as the ends of turns, by their names."""
        added = self._backend.get_added_tokens_decoder()
        return {token.content: token_id for token_id, token in added.items() if token.special}

    @cached_property
    def _special_ids(self) -> frozenset[int]:
        return frozenset(self.special_token_ids.values())

    def _is_known(self, token_id: int) -> bool:
        return 0 <= token_id <= _MAX_ID and self._backend.id_to_token(token_id) is not None
