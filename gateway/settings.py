"""Settings of the gateway."""

from pathlib import Path
from typing import ClassVar

from pydantic import (
    ByteSize,
    Field,
    SecretStr,
    ValidationInfo,
    field_validator,
)

from forethought.configuration.sizes import Size
from forethought.configuration.store_settings import read_secret
from forethought.configuration.texts import Texts
from forethought.configuration.tls_settings import OptionalFile, TierTlsSettings
from forethought.errors import InvalidArgumentError
from forethought.rpc.calls.authorized import check_api_key
from forethought.settings import AdminAddress, ProcessSettings


def _checked(key: str) -> str:
    try:
        return check_api_key(key)
    except InvalidArgumentError as error:
        raise ValueError("has characters that no key has") from error


class GatewaySettings(TierTlsSettings, ProcessSettings):
    """Command line, `FORETHOUGHT_GATEWAY_…`, or `[gateway]`."""

    section: ClassVar[str] = "gateway"
    program: ClassVar[str] = "python -m gateway"
    http_addresses: ClassVar[frozenset[str]] = frozenset({"listen", "admin_listen"})

    listen: str = Field("127.0.0.1:8000", description="host:port; port 0 takes a free one")
    admin_listen: AdminAddress = "127.0.0.1:9103"
    orchestrator: Texts = Field(
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
    api_key: SecretStr | None = Field(
        None,
        description="the gateway's own, where orchestrators want keys: it asks with it what they "
        "serve, and nothing for clients, whose keys it passes on; better not on a command line. "
        "Unset: clients need no key",
    )
    api_key_file: OptionalFile = Field(
        None, description="file that holds the key instead, such as a mounted secret"
    )
    max_body_size: Size = Field(
        ByteSize(2**20), ge=2**12, description="largest body that a client may send, such as 4MiB"
    )

    @field_validator("api_key")
    @classmethod
    def _refuse_what_is_no_key(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            _checked(value.get_secret_value())
        return value

    @field_validator("api_key_file")
    @classmethod
    def _refuse_two_keys(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        if value is not None:
            if info.data.get("api_key"):
                raise ValueError("the key is given already: leave one of them out")
            _checked(read_secret(value))
        return value

    @property
    def own_key(self) -> str:
        """To be shown to orchestrators alone; empty: there is none."""
        if self.api_key_file is not None:
            return _checked(read_secret(self.api_key_file))
        return _checked(self.api_key.get_secret_value()) if self.api_key else ""

    @field_validator("tls_peer_name")
    @classmethod
    def _refuse_names(cls, value: Texts) -> Texts:
        if value:
            raise ValueError("is for gRPC: over HTTP any caller of tls_ca is let in")
        return value
