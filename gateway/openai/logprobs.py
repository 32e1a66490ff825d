"""Log-probabilities in the shapes of chat and of completions."""

from collections.abc import Iterable, Iterator
from typing import TypeVar

import msgspec

from forethought.generation import PromptToken, Token

TextToken = TypeVar("TextToken", PromptToken, Token)


class TopLogprob(msgspec.Struct, frozen=True):
    """One of the most likely tokens at a place."""

    token: str
    logprob: float
    bytes: list[int]


class TokenLogprob(msgspec.Struct, frozen=True):
    """A token of the answer."""

    token: str
    logprob: float
    bytes: list[int]
    top_logprobs: list[TopLogprob]


class ChatLogprobs(msgspec.Struct, frozen=True):
    """Of an answer, or of a part of it."""

    content: list[TokenLogprob]
    refusal: None = None


class CompletionLogprobs(msgspec.Struct, frozen=True):
    """Of a completion, or of a part of it; all lists are token by token. The first token of a
    prompt has none."""

    text_offset: list[int]
    token_logprobs: list[float | None]
    tokens: list[str]
    top_logprobs: list[dict[str, float] | None]


class PromptLogprob(msgspec.Struct, frozen=True):
    """A token at a place of the prompt, in vLLM's words."""

    logprob: float
    rank: int | None  # 1 is the most likely; None where that is not known
    decoded_token: str


PromptLogprobs = list[dict[str, PromptLogprob] | None]
"""Of each place of a prompt, by token id: its own token first, then the most likely ones."""


def chat_logprobs(tokens: list[Token]) -> ChatLogprobs:
    """Of tokens that were asked for with log-probabilities."""
    return ChatLogprobs(
        [
            TokenLogprob(
                text := token_text(token),
                token.logprob or 0.0,
                list(text.encode()),
                [
                    TopLogprob(top.text, top.logprob, list(top.text.encode()))
                    for top in token.top_logprobs
                ],
            )
            for token in tokens
        ]
    )


def placed(tokens: Iterable[TextToken], offset: int) -> Iterator[tuple[int, TextToken]]:
    """Tokens with the place in the text where each begins, the first at `offset` characters."""
    for token in tokens:
        yield offset, token
        offset += len(token.text)


def completion_logprobs(
    tokens: Iterable[tuple[int, PromptToken | Token]], num_top: int
) -> CompletionLogprobs:
    """Of tokens with their places, and of so many most likely ones at each."""
    told = CompletionLogprobs([], [], [], [])
    for offset, token in tokens:
        text, logprob = token_text(token), token.logprob
        told.text_offset.append(offset)
        told.tokens.append(text)
        told.token_logprobs.append(None if logprob is None else finite(logprob))
        if logprob is None:
            told.top_logprobs.append(None)
            continue
        top: dict[str, float] = {}
        for each in token.top_logprobs[:num_top]:
            top.setdefault(each.text, finite(each.logprob))  # of one text the most likely token
        top.setdefault(text, finite(logprob))
        told.top_logprobs.append(top)
    return told


def prompt_logprobs(tokens: Iterable[PromptToken], num_top: int) -> PromptLogprobs:
    """Of the tokens of a prompt, and of so many most likely ones at each place."""
    told: PromptLogprobs = []
    for token in tokens:
        if token.logprob is None:
            told.append(None)
            continue
        ranks = {each.token_id: rank for rank, each in enumerate(token.top_logprobs, 1)}
        own = PromptLogprob(finite(token.logprob), ranks.get(token.token_id), token_text(token))
        places = {str(token.token_id): own}
        for rank, each in enumerate(token.top_logprobs[:num_top], 1):
            entry = PromptLogprob(finite(each.logprob), rank, each.text)
            places.setdefault(str(each.token_id), entry)
        told.append(places)
    return told


def finite(logprob: float) -> float:
    """As JSON has it, which knows no infinity: of a token that is impossible vLLM says this."""
    return max(logprob, -9999.0)


def token_text(token: PromptToken | Token) -> str:
    """The text of a token by itself where that is known, else what it adds to the text."""
    own = (top.text for top in token.top_logprobs if top.token_id == token.token_id)
    return next(own, token.text)
