"""TLS: what a process shows of itself, and whom it believes.

All of it is files in PEM, which are read again when they change. A listener looks at every
handshake; a channel's connections keep what they were opened with, so that new calls get a new one
(`reloading_channel.py`). Files that cannot be used leave what there was before in force, and the
log says why. gRPC speaks TLS 1.2 and 1.3, and nothing older.
"""

import ssl
from dataclasses import dataclass
from pathlib import Path

import grpc

from forethought.errors import CertificateError
from forethought.reloading import Reloading
from forethought.rpc.security.certificates import check_authorities, check_identity, read_file


@dataclass(frozen=True, slots=True)
class Identity:
    """A certificate and its key."""

    certificate: Path
    """With those between it and its authority, if there are any."""
    key: Path
    """Not encrypted."""

    def read(self) -> tuple[bytes, bytes]:
        """Key and certificates, as gRPC takes them.

        Raises:
            CertificateError: they cannot be used.
        """
        certificate, key = read_file(self.certificate), read_file(self.key)
        check_identity(certificate, key, self.certificate, self.key)
        return key, certificate


@dataclass(frozen=True, slots=True)
class ServerTls:
    """What a listener shows, and whom it lets in."""

    identity: Identity
    client_authorities: Path | None = None
    """Of the certificates that callers must show; None: they need none."""

    @property
    def files(self) -> list[Path | None]:
        """That all of it is read from."""
        return [self.identity.certificate, self.identity.key, self.client_authorities]


@dataclass(frozen=True, slots=True)
class ClientTls:
    """Whom a channel believes, and what it shows."""

    authorities: Path | None = None
    """Of the servers' certificates; None: those that everybody knows."""
    identity: Identity | None = None
    """For servers that ask for it."""


ChannelCredentials = Reloading[grpc.ChannelCredentials]
"""For any number of channels."""


def channel_credentials(tls: ClientTls) -> ChannelCredentials:
    """What channels of a process are opened with.

    Raises:
        CertificateError: the files cannot be used.
    """
    own = tls.identity

    def make() -> grpc.ChannelCredentials:
        authorities = _read_authorities(tls.authorities)
        key, certificate = (None, None) if own is None else own.read()
        return grpc.ssl_channel_credentials(authorities, key, certificate)

    files = () if own is None else (own.certificate, own.key)
    return Reloading((tls.authorities, *files), make)


def server_credentials(tls: ServerTls) -> grpc.ServerCredentials:
    """What a server listens with: each handshake has the files as they are then.

    Raises:
        CertificateError: the files cannot be used.
    """

    def make() -> grpc.ServerCertificateConfiguration:
        return grpc.ssl_server_certificate_configuration(
            [tls.identity.read()], _read_authorities(tls.client_authorities)
        )

    # A handshake costs more than a look.
    reloading = Reloading(tls.files, make, look_s=0)
    first = reloading.get()
    return grpc.dynamic_ssl_server_credentials(
        first, reloading.get, require_client_authentication=tls.client_authorities is not None
    )


def http_context(tls: ServerTls) -> ssl.SSLContext:
    """The same for a server of HTTP.

    Raises:
        CertificateError: the files cannot be used.
    """

    def make() -> ssl.SSLContext:
        tls.identity.read()
        _read_authorities(tls.client_authorities)
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=tls.client_authorities)
        context.load_cert_chain(tls.identity.certificate, tls.identity.key)
        if tls.client_authorities is not None:
            context.verify_mode = ssl.CERT_REQUIRED
        return context

    reloading = Reloading(tls.files, make, look_s=0)
    first = reloading.get()

    def renew(connection: ssl.SSLObject | ssl.SSLSocket, *_: object) -> None:
        connection.context = reloading.get()

    # It is called for each handshake, also where the client names no server.
    first.sni_callback = renew
    return first


def _read_authorities(path: Path | None) -> bytes | None:
    if path is None:
        return None
    authorities = read_file(path)
    check_authorities(authorities, path)
    return authorities


def client_tls(
    authorities: Path | None, certificate: Path | None, key: Path | None
) -> ClientTls | None:
    """As settings or options name the files; None: without any, plain text is spoken.

    Raises:
        CertificateError: one of certificate and key is missing.
    """
    if certificate is not None and key is not None:
        return ClientTls(authorities, Identity(certificate, key))
    if certificate is not None or key is not None:
        raise CertificateError("a certificate and its key are given together, or neither")
    return None if authorities is None else ClientTls(authorities)
