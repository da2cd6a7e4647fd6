"""A long-polling client for tests and client authors, which repeats requests that fail.

Source: docs/protocol.md, Long polling.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any, Self

import aiohttp

Json = dict[str, Any]

SECRET_HEADER = "Spreed-Signaling-Poll"
WAIT_TIMEOUT = 15.0  # seconds that ``receive`` waits
PAUSE = 0.02  # seconds before a request that repeats one without effect
REQUEST_TIMEOUT = 40.0  # seconds after which a request counts as failed; the gateway answers a fetch within 25


class PollClient:
    """One long-polling connection; failed requests are repeated, and no message is received twice."""

    def __init__(self, gateway: str) -> None:
        self.close_code: int | None = None
        self.failed = 0  # number of requests that had to be repeated
        self._url = gateway.rstrip("/") + "/spreed/poll"
        self._secret = ""
        self._outgoing: list[Any] = []  # not yet accepted by the gateway
        self._accepted = 0  # number of messages that the gateway has accepted, all before ``_outgoing``
        self._received = 0  # number of the last received message
        self._incoming: asyncio.Queue[Json | None] = asyncio.Queue()
        self._outgoing_ready = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        await self.connect()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.drop()

    async def connect(self) -> None:
        """Open the connection.

        Raises:
            aiohttp.ClientResponseError: the gateway refuses it.
        """
        self._http = aiohttp.ClientSession()
        try:
            while not self._secret:
                try:
                    async with self._http.post(self._url, raise_for_status=True) as response:
                        self._secret = (await response.json())["secret"]
                except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError):
                    self.failed += 1
                    await asyncio.sleep(PAUSE)
        except BaseException:
            await self._http.close()
            raise
        self._tasks = [
            asyncio.create_task(self._fetch(), name="poll-fetch"),
            asyncio.create_task(self._post(), name="poll-post"),
        ]

    def send(self, message: Json | str) -> None:
        """Queue a message, or a text as it is, for sending."""
        self._outgoing.append(message if isinstance(message, str) else json.dumps(message))
        self._outgoing_ready.set()

    def send_raw(self, value: Any) -> None:
        """Queue any JSON value in place of a message's text."""
        self._outgoing.append(value)
        self._outgoing_ready.set()

    async def receive(self) -> Json:
        """Return the next message.

        Raises:
            ConnectionError: the connection has ended.
            TimeoutError: no message has arrived within ``WAIT_TIMEOUT`` seconds.
        """
        async with asyncio.timeout(WAIT_TIMEOUT):
            message = await self._incoming.get()
        if message is None:
            self._incoming.put_nowait(None)
            raise ConnectionError("the connection has ended")
        return message

    async def wait_closed(self) -> int | None:
        """Skip all further messages and return the close code."""
        with contextlib.suppress(ConnectionError):
            while True:
                await self.receive()
        return self.close_code

    async def close(self) -> None:
        """Close the connection; its session stays."""
        await self._request({"close": True})
        await self.drop()

    async def drop(self) -> None:
        """Stop polling without a request to the gateway. Idempotent."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._http.close()

    async def request(self, body: Json) -> tuple[int, Json]:
        """Send one request and return the status and body of its answer."""
        async with self._http.post(self._url, json=body, headers={SECRET_HEADER: self._secret}) as response:
            return response.status, await response.json() if response.status == 200 else {}

    async def _fetch(self) -> None:
        while self.close_code is None:
            answer = await self._request({"received": self._received})
            for number, message in enumerate(answer.get("messages", ()), answer.get("first", 1)):
                if number > self._received:
                    self._received = number
                    self._incoming.put_nowait(message)
            if "closed" in answer:
                self.close_code = answer["closed"]
            elif not answer.get("messages"):  # a proxy may answer at once
                await asyncio.sleep(PAUSE)
        self._incoming.put_nowait(None)

    async def _post(self) -> None:
        while True:
            await self._outgoing_ready.wait()
            self._outgoing_ready.clear()
            while self._outgoing:
                batch = self._outgoing[:20]
                answer = await self._request({"first": self._accepted + 1, "messages": batch})
                if "accepted" not in answer:
                    return
                if answer["accepted"] <= self._accepted:  # the gateway is busy
                    await asyncio.sleep(PAUSE)
                    continue
                del self._outgoing[: answer["accepted"] - self._accepted]
                self._accepted = answer["accepted"]

    async def _request(self, body: Json) -> Json:
        while True:
            try:
                async with asyncio.timeout(REQUEST_TIMEOUT):
                    status, answer = await self.request(body)
                return answer if status == 200 else {"closed": 1006}
            except (TimeoutError, aiohttp.ClientError, OSError, ValueError):
                self.failed += 1
                await asyncio.sleep(PAUSE)
