"""The reason of a failed connection to Janus, in words and without an address (invariant 7).

Janus closes a WebSocket connection without an answer if the client offers the wrong subprotocol, as happens when a URL
names the port of the Admin API; a server with TLS does so when it receives plain text.
"""

from __future__ import annotations

import asyncio
import errno
import os
import ssl
from urllib.parse import urlsplit

import aiohttp

from mcu.janus.connection.messages import ADMIN_SUBPROTOCOL, SUBPROTOCOL, JanusError

UNAUTHORIZED = 403  # JANUS_ERROR_UNAUTHORIZED of apierror.h
PROBE_TIMEOUT = 1.0  # seconds for each attempt to identify the API at a port

ADMIN_PORT = "Janus' admin port answered, this is not its API port (`url` needs the port of the WebSocket API)"
API_PORT = "Janus' API port answered, this is not its admin port (`admin_url` needs the port of the Admin API)"
WSS_TO_PLAIN = "wss towards a plain port: it does not speak TLS, so the URL must begin with ws"
WS_TO_TLS = "ws towards a port with TLS: the URL must begin with wss"

_OTHER_INTERFACE = {SUBPROTOCOL: (ADMIN_SUBPROTOCOL, ADMIN_PORT), ADMIN_SUBPROTOCOL: (SUBPROTOCOL, API_PORT)}


async def explain(http: aiohttp.ClientSession, url: str, subprotocol: str, error: Exception) -> str:
    """Return why a connection failed; if the server closed it, try the other subprotocol and TLS to find out."""
    closed = isinstance(error, aiohttp.ServerDisconnectedError) or getattr(error, "errno", None) == errno.ECONNRESET
    if not closed and not isinstance(error, aiohttp.WSServerHandshakeError):
        return describe(error)
    other, sentence = _OTHER_INTERFACE[subprotocol]
    if await _accepts(http, url, other):
        return sentence
    if url.startswith("ws://") and await _speaks_tls(url):
        return WS_TO_TLS
    if isinstance(error, aiohttp.WSServerHandshakeError):
        return f"the server there does not speak Janus' WebSocket API (HTTP status {error.status})"
    return "it closes the connection without an answer"


def refusal(error: JanusError) -> str:
    """Return the reason for which Janus refuses the requests of this gateway, and the settings to compare."""
    if error.code == UNAUTHORIZED:
        return (
            "it refuses this gateway, its secret or token is wrong: compare mcu.janus.api_secret with the api_secret in"
            " janus.jcfg (mcu.janus.token, if Janus uses token_auth)"
        )
    return f"it refuses this gateway: {error}"


def describe(error: Exception) -> str:
    """Return a description of a failed connection without the address that the error names."""
    match error:
        case aiohttp.ClientConnectorCertificateError():
            return "its certificate is not trusted here, or not valid for the name in the URL"
        case aiohttp.ClientConnectorDNSError():
            return "its name does not resolve"
        case aiohttp.ClientSSLError():
            return WSS_TO_PLAIN if "WRONG_VERSION_NUMBER" in str(error) else "TLS failed"
    number = getattr(error, "errno", None)
    return os.strerror(number).lower() if isinstance(number, int) and number > 0 else type(error).__name__


async def _accepts(http: aiohttp.ClientSession, url: str, subprotocol: str) -> bool:
    """Return whether a server accepts a subprotocol."""
    try:
        async with asyncio.timeout(PROBE_TIMEOUT):
            async with http.ws_connect(url, protocols=[subprotocol]) as socket:
                return socket.protocol == subprotocol
    except (TimeoutError, OSError, aiohttp.ClientError):
        return False


async def _speaks_tls(url: str) -> bool:
    """Return whether a TLS handshake succeeds; the certificate is not checked, since nothing is sent."""
    parts = urlsplit(url)
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        async with asyncio.timeout(PROBE_TIMEOUT):
            _, writer = await asyncio.open_connection(parts.hostname, parts.port or 80, ssl=context)
    except (TimeoutError, OSError):
        return False
    writer.transport.abort()
    return True
