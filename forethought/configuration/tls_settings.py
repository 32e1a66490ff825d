"""Files for TLS, as a process is told of them.

With a certificate a listener speaks TLS, and with a CA besides it asks its callers for theirs.
"""

from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, Field, ValidationInfo, field_validator

from forethought.configuration.texts import Texts

OptionalFile = Annotated[Path | None, BeforeValidator(lambda value: value or None)]
"""Empty is none."""


def require(value: Any, info: ValidationInfo, other: str, why: str) -> None:
    """Refuses a setting that means nothing without another one, which stands before it."""
    if value and not info.data.get(other):
        raise ValueError(f"{why}: give {other} too")


class TlsSettings(BaseModel):
    """The part of a process's settings that says how its listener speaks TLS."""

    tls_cert: OptionalFile = Field(
        None,
        description="PEM file with the certificate that callers are shown, and those between it "
        "and its CA; read again when it changes. Unset: plain text",
    )
    tls_key: OptionalFile = Field(
        None, description="PEM file with its key, unencrypted", validate_default=True
    )
    tls_ca: OptionalFile = Field(
        None,
        description="PEM file of the CAs that vouch for callers: they must show a certificate. "
        "Unset: callers need none",
    )
    tls_peer_name: Texts = Field(
        (),
        description="names, comma-separated, of which a caller's certificate must bear one as a "
        "subject alternative name (DNS or URI). Unset: any certificate of the CA will do",
    )

    @field_validator("tls_key")
    @classmethod
    def _refuse_half_an_identity(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        require(value, info, "tls_cert", "a key without a certificate")
        if value is None and info.data.get("tls_cert"):
            raise ValueError("a certificate without its key: give tls_key too")
        return value

    @field_validator("tls_ca")
    @classmethod
    def _refuse_to_ask_in_plain_text(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        require(value, info, "tls_cert", "callers show certificates only where TLS is spoken")
        return value

    @field_validator("tls_peer_name")
    @classmethod
    def _refuse_names_of_nobody(
        cls, value: tuple[str, ...], info: ValidationInfo
    ) -> tuple[str, ...]:
        require(value, info, "tls_ca", "callers that show no certificate have no name")
        return value


class TierTlsSettings(BaseModel):
    """How a process that calls the tiers speaks TLS with them."""

    tier_tls_ca: OptionalFile = Field(
        None,
        description="PEM file of the CAs that vouch for the tiers that this process calls, which "
        "it then does by TLS; each must bear the name that it is called by. Unset: plain text",
    )
    tier_tls_cert: OptionalFile = Field(
        None,
        description="PEM file with the certificate that tiers are shown, if they ask for one",
    )
    tier_tls_key: OptionalFile = Field(
        None, description="PEM file with its key, unencrypted", validate_default=True
    )

    @field_validator("tier_tls_cert")
    @classmethod
    def _refuse_to_show_in_plain_text(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        require(value, info, "tier_tls_ca", "tiers are shown a certificate only by TLS")
        return value

    @field_validator("tier_tls_key")
    @classmethod
    def _refuse_half_an_identity(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        require(value, info, "tier_tls_cert", "a key without a certificate")
        if value is None and info.data.get("tier_tls_cert"):
            raise ValueError("a certificate without its key: give tier_tls_key too")
        return value
