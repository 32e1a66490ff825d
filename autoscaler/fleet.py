"""Asks every orchestrator and every replica of the tiers what it does."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import grpc
import structlog

from autoscaler.answers import Answers, TierAnswer
from forethought.errors import ForethoughtError
from forethought.rpc.codecs.load import load_from_proto, work_from_proto
from forethought.rpc.codecs.model_info import model_from_proto
from forethought.rpc.codecs.scaling import orchestrator_load_from_proto
from forethought.rpc.connections.channels import open_channel
from forethought.rpc.connections.name_resolution import NameResolver, server_name
from forethought.rpc.security.tls import ChannelCredentials
from forethought.rpc.status import error_from_rpc
from forethought.tier import OrchestratorLoad
from forethought.v1.draft_pb2 import DraftServiceGetModelInfoRequest
from forethought.v1.draft_pb2_grpc import DraftServiceStub
from forethought.v1.scaling_pb2 import GetLoadRequest
from forethought.v1.scaling_pb2_grpc import ScalingServiceStub
from forethought.v1.target_pb2 import TargetServiceGetModelInfoRequest
from forethought.v1.target_pb2_grpc import TargetServiceStub

_log = structlog.get_logger(__name__)

AnswerT = TypeVar("AnswerT")


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """Addresses of each tier; a DNS name stands for all of its records."""

    orchestrators: Sequence[str]
    targets: Sequence[str]
    drafts: Sequence[str]


class Fleet:
    """All processes of a deployment.

    Args:
        where: they are.
        timeout_s: for an answer.
        credentials: for TLS; None speaks plain text.
    """

    def __init__(
        self,
        where: Whereabouts,
        timeout_s: float,
        credentials: ChannelCredentials | None = None,
    ) -> None:
        self._orchestrators = _Tier(where.orchestrators, _ask_orchestrator, timeout_s, credentials)
        self._targets = _Tier(where.targets, _ask_target, timeout_s, credentials)
        self._drafts = _Tier(where.drafts, _ask_draft, timeout_s, credentials)

    async def ask(self) -> Answers:
        """What they say who answer. Who loads, drains or hangs does not."""
        orchestrators, targets, drafts = await asyncio.gather(
            self._orchestrators.ask(), self._targets.ask(), self._drafts.ask()
        )
        return Answers(targets, drafts, orchestrators)

    async def close(self) -> None:
        """Ends all connections."""
        for tier in (self._orchestrators, self._targets, self._drafts):
            await tier.close()


class _Tier(Generic[AnswerT]):
    """Connections to all that an address or a name stands for."""

    def __init__(
        self,
        addresses: Sequence[str],
        ask: Callable[[grpc.aio.Channel, float], Awaitable[AnswerT]],
        timeout_s: float,
        credentials: ChannelCredentials | None,
    ) -> None:
        self._names = NameResolver(addresses)
        self._ask = ask
        self._timeout_s = timeout_s
        self._credentials = credentials
        self._channels: dict[str, grpc.aio.Channel] = {}

    async def ask(self) -> Mapping[str, AnswerT]:
        known = await self._names.look()
        for address in self._channels.keys() - known.keys():
            await self._channels.pop(address).close()
        for address in sorted(known.keys() - self._channels.keys()):
            self._channels[address] = open_channel(
                address,
                credentials=self._credentials,
                server_name=server_name(address, known[address]),
            )
        answers = await asyncio.gather(*map(self._ask_one, self._channels))
        return {
            address: answer
            for address, answer in zip(self._channels, answers, strict=True)
            if answer is not None
        }

    async def close(self) -> None:
        self._names.close()
        for channel in self._channels.values():
            await channel.close()

    async def _ask_one(self, address: str) -> AnswerT | None:
        try:
            return await self._ask(self._channels[address], self._timeout_s)
        except grpc.aio.AioRpcError as error:
            _log.debug("not_answered", address=address, why=error_from_rpc(error).message)
        except ForethoughtError as error:
            _log.debug("not_answered", address=address, why=error.message)
        return None


async def _ask_orchestrator(channel: grpc.aio.Channel, timeout_s: float) -> OrchestratorLoad:
    message = await ScalingServiceStub(channel).GetLoad(GetLoadRequest(), timeout=timeout_s)
    return orchestrator_load_from_proto(message)


async def _ask_target(channel: grpc.aio.Channel, timeout_s: float) -> TierAnswer:
    request = TargetServiceGetModelInfoRequest()
    return _tier_answer(await TargetServiceStub(channel).GetModelInfo(request, timeout=timeout_s))


async def _ask_draft(channel: grpc.aio.Channel, timeout_s: float) -> TierAnswer:
    request = DraftServiceGetModelInfoRequest()
    return _tier_answer(await DraftServiceStub(channel).GetModelInfo(request, timeout=timeout_s))


def _tier_answer(message: Any) -> TierAnswer:
    return TierAnswer(
        load_from_proto(message.load),
        work_from_proto(message.work),
        model_from_proto(message.model).pass_costs,
    )
