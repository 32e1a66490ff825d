"""From requests to answers: chat, completions, models and tokens."""

import time
from collections.abc import Sequence

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from forethought.generation import GenerationRequest
from gateway.openai import chat, completions, tokens
from gateway.openai.choices import Choice, collect, generate
from gateway.openai.models import ModelCard, ModelList, model_list
from gateway.openai.sampling import SamplingFields
from gateway.openai.stream import Answer, Chunk, Head
from gateway.reading import Endpoints
from gateway.web.errors import FieldName, naming
from gateway.web.operations import Body, Operation
from gateway.web.request_id import request_id_of
from gateway.web.responses import as_json
from gateway.web.streaming import EventStream, until_gone


class OpenAIRoutes(Endpoints):
    """Chat, completions, models and tokens."""

    def operations(self) -> list[Operation]:
        """All of them, as they are routed and described."""
        return [
            Operation(
                "POST",
                "/v1/chat/completions",
                self.chat,
                "Answer a conversation",
                Body(chat.ChatRequest, chat.OTHERS),
                Answer[chat.ChatChoice],
                Chunk[chat.ChatChunkChoice],
            ),
            Operation(
                "POST",
                "/v1/completions",
                self.complete,
                "Continue texts",
                Body(completions.CompletionRequest, completions.OTHERS),
                Answer[completions.CompletionChoice],
                Chunk[completions.CompletionChoice],
            ),
            Operation("GET", "/v1/models", self.models, "What is served", answer=ModelList),
            Operation(
                "GET",
                "/v1/models/{model:path}",
                self.model,
                "Whether a model is served",
                answer=ModelCard,
            ),
            Operation(
                "POST",
                "/tokenize",
                self.tokenize,
                "The tokens of a text or of a conversation",
                Body(tokens.TokenizeRequest, tokens.TOKENIZE_OTHERS),
                tokens.TokenizeAnswer,
            ),
            Operation(
                "POST",
                "/detokenize",
                self.detokenize,
                "The text of tokens",
                Body(tokens.DetokenizeRequest, tokens.DETOKENIZE_OTHERS),
                tokens.DetokenizeAnswer,
            ),
            Operation(
                "GET", "/tokenizer_info", self.tokenizer_info, "Special tokens and chat template"
            ),
        ]

    async def chat(self, request: Request) -> Response:
        """`POST /v1/chat/completions`."""
        body = await self._reader.read(request, chat.ChatRequest, chat.OTHERS)
        head = await self._head(request, body, "chatcmpl", chat.OBJECT)
        prompt: chat.Prompt = body.conversation
        ids = None
        if body.return_token_ids:
            with naming(body.name_of):
                prompt = ids = await self._client.tokenize(body.conversation)
        requests = body.requests(prompt, request_id_of(request))
        if body.stream:
            chunks = msgspec.structs.replace(head, object=f"{chat.OBJECT}.chunk")
            writer = chat.ChatWriter(chunks, body, ids)
            return EventStream(generate(self._client, requests), writer, body.name_of)
        choices = await self._collect(request, requests, body.name_of)
        return as_json(chat.completion(head, body, choices, ids))

    async def complete(self, request: Request) -> Response:
        """`POST /v1/completions`."""
        body = await self._reader.read(request, completions.CompletionRequest, completions.OTHERS)
        head = await self._head(request, body, "cmpl", completions.OBJECT)
        with naming(body.name_of):
            prompts, echo = await completions.look_at(self._client, body)
        requests = body.requests(prompts, request_id_of(request))
        if body.stream:
            writer = completions.CompletionWriter(head, body, echo)
            return EventStream(generate(self._client, requests), writer, body.name_of)
        choices = await self._collect(request, requests, body.name_of)
        return as_json(completions.completion(head, body, choices, echo))

    async def models(self, request: Request) -> Response:  # noqa: ARG002
        """`GET /v1/models`."""
        return as_json(await model_list(self._upstream))

    async def model(self, request: Request) -> Response:
        """`GET /v1/models/{model}`."""
        name = await self._upstream.name_of(request.path_params["model"])
        cards = (await model_list(self._upstream)).data
        return as_json(next(card for card in cards if card.id == name))

    async def tokenize(self, request: Request) -> Response:
        """`POST /tokenize`."""
        body = await self._reader.read(request, tokens.TokenizeRequest, tokens.TOKENIZE_OTHERS)
        info = await self._upstream.described()
        with naming(tokens.name_of):
            return as_json(await tokens.tokenize(self._client, body, info))

    async def detokenize(self, request: Request) -> Response:
        """`POST /detokenize`."""
        body = await self._reader.read(request, tokens.DetokenizeRequest, tokens.DETOKENIZE_OTHERS)
        with naming(tokens.name_of):
            return as_json(await tokens.detokenize(self._client, body))

    async def tokenizer_info(self, request: Request) -> Response:  # noqa: ARG002
        """`GET /tokenizer_info`."""
        return as_json(tokens.tokenizer_info(await self._upstream.described_to_caller()))

    async def _head(self, request: Request, body: SamplingFields, prefix: str, kind: str) -> Head:
        info = await self._upstream.described()
        return Head(
            id=f"{prefix}-{request_id_of(request)}",
            object=kind,
            created=int(time.time()),
            model=await self._upstream.name_of(body.model),
            system_fingerprint=f"fp_{info.target.model_fingerprint}",
        )

    async def _collect(
        self, request: Request, requests: Sequence[GenerationRequest], name_of: FieldName
    ) -> list[Choice]:
        with naming(name_of):
            return await until_gone(request.receive, collect(self._client, requests))
