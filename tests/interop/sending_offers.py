"""Offers that are sent to the gateway as given texts, and its replies."""

from __future__ import annotations

from gateway.tools.talk_client import Json, TalkClient


async def send_offer(client: TalkClient, sdp: str, **fields: str) -> Json:
    """Send an offer and return the reply: a message with the answer, or an error."""
    start = len(client.messages)
    data = {"type": "offer", "sid": "1", "roomType": "video", "payload": {"type": "offer", "sdp": sdp}, **fields}
    await client.send_message(client.session_id, data, request_id="offer")
    return await client.wait_for(_is_reply, since=start)


def _is_reply(message: Json) -> bool:
    data: Json = message.get("message", {}).get("data", {})
    return message["type"] == "error" or data.get("type") == "answer"
