"""Requests to a Nextcloud, as a gateway sends them."""

from __future__ import annotations

import json
from typing import Any

import aiohttp

from gateway.tools.fake_nextcloud import FakeNextcloud
from gateway.tools.talk_rooms import Json
from gateway.wire import checksum

RANDOM = "r" * 64


async def ask(cloud: FakeNextcloud, type: str, body: Json, secret: str | None = None, random: str = RANDOM) -> Any:
    """Send a request as a gateway does and return ``ocs.data``."""
    text = json.dumps({"type": type, type: body}).encode()
    headers = {
        "Content-Type": "application/json",
        "Spreed-Signaling-Random": random,
        "Spreed-Signaling-Checksum": checksum.sign(cloud.secret if secret is None else secret, random, text),
    }
    url = f"{cloud.url}ocs/v2.php/apps/spreed/api/v3/signaling/backend"
    async with (
        aiohttp.ClientSession(raise_for_status=True) as session,
        session.post(url, data=text, headers=headers) as response,
    ):
        return (await response.json())["ocs"]["data"]
