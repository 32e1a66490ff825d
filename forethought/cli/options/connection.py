"""How a command reaches a deployment: the options, and what is made of them."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer

from forethought.addresses import split_addresses
from forethought.cli.options.generate_options import PROMPT_AND_SERVER as PANEL
from forethought.cli.options.generate_options import Address
from forethought.cli.options.option_group import with_options
from forethought.client import GenerationClient, RetryOptions
from forethought.errors import CertificateError, InvalidArgumentError
from forethought.local.plan.defaults import DEFAULT_PORT, HOST
from forethought.rpc.calls.authorized import check_api_key
from forethought.rpc.security.tls import ClientTls, client_tls

VARIABLES = (
    "FORETHOUGHT_TLS",
    "FORETHOUGHT_TLS_CA",
    "FORETHOUGHT_TLS_CERT",
    "FORETHOUGHT_TLS_KEY",
    "FORETHOUGHT_API_KEY",
)
"""Of these options, besides the address."""


@dataclass(frozen=True, slots=True)
class Connection:
    """Whom to call, and how."""

    address: str
    """`host:port`, or several with commas between them."""
    tls: ClientTls | None = None
    api_key: str = field(default="", repr=False)

    @property
    def addresses(self) -> list[str]:
        """Each by itself."""
        return split_addresses(self.address)

    def client(self, retry: RetryOptions | None = None) -> GenerationClient:
        """A client of the deployment.

        Raises:
            typer.BadParameter: the files for TLS cannot be used.
        """
        try:
            return GenerationClient(self.address, retry, tls=self.tls, api_key=self.api_key)
        except CertificateError as error:
            raise typer.BadParameter(error.message) from error


Tls = Annotated[
    bool,
    typer.Option(
        "--tls",
        envvar=VARIABLES[0],
        help="Speak TLS, with a server whose certificate is signed by a CA that everybody knows.",
        rich_help_panel=PANEL,
    ),
]
TlsCa = Annotated[
    Path | None,
    typer.Option(
        envvar=VARIABLES[1],
        metavar="FILE",
        help="Speak TLS, with a server whose certificate is signed by a CA in this PEM file.",
        rich_help_panel=PANEL,
    ),
]
TlsCert = Annotated[
    Path | None,
    typer.Option(
        envvar=VARIABLES[2],
        metavar="FILE",
        help="Certificate in PEM for a server that asks its callers for one.",
        rich_help_panel=PANEL,
    ),
]
TlsKey = Annotated[
    Path | None,
    typer.Option(
        envvar=VARIABLES[3],
        metavar="FILE",
        help="Its key, in PEM and without a password.",
        rich_help_panel=PANEL,
    ),
]


ApiKey = Annotated[
    str,
    typer.Option(
        envvar=VARIABLES[4],
        metavar="KEY",
        help="Of a deployment that wants one. Better by the variable: a command line is for all "
        "users of a machine to see.",
        show_default=False,
        rich_help_panel=PANEL,
    ),
]


def again_at(address: str, tenant: str = "") -> list[str]:
    """The flags with which another command reaches the same sessions."""
    default = os.environ.get("FORETHOUGHT_ADDRESS") or f"{HOST}:{DEFAULT_PORT}"
    flags = [] if address == default else ["--address", address]
    return [*flags, *(["--tenant", tenant] if tenant else [])]


def with_connection_options(command: Callable[..., None]) -> Callable[..., None]:
    """The command with the options in place of its argument `connection`."""
    options = {"address": (Address, f"{HOST}:{DEFAULT_PORT}"), **_TLS_OPTIONS}
    return with_options(command, "connection", options, make_connection)


def with_optional_connection(address: Any) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """The same for a command whose connection is None where it is given no address.

    Args:
        address: its option, which has no default.
    """
    options = {"address": (address, None), **_TLS_OPTIONS}

    def make(address: str | None, **given: Any) -> Connection | None:
        return None if address is None else make_connection(address, **given)

    return lambda command: with_options(command, "connection", options, make)


_TLS_OPTIONS = {
    "tls": (Tls, False),
    "tls_ca": (TlsCa, None),
    "tls_cert": (TlsCert, None),
    "tls_key": (TlsKey, None),
    "api_key": (ApiKey, ""),
}


def make_connection(
    address: str,
    *,
    tls: bool,
    tls_ca: Path | None,
    tls_cert: Path | None,
    tls_key: Path | None,
    api_key: str,
) -> Connection:
    """From the options.

    Raises:
        typer.BadParameter: they do not go together.
    """
    if tls_ca is None and not tls and (tls_cert or tls_key):
        raise typer.BadParameter("--tls-cert and --tls-key want --tls-ca, or --tls")
    try:
        api_key = check_api_key(api_key)
    except InvalidArgumentError as error:
        raise typer.BadParameter(
            "has characters that no key has", param_hint="--api-key"
        ) from error
    try:
        chosen = client_tls(tls_ca, tls_cert, tls_key)
    except CertificateError as error:
        raise typer.BadParameter(error.message, param_hint="--tls-cert, --tls-key") from error
    return Connection(address, chosen or (ClientTls() if tls else None), api_key)
