"""The calls that are answered straight from what a service holds, field by field."""

from dataclasses import replace

import pytest

from forethought.generation import ChatMessage, GenerationParams, GenerationRequest
from forethought.rpc.codecs.load import load_from_proto, work_from_proto
from forethought.rpc.codecs.model_info import model_from_proto
from forethought.rpc.codecs.scaling import orchestrator_load_from_proto
from forethought.rpc.connections.channels import open_channel
from forethought.tier import TierLoad
from forethought.v1 import draft_pb2, generation_pb2, scaling_pb2, target_pb2
from forethought.v1.generation_pb2_grpc import GenerationServiceStub
from forethought.v1.scaling_pb2_grpc import ScalingServiceStub
from tests.stack import LoadedModel, generate, running_stack
from tests.tiny import CHAT_TEMPLATE, EOS, EOS_ID


@pytest.fixture
async def stack(tiny_target: LoadedModel, tiny_draft: LoadedModel):
    async with running_stack(tiny_target, tiny_draft.proposer()) as stack:
        yield stack


async def test_every_service_says_what_it_serves(stack, tiny_target, tiny_draft):
    draft = await stack.draft_stub.GetModelInfo(draft_pb2.DraftServiceGetModelInfoRequest())
    assert model_from_proto(draft.model) == replace(tiny_draft.info, hidden_size=0)
    assert draft.proposer == "model"
    assert load_from_proto(draft.load) == TierLoad(0, 0, 0)

    target = await stack.target_stub.GetModelInfo(target_pb2.TargetServiceGetModelInfoRequest())
    assert model_from_proto(target.model) == tiny_target.info
    assert load_from_proto(target.load) == TierLoad(0, 0, 0)

    async with open_channel(stack.address) as channel:
        deployment = await GenerationServiceStub(channel).GetModelInfo(
            generation_pb2.GenerationServiceGetModelInfoRequest()
        )
    assert model_from_proto(deployment.target) == tiny_target.info
    assert deployment.default_num_speculative_tokens == 3
    assert deployment.max_num_speculative_tokens == 8
    assert deployment.has_chat_template
    assert deployment.default_params.temperature == deployment.default_params.top_p == 1
    assert deployment.default_params.HasField("top_k")
    assert deployment.special_tokens["eos_token"] == EOS
    assert deployment.chat_template == CHAT_TEMPLATE
    described = await stack.client.describe()
    assert (described.target, described.num_speculative_tokens) == (tiny_target.info, 3)
    assert described.special_tokens == deployment.special_tokens


async def test_every_service_says_what_it_has_done(stack):
    request = GenerationRequest([3, 4], GenerationParams(max_tokens=8, temperature=0.0))
    answer = await generate(stack.client, request)
    draft = await stack.draft_stub.GetModelInfo(draft_pb2.DraftServiceGetModelInfoRequest())
    target = await stack.target_stub.GetModelInfo(target_pb2.TargetServiceGetModelInfoRequest())
    async with open_channel(stack.address) as channel:
        message = await ScalingServiceStub(channel).GetLoad(scaling_pb2.GetLoadRequest())

    for work in map(work_from_proto, (draft.work, target.work)):
        assert 0 < work.busy_ns < work.uptime_ns
        assert work.num_computed_tokens >= answer.finished.num_output_tokens
        assert work.num_blocks > 0 == work.num_refused_sessions
    load = orchestrator_load_from_proto(message)
    statistics = answer.finished.speculation
    assert load.num_rounds == statistics.num_rounds - 1  # the first one has the prompt
    assert load.num_draft_tokens == statistics.num_draft_tokens
    assert (load.num_requests, load.max_requests) == (0, 64)
    assert 0 < load.draft_demand.wanted_ns < load.uptime_ns


async def test_text_and_conversations_become_tokens_and_tokens_text(stack):
    assert await stack.client.tokenize("ab") == [3, 4]
    assert await stack.client.tokenize([ChatMessage("user", "ab")]) == [3, 4, EOS_ID]
    assert await stack.client.detokenize([3, EOS_ID, 4]) == "ab"


async def test_tokens_come_with_their_texts(stack):
    async with open_channel(stack.address) as channel:
        answer = await GenerationServiceStub(channel).Tokenize(
            generation_pb2.TokenizeRequest(text="ab</s>")
        )
    assert list(answer.token_ids) == [3, 4, EOS_ID]
    assert list(answer.texts) == ["a", "b", "</s>"]
