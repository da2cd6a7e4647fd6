"""A Janus VideoRoom peer: answers to publishers and offers to subscribers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from tests.janus_process import JanusApi, JanusProcess
from tests.sdp.renewal.python_peer import answer, offer, peer, set_remote
from tests.sdp.renewal.session_description import SessionDescription

NO_SUCH_FEED = 428  # VideoRoom: the publisher's media do not flow yet
WAIT = 60.0  # seconds for the media to flow


class Room:
    """A room with one publisher, controlled through one Janus session."""

    def __init__(self, janus: JanusApi, admin_key: str, session: int, codecs: dict[str, str]) -> None:
        self._janus, self._admin_key, self._session, self._codecs = janus, admin_key, session, codecs
        self._room = 0
        self._publisher = 0

    async def publish(self, description: SessionDescription) -> SessionDescription:
        """Create the room, publish an offer in it, and return the answer."""
        self._publisher = await self._attach()
        created = await self._message(
            self._publisher, None, request="create", admin_key=self._admin_key, publishers=1, **self._codecs
        )
        self._room = created["plugindata"]["data"]["room"]
        await self._message(self._publisher, request="join", ptype="publisher", room=self._room, id=1)
        return _description_in(
            await self._message(self._publisher, description, request="configure", audio=True, video=True, data=True)
        )

    async def subscribe(self) -> tuple[int, SessionDescription]:
        """Subscribe to the publisher and return the handle and the offer, as soon as its media flow."""
        handle = await self._attach()
        async with asyncio.timeout(WAIT):
            while True:
                joined = await self._message(
                    handle, request="join", ptype="subscriber", room=self._room, streams=[{"feed": 1}]
                )
                if joined["plugindata"]["data"].get("error_code") != NO_SUCH_FEED:
                    return handle, _description_in(joined)
                await asyncio.sleep(0.05)

    async def start(self, handle: int, description: SessionDescription) -> None:
        """Answer the offer to a subscriber."""
        await self._message(handle, description, request="start", room=self._room)

    async def change(self, handle: int, request: str, mid: str) -> SessionDescription:
        """Unsubscribe from one medium, or subscribe to it again, and return the new offer."""
        return _description_in(await self._message(handle, request=request, streams=[{"feed": 1, "mid": mid}]))

    async def _attach(self) -> int:
        attached = await self._janus.request(janus="attach", session_id=self._session, plugin="janus.plugin.videoroom")
        handle: int = attached["data"]["id"]
        return handle

    async def _message(self, handle: int, description: SessionDescription | None = None, **body: Any) -> dict[str, Any]:
        jsep = {} if description is None else {"jsep": description.as_json()}
        return await self._janus.request(janus="message", session_id=self._session, handle_id=handle, body=body, **jsep)


class VideoRoom:
    """The recorded Janus: one session, and a room for each recorded call."""

    def __init__(self, janus: JanusApi, admin_key: str, session: int, version: str) -> None:
        self._janus, self._admin_key, self._session, self.version = janus, admin_key, session, version

    async def answer(self, description: SessionDescription, **codecs: str) -> SessionDescription:
        """Publish an offer in a room of its own."""
        return await self._room(codecs).publish(description)

    async def offers(self, **codecs: str) -> dict[str, SessionDescription]:
        """Publish from aiortc and return the offers to a subscriber, one per change."""
        async with peer() as publisher, peer() as subscriber:
            room = self._room(codecs)
            await set_remote(publisher, await room.publish(await offer(publisher, "audio", "video", "data")))
            handle, first = await room.subscribe()
            await room.start(handle, await answer(subscriber, first))
            unsubscribed = await room.change(handle, "unsubscribe", "1")
            await room.start(handle, await answer(subscriber, unsubscribed))
            again = await room.change(handle, "subscribe", "1")
            return {"subscriber": first, "subscriber-without-video": unsubscribed, "subscriber-again": again}

    def _room(self, codecs: dict[str, str]) -> Room:
        return Room(self._janus, self._admin_key, self._session, codecs)


@asynccontextmanager
async def video_room() -> AsyncIterator[VideoRoom]:
    """Run a Janus on 127.0.0.1."""
    async with JanusProcess() as process:
        secrets = {"apisecret": process.values["API_SECRET"]}
        async with JanusApi(process.url, "janus-protocol", secrets) as janus:
            version = (await janus.request(janus="info"))["version_string"]
            session = (await janus.request(janus="create"))["data"]["id"]
            yield VideoRoom(janus, process.values["ADMIN_KEY"], session, version)


def _description_in(message: dict[str, Any]) -> SessionDescription:
    if "jsep" not in message:
        raise RuntimeError(f"Janus sent no description: {message}")
    return SessionDescription(message["jsep"]["type"], message["jsep"]["sdp"])
