"""Sends requests of the rooms API as Talk does: signed, with a time limit of 30 s, and repeated.

Source: reference 1.4, 6; headers, times and repetitions are those of Nextcloud 32 with Talk 22.
"""

from __future__ import annotations

import secrets
import ssl
import string
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import quote

import aiohttp
from yarl import URL

from gateway.tools import talk_check
from gateway.tools.talk_requests import php_json
from gateway.tools.talk_rooms import Json
from gateway.wire import checksum

ATTEMPT_TIMEOUT = 30.0  # seconds for an answer to each attempt
ATTEMPTS = 3  # at one request; it is repeated if there is no answer, or one with a status of 5xx

_ALPHABET = string.ascii_letters + string.digits + "+/"  # of the random text that is signed


class NotCarriedOut(Exception):
    """The gateway's answer to the last attempt to send a request has a status of 4xx or 5xx."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(f"the gateway answered with status {answer.status}: {answer.text[:100].strip()}")
        self.answer = answer


class Answer(NamedTuple):
    """The gateway's answer to a request."""

    status: int
    text: str
    headers: Mapping[str, str]


# The errors of ``TalkNotifier.post``.
SEND_ERRORS = (NotCarriedOut, talk_check.UpdateRequired, aiohttp.ClientError, TimeoutError)


class TalkNotifier:
    """A client of the rooms API.

    ``changes_only`` becomes true with the first answer that announces ``changed-users``: Talk's requests contain no
    full lists from then on. ``attempt_timeout`` is in seconds; ``tls`` replaces the context of connections over TLS;
    ``client`` is closed by ``close``.
    """

    def __init__(self, client: aiohttp.ClientSession | None = None) -> None:
        self.changes_only = False
        self.attempt_timeout = ATTEMPT_TIMEOUT
        self.tls: ssl.SSLContext | None = None
        self._client = client

    async def close(self) -> None:
        """Close the connections. Idempotent."""
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    async def send(
        self,
        gateway: str,
        roomid: str,
        request: Json | bytes,
        *,
        secret: str,
        backend: str,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send a request about a room once, signed with ``secret``.

        Args:
            gateway: base URL of the gateway.
            request: a protocol object, or the bytes of a body.
            backend: base URL of the Nextcloud that sends.
            headers: replace headers of the request; an empty value removes the header.

        Raises:
            aiohttp.ClientError, TimeoutError: there is no answer.
        """
        if self._client is None:
            self._client = aiohttp.ClientSession()
        body = request if isinstance(request, bytes) else php_json(request)
        random = "".join(secrets.choice(_ALPHABET) for _ in range(64))
        all_headers = {
            "Content-Type": "application/json",
            "Spreed-Signaling-Random": random,
            "Spreed-Signaling-Checksum": checksum.sign(secret, random, body),
            "Spreed-Signaling-Backend": backend,
        } | dict(headers or {})
        all_headers = {name: value for name, value in all_headers.items() if value}
        url = URL(f"{gateway.rstrip('/')}/api/v1/room/{quote(roomid, safe='')}", encoded=True)
        timeout = aiohttp.ClientTimeout(total=self.attempt_timeout)
        tls = self.tls or True
        async with self._client.post(url, data=body, headers=all_headers, timeout=timeout, ssl=tls) as response:
            if talk_check.CHANGED_USERS in talk_check.announced_features(response.headers):
                self.changes_only = True
            return Answer(response.status, await response.text(), response.headers)

    async def post(self, gateway: str, roomid: str, request: Json, *, secret: str, backend: str) -> Answer:
        """Send a request, at most ``ATTEMPTS`` times, and check that the answer announces the required features.

        Raises:
            NotCarriedOut: the status of the last answer is 4xx or 5xx.
            UpdateRequired: the gateway lacks a feature that Talk requires.
            aiohttp.ClientError, TimeoutError: there is no answer.
        """
        for attempts_left in reversed(range(ATTEMPTS)):
            try:
                answer = await self.send(gateway, roomid, request, secret=secret, backend=backend)
            except (aiohttp.ClientConnectionError, TimeoutError):
                if not attempts_left:
                    raise
                continue
            if answer.status < 500 or not attempts_left:
                break
        if answer.status >= 400:
            raise NotCarriedOut(answer)
        talk_check.require_features(answer.headers)
        return answer
