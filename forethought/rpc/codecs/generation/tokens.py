"""Tokens of answers and of prompts, to messages and back."""

from forethought.generation import PromptToken, Token, TopLogprob
from forethought.rpc.codecs.generation.names import ORIGIN_FROM_PROTO, ORIGIN_TO_PROTO, named
from forethought.v1 import generation_pb2 as pb


def token_to_proto(token: Token) -> pb.GeneratedToken:
    return pb.GeneratedToken(
        index=token.index,
        token_id=token.token_id,
        text=token.text,
        origin=ORIGIN_TO_PROTO[token.origin],
        draft_prob=token.draft_prob,
        target_prob=token.target_prob,
        logprob=token.logprob,
        top_logprobs=map(_top_to_proto, token.top_logprobs),
    )


def token_from_proto(message: pb.GeneratedToken) -> Token:
    return Token(
        index=message.index,
        token_id=message.token_id,
        text=message.text,
        origin=named(ORIGIN_FROM_PROTO, message.origin),
        draft_prob=message.draft_prob if message.HasField("draft_prob") else None,
        target_prob=message.target_prob,
        logprob=message.logprob if message.HasField("logprob") else None,
        top_logprobs=tuple(map(_top_from_proto, message.top_logprobs)),
    )


def prompt_token_to_proto(token: PromptToken) -> pb.PromptToken:
    return pb.PromptToken(
        index=token.index,
        token_id=token.token_id,
        text=token.text,
        logprob=token.logprob,
        top_logprobs=map(_top_to_proto, token.top_logprobs),
    )


def prompt_token_from_proto(message: pb.PromptToken) -> PromptToken:
    return PromptToken(
        message.index,
        message.token_id,
        message.text,
        message.logprob if message.HasField("logprob") else None,
        tuple(map(_top_from_proto, message.top_logprobs)),
    )


def _top_to_proto(top: TopLogprob) -> pb.TopLogprob:
    return pb.TopLogprob(token_id=top.token_id, text=top.text, logprob=top.logprob)


def _top_from_proto(message: pb.TopLogprob) -> TopLogprob:
    return TopLogprob(message.token_id, message.text, message.logprob)
