"""The certificate that a server shows, which gRPC does not tell."""

import asyncio
import ssl
from datetime import UTC, datetime

from forethought.addresses import split_address
from forethought.deployment import Certificate
from forethought.rpc.security.tls import ClientTls

_TIMEOUT_S = 2.0


async def see_certificate(
    address: str, tls: ClientTls, server_name: str = ""
) -> Certificate | None:
    """Shakes hands once; None where that fails, or the address is no `host:port`.

    Args:
        address: of a server that speaks gRPC.
        tls: whom to believe, and what to show.
        server_name: that the certificate must bear, where it is not the address's host.
    """
    try:
        host, port = split_address(address)
        async with asyncio.timeout(_TIMEOUT_S):
            _, writer = await asyncio.open_connection(
                host, port, ssl=_context(tls), server_hostname=server_name or host
            )
    except (OSError, ValueError):  # TLS's errors and TimeoutError are OSErrors
        return None
    try:
        seen = writer.get_extra_info("peercert")
    finally:
        writer.transport.abort()
    return Certificate(_time(seen["notBefore"]), _time(seen["notAfter"]))


def _context(tls: ClientTls) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=tls.authorities)
    context.set_alpn_protocols(["h2"])
    if tls.identity is not None:
        context.load_cert_chain(tls.identity.certificate, tls.identity.key)
    return context


def _time(text: str) -> datetime:
    return datetime.fromtimestamp(ssl.cert_time_to_seconds(text), UTC)
