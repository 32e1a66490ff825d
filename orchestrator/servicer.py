"""GenerationService over gRPC."""

from collections.abc import Iterator
from contextlib import aclosing, contextmanager
from dataclasses import asdict
from functools import cache
from typing import Any

import grpc
import structlog

from forethought.errors import InvalidArgumentError, NoStoreError
from forethought.generation import (
    PREDICTION,
    ChatMessage,
    FollowUp,
    GenerationParams,
    Resume,
)
from forethought.observability import traces
from forethought.rpc.calls.call_log import note_call
from forethought.rpc.calls.key_guard import spend_tokens
from forethought.rpc.codecs.enums import MODE_TO_PROTO
from forethought.rpc.codecs.generation.events import response_to_proto
from forethought.rpc.codecs.generation.params import params_to_proto
from forethought.rpc.codecs.generation.request import conversation_from_proto, request_from_proto
from forethought.rpc.codecs.generation.sessions import content_to_proto, session_to_proto
from forethought.rpc.codecs.model_info import model_to_proto
from forethought.rpc.status import send_headers
from forethought.tier import OrchestratorLoad
from forethought.v1 import generation_pb2 as pb
from forethought.v1.generation_pb2_grpc import GenerationServiceServicer
from orchestrator.generator import Call, Generation, Tiers, told
from orchestrator.metrics.requests import RequestCounts, RequestTimer
from orchestrator.metrics.spans import facts_of_events, facts_of_plan, operation_of
from orchestrator.policy.choice import Experience
from orchestrator.policy.governor import Governor
from orchestrator.request.admission import Admission, AdmissionLimits, AdmittedRequest
from orchestrator.request.bounds import RequestBounds, work_bytes
from orchestrator.request.call_facts import facts_of, num_tokens_of
from orchestrator.request.plan import (
    MAX_REQUEST_ID_CHARS,
    MAX_TENANT_CHARS,
    Deployment,
    GenerationPlan,
    encode_prompt,
    plan_generation,
)
from orchestrator.request.text_pool import TextPool, TextQueue
from orchestrator.sessions.durable_sessions import ResumePoint, Sessions, unstored
from orchestrator.sessions.session_log import SessionLog

DEFAULT_PAGE_SIZE = 100
"""Sessions in a list that does not say how many."""

MAX_PAGE_TOKEN_CHARS = 128


