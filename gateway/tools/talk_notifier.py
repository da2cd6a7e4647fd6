"""Sends requests of the rooms API as Talk does: signed, given up after 30 s, and repeated.

Source: reference 1.4, 6; headers, times and repetitions are those of Nextcloud 32 with Talk 22.
"""

from __future__ import annotations

import secrets
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

GIVE_UP = 30.0  # seconds for each attempt
ATTEMPTS = 3  # of a request that is not answered, or with a status of 5xx

_ALPHABET = string.ascii_letters + string.digits + "+/"  # of the random text and of session ids


class NotCarriedOut(Exception):
    """The gateway answered a request, the last time it was sent, with a status of 4xx or 5xx."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(f"the gateway answered with status {answer.status}: {answer.text[:100].strip()}")
        self.answer = answer


class Answer(NamedTuple):
    """The gateway's answer to a request."""

    status: int
    text: str
    headers: Mapping[str, str]


class TalkNotifier:
    """A client of the rooms API.

    ``changes_only`` becomes true with the first answer that announces ``changed-users``, and stays so: from then on
    requests have no full lists.
    """

    def __init__(self) -> None:
        self.changes_only = False
        self.give_up = GIVE_UP
        self._client: aiohttp.ClientSession | None = None

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
        """Send a request once; ``headers`` replace headers of it, and an empty value removes one.

        Raises:
            aiohttp.ClientError, TimeoutError: there is no answer.
        """
        if self._client is None:
            self._client = aiohttp.ClientSession()
        body = request if isinstance(request, bytes) else php_json(request)
        random = "".join(secrets.choice(_ALPHABET) for _ in range(64))
        given = {
            "Content-Type": "application/json",
            "Spreed-Signaling-Random": random,
            "Spreed-Signaling-Checksum": checksum.sign(secret, random, body),
            "Spreed-Signaling-Backend": backend,
        } | dict(headers or {})
        given = {name: value for name, value in given.items() if value}
        url = URL(f"{gateway.rstrip('/')}/api/v1/room/{quote(roomid, safe='')}", encoded=True)
        timeout = aiohttp.ClientTimeout(total=self.give_up)
        async with self._client.post(url, data=body, headers=given, timeout=timeout) as response:
            if talk_check.CHANGED_USERS in talk_check.announced(response.headers):
                self.changes_only = True
            return Answer(response.status, await response.text(), response.headers)

    async def post(self, gateway: str, roomid: str, request: Json, *, secret: str, backend: str) -> Answer:
        """Send a request, up to ``ATTEMPTS`` times, and check what the gateway announces.

        Raises:
            NotCarriedOut: the gateway did not carry it out.
            UpdateRequired: the gateway lacks a feature that Talk requires.
            aiohttp.ClientError, TimeoutError: there is no answer.
        """
        for left in reversed(range(ATTEMPTS)):
            try:
                answer = await self.send(gateway, roomid, request, secret=secret, backend=backend)
            except (aiohttp.ClientConnectionError, TimeoutError):
                if not left:
                    raise
                continue
            if answer.status < 500 or not left:
                break
        if answer.status >= 400:
            raise NotCarriedOut(answer)
        talk_check.require(answer.headers)
        return answer
