"""The external scaler, asked by a client that is made of KEDA's interface, over TLS."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

import grpc
import pytest

from autoscaler.board import Board
from autoscaler.decider import Decision, Tier
from autoscaler.keda import externalscaler_pb2 as pb
from autoscaler.keda.externalscaler_pb2_grpc import (
    ExternalScalerStub,
    add_ExternalScalerServicer_to_server,
)
from autoscaler.needs import Need
from autoscaler.servicer import KedaServicer
from forethought.rpc.connections.channels import open_channel
from forethought.rpc.security.tls import channel_credentials
from forethought.rpc.serving.server import Server
from forethought.rpc.serving.server_options import ServerOptions
from tests.certificates import Authority, mutual

pytestmark = pytest.mark.parametrize("tier", ["target", "draft"])


@dataclass
class Keda:
    """What a ScaledObject with this scaler calls."""

    stub: ExternalScalerStub
    board: Board
    now_s: float = 0.0

    def decide(self, tier: str, replicas: int) -> None:
        need = Need(float(replicas), "a test")
        self.board.put({Tier(tier): Decision(need, 1, replicas, is_settled=True)})


def of_tier(tier: str) -> pb.ScaledObjectRef:
    """KEDA passes on all that the trigger says."""
    metadata = {"scalerAddress": "forethought-autoscaler:50053", "tier": tier}
    return pb.ScaledObjectRef(name=tier, namespace="speculation", scalerMetadata=metadata)


async def value(keda: Keda, tier: str) -> pb.MetricValue:
    """As KEDA comes to the metric of its HorizontalPodAutoscaler."""
    spec = (await keda.stub.GetMetricSpec(of_tier(tier))).metricSpecs[0]
    request = pb.GetMetricsRequest(scaledObjectRef=of_tier(tier), metricName=spec.metricName)
    answer = (await keda.stub.GetMetrics(request)).metricValues
    assert [each.metricName for each in answer] == [spec.metricName]
    assert spec.targetSizeFloat == 1
    return answer[0]


@pytest.fixture
async def keda(tmp_path) -> AsyncIterator[Keda]:
    security = mutual(Authority(tmp_path))
    board = Board(30.0, lambda: keda.now_s)
    keda = Keda(stub=None, board=board)
    server = Server(ServerOptions("127.0.0.1:0", (), 0.1, tls=security.server))
    await server.start()

    async def load(services) -> None:
        add_ExternalScalerServicer_to_server(KedaServicer(board), services)

    await server.load(load)
    channel = open_channel(
        f"127.0.0.1:{server.port}", credentials=channel_credentials(security.client)
    )
    async with channel:
        keda.stub = ExternalScalerStub(channel)
        yield keda
    await server.drain()


async def test_the_metric_is_the_number_of_replicas(keda, tier):
    keda.decide(tier, 3)
    assert (await value(keda, tier)).metricValueFloat == 3.0
    assert (await value(keda, tier)).metricValue == 3
    assert (await keda.stub.IsActive(of_tier(tier))).result


async def test_a_tier_that_needs_no_replica_is_not_active_and_has_a_metric(keda, tier):
    keda.decide(tier, 0)
    assert not (await keda.stub.IsActive(of_tier(tier))).result
    assert (await value(keda, tier)).metricValueFloat == 0.0


async def test_activity_is_pushed_when_it_changes(keda, tier):
    keda.decide(tier, 0)
    stream = keda.stub.StreamIsActive(of_tier(tier))
    assert not (await stream.read()).result
    for replicas in (1, 2, 0):
        keda.decide(tier, replicas)
        if replicas != 2:  # still active
            assert (await stream.read()).result == (replicas > 0)
    stream.cancel()


async def test_what_is_not_known_is_an_error_for_which_keda_has_a_fallback(keda, tier):
    with pytest.raises(grpc.aio.AioRpcError, match=f"not known what the {tier} tier needs") as told:
        await value(keda, tier)
    assert told.value.code() is grpc.StatusCode.UNAVAILABLE
    keda.decide(tier, 2)
    keda.now_s += 31
    with pytest.raises(grpc.aio.AioRpcError, match="have answered for 30 s"):
        await keda.stub.IsActive(of_tier(tier))


async def test_there_is_a_metric_before_anything_is_known(keda, tier):
    assert (await keda.stub.GetMetricSpec(of_tier(tier))).metricSpecs


async def test_a_tier_that_there_is_not_is_named(keda, tier):
    with pytest.raises(grpc.aio.AioRpcError, match="must be one of target, draft") as told:
        await keda.stub.GetMetricSpec(of_tier(tier + "s"))
    assert told.value.code() is grpc.StatusCode.INVALID_ARGUMENT
