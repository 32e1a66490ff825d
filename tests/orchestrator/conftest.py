"""A byte-level tokenizer in small, and a whole deployment whose draft is the target itself."""

from collections.abc import AsyncIterator

import pytest
from gguf.vocab import bytes_to_unicode
from tokenizers import AddedToken, Tokenizer, decoders, models

from forethought.models.text.parts import TokenizerParts
from forethought.models.text.tokenizer import TextTokenizer
from tests.stack import LoadedModel, Stack, running_stack

WORDS = [" stop", "ab", "abc", "世", "世界", " \n", "x\n"]
BYTE_EOS_ID = 256 + len(WORDS)


@pytest.fixture(scope="session")
def byte_tokenizer() -> TextTokenizer:
    """Ids 0 to 255 are bytes, then some words, then the end token."""
    shown = bytes_to_unicode()
    tokens = [shown[byte] for byte in range(256)]
    tokens += ["".join(shown[byte] for byte in word.encode()) for word in WORDS]
    vocabulary = {token: token_id for token_id, token in enumerate(tokens)}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken("</s>", special=True)])
    return TextTokenizer("bytes", TokenizerParts(backend, frozenset({BYTE_EOS_ID}), None))


@pytest.fixture
async def self_drafting(tiny_target: LoadedModel) -> AsyncIterator[Stack]:
    """The target drafts for itself with all of its distribution, so every guess is accepted."""
    async with running_stack(tiny_target, tiny_target.proposer(max_support=12)) as stack:
        yield stack


@pytest.fixture
async def badly_drafting(tiny_target: LoadedModel, tiny_draft: LoadedModel) -> AsyncIterator[Stack]:
    """A draft of other weights, cut to 4 tokens: some guesses are accepted and some are not."""
    async with running_stack(tiny_target, tiny_draft.proposer(max_support=4)) as stack:
        yield stack
