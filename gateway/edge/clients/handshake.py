"""The server side of the WebSocket handshake.

Source: RFC 6455 4.2.
"""

from __future__ import annotations

import base64
import binascii
import hashlib

from aiohttp import web

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 1.3


def accept_key(request: web.Request) -> str:
    """Check the handshake (RFC 6455 4.2.1) and return the value of ``Sec-WebSocket-Accept``."""
    headers = request.headers
    upgrades = "upgrade" in headers.get("Connection", "").lower()
    if headers.get("Upgrade", "").lower() != "websocket" or not upgrades:
        raise web.HTTPBadRequest(text="This is a WebSocket endpoint.\n")
    if headers.get("Sec-WebSocket-Version") != "13":
        raise web.HTTPBadRequest(text="Unsupported WebSocket version.\n", headers={"Sec-WebSocket-Version": "13"})
    key = headers.get("Sec-WebSocket-Key", "")
    try:
        valid = len(base64.b64decode(key, validate=True)) == 16
    except (binascii.Error, ValueError):
        valid = False
    if not valid:
        raise web.HTTPBadRequest(text="Invalid Sec-WebSocket-Key.\n")
    return base64.b64encode(hashlib.sha1(key.encode() + _GUID).digest()).decode()
