"""Settings of the gateway."""

from typing import Annotated, ClassVar

from pydantic import BeforeValidator, ByteSize, Field, field_validator
from pydantic_settings import NoDecode

from forethought.addresses import DEFAULT_PORT, describe_problem
from forethought.configuration.texts import Texts, split_texts
from forethought.configuration.tls_settings import TierTlsSettings
from forethought.settings import AdminAddress, ProcessSettings


def _check_addresses(value: object) -> tuple[str, ...]:
    addresses: tuple[str, ...] = split_texts(value)
    for address in addresses:
        if problem := describe_problem(address, default_port=DEFAULT_PORT):
            raise ValueError(f"{address!r} {problem}")
    return addresses


Addresses = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_check_addresses)]


class GatewaySettings(TierTlsSettings, ProcessSettings):
    """Command line, `FORETHOUGHT_GATEWAY_…`, or `[gateway]`."""

    section: ClassVar[str] = "gateway"
    program: ClassVar[str] = "python -m gateway"

    listen: str = Field("127.0.0.1:8000", description="host:port; port 0 takes a free one")
    admin_listen: AdminAddress = "127.0.0.1:9103"
    orchestrator: Addresses = Field(
        ("127.0.0.1:50050",),
        min_length=1,
        description="addresses of the orchestrators, comma-separated or repeated; with one store "
        "and one model. The first is used for as long as it answers",
    )
    served_model_name: Texts = Field(
        (),
        description="names by which requests may call the model, comma-separated or repeated; "
        "answers have the first. Empty: the name that the target was started with",
    )
    max_body_size: ByteSize = Field(
        ByteSize(2**20), ge=2**12, description="largest body that a client may send, such as 4MiB"
    )

    @field_validator("tls_peer_name")
    @classmethod
    def _refuse_names(cls, value: Texts) -> Texts:
        if value:
            raise ValueError("is for gRPC: over HTTP any caller of tls_ca is let in")
        return value
