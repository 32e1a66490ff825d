"""What is wrong with certificates and keys, before anybody is called with them.

`cryptography` is imported when TLS is used.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from forethought.errors import CertificateError
from forethought.input_files import read_input

if TYPE_CHECKING:
    from cryptography.x509 import Certificate


def read_file(path: Path) -> bytes:
    """What a file holds.

    Raises:
        CertificateError: it cannot be read.
    """
    try:
        return read_input(path)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise CertificateError(f"{path} cannot be read: {reason}") from None


def certificates_of(pem: bytes, path: Path) -> list[Certificate]:
    """The certificates in a file, in its order, at least one.

    Raises:
        CertificateError: there is none, or one is damaged.
    """
    from cryptography.x509 import load_pem_x509_certificates  # noqa: PLC0415

    if b"-----BEGIN CERTIFICATE-----" not in pem:
        raise CertificateError(f"{path} holds no certificate in PEM")
    try:
        return load_pem_x509_certificates(pem)
    except ValueError:
        raise CertificateError(f"{path} holds a damaged certificate") from None


def check_authorities(pem: bytes, path: Path) -> None:
    """Refuses a file that vouches for nobody.

    Raises:
        CertificateError: says why.
    """
    authorities = certificates_of(pem, path)
    if all(certificate.not_valid_after_utc < datetime.now(UTC) for certificate in authorities):
        raise _expired(path, authorities[0])


def check_identity(certificate_pem: bytes, key_pem: bytes, path: Path, key_path: Path) -> None:
    """Refuses a certificate that nobody would accept now, and a key that is not its own.

    Raises:
        CertificateError: says why.
    """
    from cryptography.hazmat.primitives.serialization import (  # noqa: PLC0415
        Encoding,
        PublicFormat,
        load_pem_private_key,
    )

    own = certificates_of(certificate_pem, path)[0]
    if b"PRIVATE KEY-----" not in key_pem:
        raise CertificateError(f"{key_path} holds no private key in PEM")
    try:
        key = load_pem_private_key(key_pem, password=None)
    except TypeError:
        raise CertificateError(
            f"{key_path} is encrypted: give the key without a password"
        ) from None
    except ValueError:
        raise CertificateError(f"{key_path} holds a damaged private key") from None
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if key.public_key().public_bytes(*form) != own.public_key().public_bytes(*form):
        raise CertificateError(f"the key in {key_path} does not fit the certificate in {path}")
    if own.not_valid_after_utc < datetime.now(UTC):
        raise _expired(path, own)
    if own.not_valid_before_utc > datetime.now(UTC):
        raise CertificateError(
            f"the certificate in {path} is not valid before {_shown(own.not_valid_before_utc)}"
        )


def _expired(path: Path, certificate: Certificate) -> CertificateError:
    when = _shown(certificate.not_valid_after_utc)
    return CertificateError(f"the certificate in {path} expired on {when}")


def _shown(when: datetime) -> str:
    return when.strftime("%Y-%m-%d %H:%M UTC")
