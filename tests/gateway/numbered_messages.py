"""Messages with consecutive numbers, which show that none is lost, duplicated or out of order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from gateway.tools.talk_client import Json, TalkClient

PADDING = "x" * 100
MESSAGES_AT_ONCE = 5


async def send_numbers(sender: TalkClient, to: str, count: int) -> None:
    """Send the numbers below ``count`` to a session, a few messages at once."""
    for number in range(count):
        await sender.send_message(to, {"n": number, "padding": PADDING})
        if number % MESSAGES_AT_ONCE == 0:
            await asyncio.sleep(0.002)


def received_numbers(client: TalkClient) -> list[int]:
    """Return the numbers in the messages that a client has received, in order."""
    data = [message["message"]["data"] for message in client.messages if message["type"] == "message"]
    return [item["n"] for item in data if "n" in item]


def has_number(number: int) -> Callable[[Json], bool]:
    """Return the condition that a message has this number."""
    return lambda message: message["type"] == "message" and message["message"]["data"].get("n") == number
