"""The server side of the WebSocket handshake.

Source: RFC 6455 4.2; RFC 9110 5.3 (lists over several lines), 7.6.1 (``Connection``), 7.8 (``Upgrade``).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Mapping

from aiohttp import HttpVersion11, web

from gateway.edge.http.request_head import RequestHead

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 1.3
_SWITCHING_PROTOCOLS = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
)
_LIST_SPACE = " \t"  # optional white space around the members of a list (RFC 9110 5.6.3)


def accept_key(request: RequestHead) -> str:
    """Check the handshake (RFC 6455 4.2.1) and return the value of ``Sec-WebSocket-Accept``.

    Raises:
        HTTPBadRequest: the request is no handshake of version 13.
    """
    upgrades = "upgrade" in _tokens(request, "Connection") and "websocket" in _tokens(request, "Upgrade")
    if not upgrades or request.version < HttpVersion11:  # RFC 9110 7.8: HTTP/1.0 has no upgrade
        raise web.HTTPBadRequest(text="This is a WebSocket endpoint.\n")
    if _single(request, "Sec-WebSocket-Version") != "13":
        raise web.HTTPBadRequest(text="Unsupported WebSocket version.\n", headers={"Sec-WebSocket-Version": "13"})
    key = _single(request, "Sec-WebSocket-Key")
    try:
        valid = len(base64.b64decode(key, validate=True)) == 16
    except (binascii.Error, ValueError):
        valid = False
    if not valid:
        raise web.HTTPBadRequest(text="Invalid Sec-WebSocket-Key.\n")
    return base64.b64encode(hashlib.sha1(key.encode() + _GUID).digest()).decode()


def switching_protocols(accept: str, headers: bytes) -> bytes:
    """Return the answer that accepts a handshake, with the value of ``accept_key`` and other headers, encoded."""
    return b"%b%b\r\n%b\r\n" % (_SWITCHING_PROTOCOLS, accept.encode(), headers)


def encode_headers(headers: Mapping[str, str]) -> bytes:
    """Return headers as lines, each with its line end."""
    return "".join([f"{name}: {value}\r\n" for name, value in headers.items()]).encode()


def _tokens(request: RequestHead, name: str) -> set[str]:
    """Return the members of a header that is a list of tokens, in lower case; the list may have several lines."""
    return {token.strip(_LIST_SPACE).lower() for line in request.headers.getall(name, ()) for token in line.split(",")}


def _single(request: RequestHead, name: str) -> str:
    """Return a header that must occur once (RFC 6455 11.3); empty if it is missing or occurs twice."""
    values = request.headers.getall(name, ())
    return values[0] if len(values) == 1 else ""
