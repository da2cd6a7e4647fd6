"""A client's side of long polling, for tests and authors of clients: texts in, messages out, over lines that break.

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
PATIENCE = 15.0  # seconds for anything that is waited for
PAUSE = 0.02  # seconds between a request that broke and its repetition
FETCH_LIMIT = 40.0  # seconds after which a fetch is taken for lost


class PollClient:
    """One connection; every request that breaks is sent again, and nothing comes twice."""

    def __init__(self, gateway: str) -> None:
        self.close_code: int | None = None
        self.broken = 0  # requests that had to be repeated
        self._url = gateway.rstrip("/") + "/spreed/poll"
        self._secret = ""
        self._outgoing: list[Any] = []  # not accepted
        self._accepted = 0
        self._received = 0
        self._incoming: asyncio.Queue[Json | None] = asyncio.Queue()
        self._something = asyncio.Event()
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
        while not self._secret:
            try:
                async with self._http.post(self._url, raise_for_status=True) as response:
                    self._secret = (await response.json())["secret"]
            except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError):
                self.broken += 1
        self._tasks = [
            asyncio.create_task(self._fetch(), name="poll-fetch"),
            asyncio.create_task(self._post(), name="poll-post"),
        ]

    def send(self, message: Json | str) -> None:
        """Send a message, or what is to be taken for one."""
        self._outgoing.append(message if isinstance(message, str) else json.dumps(message))
        self._something.set()

    def send_raw(self, junk: Any) -> None:
        """Post what is no text in the place of a message."""
        self._outgoing.append(junk)
        self._something.set()

    async def receive(self) -> Json:
        """Return the next message.

        Raises:
            ConnectionError: the connection is over.
        """
        async with asyncio.timeout(PATIENCE):
            message = await self._incoming.get()
        if message is None:
            self._incoming.put_nowait(None)
            raise ConnectionError("the connection is over")
        return message

    async def closed(self) -> int | None:
        """Skip what comes, and return the close code."""
        with contextlib.suppress(ConnectionError):
            while True:
                await self.receive()
        return self.close_code

    async def close(self) -> None:
        """End the connection and not the session."""
        await self._request({"close": True})
        await self.drop()

    async def drop(self) -> None:
        """Stop, without a word to the gateway. Idempotent."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._http.close()

    async def request(self, body: Json) -> tuple[int, Json]:
        """Send one request as it is; returns status and answer."""
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
        self._incoming.put_nowait(None)

    async def _post(self) -> None:
        while True:
            await self._something.wait()
            self._something.clear()
            while self._outgoing:
                batch = self._outgoing[:20]
                answer = await self._request({"first": self._accepted + 1, "messages": batch})
                if "accepted" not in answer:
                    return
                del self._outgoing[: answer["accepted"] - self._accepted]
                self._accepted = answer["accepted"]

    async def _request(self, body: Json) -> Json:
        while True:
            try:
                async with asyncio.timeout(FETCH_LIMIT):
                    status, answer = await self.request(body)
                return answer if status == 200 else {"closed": 1006}
            except (TimeoutError, aiohttp.ClientError, OSError, ValueError):
                self.broken += 1
                await asyncio.sleep(PAUSE)
