"""Time-limited TURN credentials, signed with a secret that the TURN servers share.

Source: reference 1.3; draft-uberti-behave-turn-rest-00.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import string
from collections.abc import Callable, Sequence
from typing import Protocol

from aiohttp import web

from gateway.core.throttle import ThrottledAction
from gateway.edge.http.address import TrustedProxies
from gateway.edge.http.caller import HttpCaller
from gateway.flows.refusals import Refusals
from gateway.flows.throttling import Throttling

LIFETIME = 86_400  # seconds that credentials are valid
NAME_LENGTH = 32  # characters of a random user name

_NOT_ALLOWED = "Not allowed to access this service."
_letters = string.ascii_letters + string.digits


class TurnSettings(Protocol):
    """The part of the configuration about TURN."""

    @property
    def api_key(self) -> str:
        """The key that a request for credentials must contain."""

    @property
    def secret(self) -> str:
        """The secret that is shared with the servers."""

    @property
    def servers(self) -> Sequence[str]:
        """URIs like ``turn:turn.example.com:3478?transport=udp``."""


class TurnCredentials:
    """Serves ``GET /turn/credentials``; ``clock`` returns Unix time in seconds."""

    def __init__(
        self,
        settings: TurnSettings,
        clock: Callable[[], float],
        proxies: TrustedProxies,
        throttling: Throttling,
        refusals: Refusals,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._proxies = proxies
        self._throttling = throttling
        self._refusals = refusals

    def apply(self, settings: TurnSettings) -> None:
        """Replace the settings; if the key has changed, forget the failures: they were not guesses of the new key."""
        if settings.api_key != self._settings.api_key:
            self._throttling.clear(ThrottledAction.TURN_KEY)
        self._settings = settings

    async def handle(self, request: web.Request) -> web.Response:
        """Answer a request with new credentials, or with a refusal; a wrong key is throttled."""
        query, settings = request.query, self._settings
        key = query.get("key", "") or query.get("api", "")  # Janus sends api
        if query.get("service") != "turn" or not key:
            return _refusal(400, "Invalid service and/or key sent.")
        if not settings.api_key:
            self._refusals.turn_key(configured=False)
            return _refusal(403, _NOT_ALLOWED)
        caller = HttpCaller(request, self._proxies.real_ip(request))
        if not hmac.compare_digest(key.encode(), settings.api_key.encode()):
            self._refusals.turn_key(configured=True)
            if await self._throttling.record_failure(caller, ThrottledAction.TURN_KEY):
                return _refusal(429, "Too many requests")
            return _refusal(403, _NOT_ALLOWED)
        if not settings.servers:
            self._refusals.no_turn_servers()
            return _refusal(404, "No TURN servers available.")
        name = query.get("username", "") or "".join(secrets.choice(_letters) for _ in range(NAME_LENGTH))
        username, password = credentials(settings.secret, name, self._clock())
        body = {"username": username, "password": password, "ttl": LIFETIME, "uris": list(settings.servers)}
        text = json.dumps(body, separators=(",", ":")) + "\n"
        return web.Response(text=text, content_type="application/json", headers={"Cache-Control": "no-store"})


def credentials(secret: str, name: str, now: float) -> tuple[str, str]:
    """Return user name and password for a client, valid for ``LIFETIME``; ``now`` is Unix time in seconds."""
    username = f"{int(now) + LIFETIME}:{name}"
    signature = hmac.new(secret.encode(), username.encode(), hashlib.sha1).digest()
    return username, base64.b64encode(signature).decode()


def _refusal(status: int, text: str) -> web.Response:
    return web.Response(status=status, text=text + "\n", headers={"X-Content-Type-Options": "nosniff"})
