"""`python -m gateway`: runs the gateway until SIGTERM."""

import signal

from forethought.extras import require

if __name__ == "__main__":  # an interrupt amid the imports ends the process without a word
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    require("gateway")

from forethought.client import GenerationClient
from forethought.rpc.security.tls import client_tls
from forethought.rpc.serving.server import run_process
from forethought.rpc.serving.server_options import server_tls
from gateway.app import make_app
from gateway.server import HttpServer, run_gateway, stop_on_signals
from gateway.settings import GatewaySettings
from gateway.upstream import Upstream


async def serve(settings: GatewaySettings) -> None:
    """Listens at once; says that it is ready when an orchestrator has answered."""
    tls = client_tls(settings.tier_tls_ca, settings.tier_tls_cert, settings.tier_tls_key)
    async with GenerationClient(settings.orchestrator, tls=tls) as client:
        upstream = Upstream(client, settings.served_model_name, settings.own_key)
        app = make_app(upstream, settings.max_body_size)
        server = HttpServer(app, settings.listen, settings.drain_grace_s, server_tls(settings))
        stop_on_signals(upstream.stopping)
        await run_gateway(upstream, server, app.metrics, settings.admin_listen)


if __name__ == "__main__":
    run_process(serve(GatewaySettings.from_command_line()))
