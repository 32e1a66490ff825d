"""`python -m autoscaler`: runs the autoscaler until SIGTERM."""

import signal

from forethought.extras import require

if __name__ == "__main__":  # an interrupt amid the imports ends the process without a word
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    require("service")

import asyncio
import socket
import time
from collections.abc import Iterable
from contextlib import AsyncExitStack
from uuid import uuid4

from autoscaler.board import Board
from autoscaler.cluster import open_api_client, own_namespace
from autoscaler.decider import Decider
from autoscaler.deployments import Deployments
from autoscaler.fleet import Fleet, Whereabouts
from autoscaler.keda.externalscaler_pb2 import DESCRIPTOR
from autoscaler.keda.externalscaler_pb2_grpc import add_ExternalScalerServicer_to_server
from autoscaler.leader import Candidate, Leadership
from autoscaler.readings import read_decisions
from autoscaler.servicer import KedaServicer
from autoscaler.settings import AutoscalerSettings
from forethought.observability.series import Reading, Source
from forethought.rpc.security.tls import channel_credentials, client_tls
from forethought.rpc.serving.server import LateServices, run_process, run_server
from forethought.rpc.serving.server_options import server_options
from forethought.runtime.supervision import keep_running

SERVICE_NAME = DESCRIPTOR.services_by_name["ExternalScaler"].full_name

_ANSWER_S = 2.0
"""That a process has for its answer."""
_STALE_LOOKS = 6
"""After so many looks at a deployment of which nobody answers, nothing is known of it."""


async def serve(settings: AutoscalerSettings) -> None:
    """Looks at the deployment, answers KEDA, and scales what it is told to."""
    async with AsyncExitStack() as cleanup:
        tls = client_tls(settings.tier_tls_ca, settings.tier_tls_cert, settings.tier_tls_key)
        fleet = Fleet(
            Whereabouts(settings.orchestrator, settings.target, settings.draft),
            min(settings.interval_s, _ANSWER_S),
            None if tls is None else channel_credentials(tls),
        )
        cleanup.push_async_callback(fleet.close)
        board = Board(_STALE_LOOKS * settings.interval_s)
        decider = Decider(settings.goals, settings.limits, settings.window_s, settings.down_after_s)
        scaling = await _open_scaling(settings, cleanup)

        async def look_again_and_again() -> None:
            while True:
                began = time.monotonic()
                decisions = decider.decide(began, await fleet.ask())
                board.put(decisions)
                if scaling is not None and scaling[0].is_leader:
                    await scaling[1].scale(decisions)
                await asyncio.sleep(max(began + settings.interval_s - time.monotonic(), 0))

        def readings() -> Iterable[Reading]:
            is_leader = scaling is not None and scaling[0].is_leader
            return read_decisions(board.latest, is_leader=is_leader)

        async def add_services(services: LateServices) -> None:
            add_ExternalScalerServicer_to_server(KedaServicer(board), services)
            services.sources.append(Source("", readings))

        looking = keep_running("look at the deployment", look_again_and_again)
        cleanup.callback(looking.cancel)
        await run_server(server_options(settings, (SERVICE_NAME,)), add_services)


async def _open_scaling(
    settings: AutoscalerSettings, cleanup: AsyncExitStack
) -> tuple[Leadership, Deployments] | None:
    """What scales Deployments; None where KEDA does."""
    if not settings.deployments:
        return None
    api_client = open_api_client()
    cleanup.push_async_callback(api_client.close)
    namespace = settings.namespace or own_namespace()
    identity = f"{socket.gethostname()}-{uuid4().hex[:8]}"
    leadership = Leadership(api_client, Candidate(namespace, settings.lease, identity))
    cleanup.push_async_callback(leadership.close)
    return leadership, Deployments(api_client, namespace, settings.deployments)


if __name__ == "__main__":
    run_process(serve(AutoscalerSettings.from_command_line()))