class GenerationServicer(GenerationServiceServicer):
    """Serves one deployment.

    Args:
        deployment: what is served.
        tiers: where the steps are done.
        limits: of the requests under way.
        sessions: the store of sessions; None keeps none.
    """

    def __init__(
        self,
        deployment: Deployment,
        tiers: Tiers,
        limits: AdmissionLimits,
        sessions: Sessions | None = None,
    ) -> None:
        self.deployment = deployment
        """What is served."""
        self._sessions = sessions
        self._tiers = tiers
        self.admission = Admission(limits)
        """Who may generate."""
        self.requests = RequestCounts(deployment.target.max_model_len)
        """Of all that were let in."""
        self._bounds = RequestBounds(deployment.target.max_model_len)
        self.texts = TextPool()
        """Works on texts."""
        self.experience = Experience(
            Governor(
                deployment.default_num_speculative_tokens,
                deployment.target.pass_costs,
                drafts_are_free=tiers.draft is None,
            ),
            [PREDICTION, *(each.name for each in tiers.lookups)],
        )
        """What sessions have learned together."""

    def load(self) -> OrchestratorLoad:
        """What is under way, and what it asks of the draft tier."""
        demand = self.experience.demand
        return OrchestratorLoad(
            uptime_ns=demand.uptime_ns,
            num_requests=self.admission.num_requests,
            max_requests=self.admission.max_requests,
            num_rounds=demand.num_rounds,
            num_draft_tokens=demand.num_draft_tokens,
            draft_demand=demand.demand,
        )

    async def Generate(
        self, request: pb.GenerateRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> None:
        """Streams the continuation of a prompt."""
        # Each call runs in a task of its own, and so do the logs of its tiers' streams.
        if request.request_id:
            name = request.request_id[:MAX_REQUEST_ID_CHARS]
            structlog.contextvars.bind_contextvars(request_id=name)
        tenant = request.tenant[:MAX_TENANT_CHARS]
        note_call(tenant=tenant)
        with self.requests.request() as timer:
            async with self.admission.place(tenant) as admitted:
                await self._generate(request, context, admitted, timer)

    async def _generate(
        self,
        request: pb.GenerateRequest,
        context: grpc.aio.ServicerContext[Any, Any],
        admitted: AdmittedRequest,
        timer: RequestTimer,
    ) -> None:
        resume_point, log = await self._begin(request, self._queue(context, admitted.tenant))
        timer.planned(resume_point.plan.max_tokens)
        structlog.contextvars.bind_contextvars(session_id=resume_point.session_id)
        if traces.is_on():
            self._describe_span(request, resume_point)
        generation = Generation(
            resume_point,
            self.deployment,
            self._tiers,
            self.experience,
            Call(context.time_remaining(), wants_progress=request.include_progress),
        )
        interval_s = self._sessions.commit_interval_s if self._sessions is not None else 0.0
        await send_headers(context)
        try:
            async with aclosing(told(generation.progress(), log, interval_s)) as groups:
                async for events in groups:
                    note_call(**facts_of(events))
                    if traces.is_on():
                        traces.note_span(facts_of_events(events))
                    if events:
                        await admitted.deliver(context.write(response_to_proto(events)))
                        timer.take(events)
                        spend_tokens(num_tokens_of(events))
        finally:
            log.close()

    def _describe_span(self, request: pb.GenerateRequest, resume_point: ResumePoint) -> None:
        operation, model = operation_of(request.WhichOneof("prompt")), self.deployment.target.name
        asked = {"gen_ai.operation.name": operation, "gen_ai.request.model": model}
        asked |= facts_of_plan(resume_point.plan, resume_point.session_id)
        traces.note_span(asked, f"{operation} {model}")

    async def GetSession(
        self, request: pb.GetSessionRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.GetSessionResponse:
        """A session of the caller's tenant, with its tokens."""
        _note_session(request)
        return content_to_proto(
            await self._stored_sessions().get(_named(request.tenant), request.session_id)
        )

    async def ListSessions(
        self, request: pb.ListSessionsRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.ListSessionsResponse:
        """The sessions of a tenant, newest first, page by page."""
        note_call(tenant=request.tenant[:MAX_TENANT_CHARS])
        if len(request.page_token) > MAX_PAGE_TOKEN_CHARS:
            raise InvalidArgumentError({"page_token": "not one of ours"})
        found, next_page_token = await self._stored_sessions().list_page(
            _named(request.tenant), request.page_size or DEFAULT_PAGE_SIZE, request.page_token
        )
        return pb.ListSessionsResponse(
            sessions=map(session_to_proto, found), next_page_token=next_page_token
        )

    async def DeleteSession(
        self, request: pb.DeleteSessionRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.DeleteSessionResponse:
        """Forgets a session."""
        _note_session(request)
        await self._stored_sessions().delete(_named(request.tenant), request.session_id)
        return pb.DeleteSessionResponse()

    async def CancelSession(
        self, request: pb.CancelSessionRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.CancelSessionResponse:
        """Ends a session's turn where it is."""
        _note_session(request)
        session = await self._stored_sessions().cancel(_named(request.tenant), request.session_id)
        return pb.CancelSessionResponse(session=session_to_proto(session))

    async def Tokenize(
        self, request: pb.TokenizeRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.TokenizeResponse:
        """Text or a conversation to token ids."""
        with self._bounded():
            self._bounds.check_input(request)
        texts = self._queue(context)
        return await texts.run(work_bytes(request), lambda: self._tokenized(request))

    async def Detokenize(
        self, request: pb.DetokenizeRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.DetokenizeResponse:
        """Token ids to text."""
        with self._bounded():
            self._bounds.check_detokenize(request)
        texts = self._queue(context)
        return await texts.run(request.ByteSize(), lambda: self._detokenized(request))

    async def GetModelInfo(
        self,
        request: pb.GenerationServiceGetModelInfoRequest,
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> pb.GenerationServiceGetModelInfoResponse:
        """The deployment as clients see it."""
        return pb.GenerationServiceGetModelInfoResponse(
            target=model_to_proto(self.deployment.target),
            default_num_speculative_tokens=self.deployment.default_num_speculative_tokens,
            max_num_speculative_tokens=self.deployment.max_num_speculative_tokens,
            policy=self.deployment.policy.value,
            default_verification_mode=MODE_TO_PROTO[self.deployment.default_mode],
            has_chat_template=self.deployment.tokenizer.has_chat_template,
            special_tokens=self.deployment.tokenizer.special_tokens,
            chat_template=self.deployment.tokenizer.chat_template,
            lookups=[each.name for each in self._tiers.lookups],
            default_params=params_to_proto(GenerationParams(**asdict(self.deployment.defaults))),
        )

    async def _begin(
        self, message: pb.GenerateRequest, texts: TextQueue
    ) -> tuple[ResumePoint, SessionLog]:
        """What to generate, from where on, and where to write it down."""
        with self._bounded():
            self._bounds.check_prompt(message)
        kind = message.WhichOneof("prompt")
        if kind in {"resume", "follow_up"}:
            sessions = self._stored_sessions()
            request = request_from_proto(message)
            _named(request.tenant)
            if isinstance(request.prompt, Resume):
                return await sessions.resume(request.tenant, request.prompt, self.deployment)
            if isinstance(request.prompt, FollowUp):
                if request.params.prompt_logprobs is not None:
                    raise InvalidArgumentError(
                        {"params.prompt_logprobs": "is not for a turn that follows another"}
                    )
                return await sessions.follow_up(request, request.prompt, self.deployment, texts)
        plan = await texts.run(work_bytes(message), lambda: self._plan(message))
        # A prompt that is told has no place in a stored round.
        if self._sessions is None or plan.num_prompt_logprobs is not None:
            return unstored(plan)
        return self._sessions.begin(plan, self.deployment)

    @contextmanager
    def _bounded(self) -> Iterator[None]:
        """Refuses what is too large, and gives the memory back that it came in."""
        try:
            yield
        except InvalidArgumentError:
            self.texts.give_back_memory_soon()
            raise

    def _queue(self, context: grpc.aio.ServicerContext[Any, Any], tenant: str = "") -> TextQueue:
        """Where texts wait: with others of the tenant, or of the connection where none is named."""
        return self.texts.queue(f"tenant {tenant}" if tenant else f"peer {context.peer()}")

    def _stored_sessions(self) -> Sessions:
        if self._sessions is None:
            raise NoStoreError(
                "this orchestrator keeps no sessions: it was started without a store"
            )
        return self._sessions

    def _plan(self, request: pb.GenerateRequest) -> GenerationPlan:
        return plan_generation(request_from_proto(request), self.deployment)

    def _tokenized(self, request: pb.TokenizeRequest) -> pb.TokenizeResponse:
        prompt: str | tuple[ChatMessage, ...]
        match request.WhichOneof("input"):
            case "text":
                prompt = request.text
            case "conversation":
                prompt = conversation_from_proto(request.conversation)
            case _:
                raise InvalidArgumentError({"input": "must be text or a conversation"})
        token_ids = encode_prompt(
            prompt, self.deployment, omits_special_tokens=request.omits_special_tokens
        )
        token_text = cache(self.deployment.tokenizer.token_text)
        return pb.TokenizeResponse(token_ids=token_ids, texts=map(token_text, token_ids))

    def _detokenized(self, request: pb.DetokenizeRequest) -> pb.DetokenizeResponse:
        token_ids = request.token_ids
        vocab_size = self.deployment.target.vocab_size
        if token_ids and max(token_ids) >= vocab_size:
            raise InvalidArgumentError(
                {"token_ids": f"must be below the vocabulary's size of {vocab_size}"}
            )
        return pb.DetokenizeResponse(text=self.deployment.tokenizer.decode(token_ids))


def _note_session(
    request: pb.GetSessionRequest | pb.CancelSessionRequest | pb.DeleteSessionRequest,
) -> None:
    """For the log, no more of what the caller sent than names have characters."""
    note_call(
        tenant=request.tenant[:MAX_TENANT_CHARS],
        session_id=request.session_id[:MAX_REQUEST_ID_CHARS],
    )


def _named(tenant: str) -> str:
    """A tenant whose sessions are asked for.

    Raises:
        InvalidArgumentError: no tenant has such a name.
    """
    if len(tenant) > MAX_TENANT_CHARS:
        raise InvalidArgumentError({"tenant": f"must have at most {MAX_TENANT_CHARS} characters"})
    return tenant
