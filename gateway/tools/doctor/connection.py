"""Steps up to an encrypted connection: name resolution, TCP, TLS."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import time
from typing import Any

from gateway.tools.doctor.steps import Outcome, failed, ok, warning
from gateway.tools.doctor.target import Target

CONNECT_TIMEOUT = 10.0  # seconds for each address
PROBE_TIMEOUT = 5.0  # seconds for the TLS handshake with a port that may have no TLS
EXPIRY_WARNING_DAYS = 14  # before the certificate's end; renewals are due 30 days before it

_CERT_EXPIRED, _CERT_NOT_YET_VALID, _HOSTNAME_MISMATCH, _IP_ADDRESS_MISMATCH = 10, 9, 62, 64  # OpenSSL, X509_V_ERR_…
_SELF_SIGNED = (18, 19)
_NO_ISSUER = (20, 21)


async def resolve_name(target: Target) -> Outcome:
    """Resolve the name of the host, and keep its addresses in ``target``."""
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "not the name of a host"
        change = f"correct the name in the URL, or add an A or AAAA record for it: getent hosts {target.host}"
        return failed(f"the name {target.host} has no address", change, reason)
    target.addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    return ok(f"{target.host} is {', '.join(target.addresses)}")


async def connect_tcp(target: Target) -> Outcome:
    """Connect to each address of the host."""
    reasons = await asyncio.gather(*(_connection_error(address, target.port) for address in target.addresses))
    failures = {address: reason for address, reason in zip(target.addresses, reasons, strict=True) if reason}
    evidence = "; ".join(f"{address} port {target.port}: {reason}" for address, reason in failures.items())
    if not failures:
        return ok(f"port {target.port} accepts connections at {', '.join(target.addresses)}")
    if len(failures) == len(target.addresses):
        change = (
            f"start the program that listens on port {target.port} there, or give the URL with another port; let"
            f" firewalls on the way pass TCP port {target.port}"
        )
        return failed(f"nothing accepts connections on port {target.port} of {target.host}", change, evidence)
    change = "listen on these addresses, too, or remove them from the name's records"
    return warning(f"some addresses of {target.host} accept no connections", change, evidence)


async def _connection_error(address: str, port: int) -> str:
    """Connect to an address; return why that fails, empty if it succeeds."""
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT):
            _, writer = await asyncio.open_connection(address, port)
    except TimeoutError:
        return f"no answer within {CONNECT_TIMEOUT:g} s, as behind a firewall"
    except OSError as error:
        return os.strerror(error.errno).lower() if error.errno else "connecting fails"
    writer.transport.abort()
    return ""


async def check_tls(target: Target) -> Outcome:
    """Check the certificate as a browser does, and its expiry; for a URL without TLS, that the port has none."""
    if target.scheme == "http":
        return await _check_no_tls(target)
    try:
        certificate = await _certificate(target, ssl.create_default_context())
    except ssl.SSLCertVerificationError as error:
        return _certificate_failure(target, error)
    except ssl.SSLError as error:
        if "WRONG_VERSION_NUMBER" in str(error):
            change = f"turn TLS on for port {target.port} in the reverse proxy (`listen {target.port} ssl` in nginx)"
            return failed(f"port {target.port} does not speak TLS", change, str(error.reason))
        change = "allow TLS 1.2 and 1.3 with the proxy's default ciphers"
        return failed("the TLS handshake fails", change, str(error.reason or error))
    except OSError as error:
        change = f"turn TLS on for port {target.port}, and see the log of the reverse proxy"
        return failed("the connection is closed during the TLS handshake", change, type(error).__name__)
    days = (ssl.cert_time_to_seconds(certificate["notAfter"]) - time.time()) / 86_400
    evidence = f"the certificate is valid for {target.host} until {certificate['notAfter']}"
    if days < EXPIRY_WARNING_DAYS:
        change = (
            "renew it now and reload the reverse proxy; see why it is not renewed by itself: certbot renew --dry-run"
        )
        return warning(f"the certificate expires in {days:.1f} days", change, evidence)
    return ok(evidence)


async def _check_no_tls(target: Target) -> Outcome:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # the probe sends no data
    try:
        async with asyncio.timeout(PROBE_TIMEOUT):
            await _certificate(target, context)
    except (OSError, TimeoutError):
        if target.host in ("localhost", "127.0.0.1", "::1"):
            return ok("no TLS, as the URL says; not needed on loopback")
        change = "serve it with TLS by the reverse proxy, and use https in Talk's settings"
        return warning("without TLS, browsers on pages with https do not connect", change, f"the URL is {target.url}")
    change = f"write https in place of http: https{target.url.removeprefix('http')}"
    return failed(f"port {target.port} speaks TLS, but the URL begins with http", change)


async def _certificate(target: Target, context: ssl.SSLContext) -> dict[str, Any]:
    """Return the server's certificate after a handshake; empty if the context does not verify it."""
    _, writer = await asyncio.open_connection(target.host, target.port, ssl=context)
    certificate = writer.get_extra_info("peercert")
    writer.transport.abort()
    return dict(certificate or {})


def _certificate_failure(target: Target, error: ssl.SSLCertVerificationError) -> Outcome:
    match error.verify_code:
        case number if number == _CERT_EXPIRED:
            cause, change = "the certificate has expired", "renew it (certbot renew), and reload the reverse proxy"
        case number if number == _CERT_NOT_YET_VALID:
            cause = "the certificate is not valid yet"
            change = "synchronise the clock of this machine (NTP), or issue the certificate anew"
        case number if number in (_HOSTNAME_MISMATCH, _IP_ADDRESS_MISMATCH):
            cause = f"the certificate is for other names than {target.host}"
            change = f"issue one that names {target.host}, or use a URL with a name that it has"
        case number if number in _SELF_SIGNED:
            cause = "the certificate is self-signed, or that of its authority is not known here"
            change = (
                "use a certificate of a public authority, or add the authority to the system's certificates here, on"
                " Nextcloud's machine and on all clients"
            )
        case number if number in _NO_ISSUER:
            cause = "the chain of certificates is incomplete, or its authority is not known here"
            change = "configure the file with the whole chain (fullchain.pem), and reload the reverse proxy"
        case _:
            cause, change = "the certificate is not valid", "issue it anew"
    return failed(cause, change, error.verify_message)
