"""Certificates of the tests, made in one place."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import trustme

from forethought.rpc.security.tls import ClientTls, Identity, ServerTls

HERE = "127.0.0.1"


class Authority:
    """A CA, and what it signs, as files in a folder.

    Args:
        folder: that there is.
        name: of the CA's file.
    """

    def __init__(self, folder: Path, name: str = "ca") -> None:
        self._folder = folder
        self._ca = trustme.CA()
        self.certificate = folder / f"{name}.pem"
        self._ca.cert_pem.write_to_path(self.certificate)

    def issue(self, *names: str, file: str = "", days: tuple[float, float] = (-1, 1)) -> Identity:
        """A certificate for these names.

        Args:
            names: DNS names or addresses.
            file: name of its files; those of the same name are replaced.
            days: from when until when it is valid, from now.
        """
        now = datetime.now(UTC)
        made = self._ca.issue_cert(
            *names,
            not_before=now + timedelta(days=days[0]),
            not_after=now + timedelta(days=days[1]),
        )
        file = file or names[0]
        identity = Identity(self._folder / f"{file}.crt", self._folder / f"{file}.key")
        made.private_key_pem.write_to_path(identity.key)
        identity.certificate.write_bytes(b"".join(each.bytes() for each in made.cert_chain_pems))
        return identity


@dataclass(frozen=True)
class Security:
    """mTLS of a deployment: what all listeners show and ask for, and what all callers show."""

    server: ServerTls
    client: ClientTls


def mutual(authority: Authority) -> Security:
    """Everybody shows a certificate of the authority."""
    return Security(
        ServerTls(authority.issue(HERE, file="server"), authority.certificate),
        ClientTls(authority.certificate, authority.issue("orchestrator", file="client")),
    )
