"""`/tokenize`, `/detokenize` and `/tokenizer_info`."""

from typing import Any

import msgspec

from forethought.client import GenerationClient
from forethought.generation import ChatMessage, DeploymentInfo
from gateway.openai.messages import Message
from gateway.web.body import OtherFields, RequestBody
from gateway.web.errors import invalid

TOKENIZE_OTHERS = OtherFields(
    fixed={
        "add_generation_prompt": (True,),
        "chat_template": (),
        "chat_template_kwargs": ({},),
        "continue_final_message": (False,),
        "tools": ([],),
    }
)
DETOKENIZE_OTHERS = OtherFields()
_NAMES = {"text": "prompt", "prompt.text": "prompt", "token_ids": "tokens"}


class TokenizeRequest(RequestBody, frozen=True, kw_only=True):
    """A text or a conversation."""

    prompt: str | None = None
    messages: list[Message] | None = None
    add_special_tokens: bool | None = None
    return_token_strs: bool = False

    def check(self) -> None:
        if (self.prompt is None) == (self.messages is None):
            raise invalid("prompt", "give either a prompt or messages")
        if self.messages is not None and self.add_special_tokens:
            raise invalid("add_special_tokens", "the chat template adds them: leave it out")


class TokenizeAnswer(msgspec.Struct, frozen=True):
    """Its tokens."""

    count: int
    max_model_len: int
    tokens: list[int]
    token_strs: list[str] | None


class DetokenizeRequest(RequestBody, frozen=True, kw_only=True):
    """Token ids."""

    tokens: list[int]

    def check(self) -> None:
        if any(not 0 <= each < 2**32 for each in self.tokens):
            raise invalid("tokens", "must be token ids")


class DetokenizeAnswer(msgspec.Struct, frozen=True):
    """Their text, without special tokens."""

    prompt: str


def name_of(field: str) -> str:
    """What the routes call a field of the service."""
    if field.startswith(("conversation", "prompt.conversation")):
        return "messages"
    return _NAMES.get(field, field)


async def tokenize(
    client: GenerationClient, body: TokenizeRequest, info: DeploymentInfo
) -> TokenizeAnswer:
    """Raises ForethoughtError."""
    text: str | list[ChatMessage] = body.prompt or ""
    if body.messages is not None:
        text = [each.as_value() for each in body.messages]
    found = await client.tokenize_with_texts(
        text, omits_special_tokens=body.add_special_tokens is False
    )
    return TokenizeAnswer(
        len(found.token_ids),
        info.target.max_model_len,
        list(found.token_ids),
        list(found.texts) if body.return_token_strs else None,
    )


async def detokenize(client: GenerationClient, body: DetokenizeRequest) -> DetokenizeAnswer:
    """Raises ForethoughtError."""
    return DetokenizeAnswer(await client.detokenize(body.tokens))


def tokenizer_info(info: DeploymentInfo) -> dict[str, Any]:
    """What clients need that count tokens by themselves: special tokens and the chat template."""
    return {
        **info.special_tokens,
        "chat_template": info.chat_template or None,
        "model_max_length": info.target.max_model_len,
    }
