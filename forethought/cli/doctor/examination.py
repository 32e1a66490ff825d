"""Asks each orchestrator what it knows, and looks at the certificate that it shows."""

import asyncio
from dataclasses import dataclass

import grpc

from forethought.cli.failure import in_words
from forethought.cli.options.connection import Connection
from forethought.deployment import Certificate, DeploymentState
from forethought.errors import ForethoughtError
from forethought.rpc.calls.authorized import authorized
from forethought.rpc.codecs.deployment import deployment_state_from_proto
from forethought.rpc.connections.channels import open_channel
from forethought.rpc.security.seen_certificate import see_certificate
from forethought.rpc.security.tls import ChannelCredentials, channel_credentials
from forethought.rpc.status import error_from_rpc
from forethought.v1.deployment_pb2 import GetDeploymentRequest
from forethought.v1.deployment_pb2_grpc import DeploymentServiceStub


@dataclass(frozen=True, slots=True)
class Examined:
    """One orchestrator."""

    address: str
    state: DeploymentState | None
    """None: it did not answer."""
    failure: ForethoughtError | None
    """Why not."""
    certificate: Certificate | None
    """None: plain text, or it cannot be seen."""


async def examine(connection: Connection, timeout_s: float) -> list[Examined]:
    """Each address of the connection, all at a time.

    Raises:
        CertificateError: the files for TLS cannot be used.
    """
    credentials = None if connection.tls is None else channel_credentials(connection.tls)

    async def look(address: str) -> Examined:
        try:
            state = await _ask(address, credentials, connection.api_key, timeout_s)
        except grpc.aio.AioRpcError as error:
            return Examined(address, None, in_words(error_from_rpc(error), address), None)
        tls = connection.tls
        certificate = None if tls is None else await see_certificate(address, tls)
        return Examined(address, state, None, certificate)

    return await asyncio.gather(*map(look, connection.addresses))


async def _ask(
    address: str, credentials: ChannelCredentials | None, api_key: str, timeout_s: float
) -> DeploymentState:
    async with open_channel(address, credentials=credentials) as channel:
        stub = DeploymentServiceStub(authorized(channel, api_key))
        return deployment_state_from_proto(
            await stub.GetDeployment(GetDeploymentRequest(), timeout=timeout_s)
        )
