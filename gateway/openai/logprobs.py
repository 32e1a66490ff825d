"""Log-probabilities in the shapes of chat and of completions."""

import msgspec

from forethought.generation import Token


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
    """Of a completion, or of a part of it; all lists are token by token."""

    text_offset: list[int]
    token_logprobs: list[float]
    tokens: list[str]
    top_logprobs: list[dict[str, float]]


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


def completion_logprobs(tokens: list[Token], offset: int) -> CompletionLogprobs:
    """Of tokens whose text begins `offset` characters behind the begin of the choice's text."""
    offsets = []
    for token in tokens:
        offsets.append(offset)
        offset += len(token.text)
    return CompletionLogprobs(
        offsets,
        [token.logprob or 0.0 for token in tokens],
        [token_text(token) for token in tokens],
        [{top.text: top.logprob for top in token.top_logprobs} for token in tokens],
    )


def token_text(token: Token) -> str:
    """The text of a token by itself where that is known, else what it adds to the answer."""
    own = (top.text for top in token.top_logprobs if top.token_id == token.token_id)
    return next(own, token.text)
