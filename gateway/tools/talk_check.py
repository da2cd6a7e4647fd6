"""Talk's own check of a signaling server: the features that it requires and wants, and the server's clock.

Source: reference 1.3 (welcome), 13.1; the requirements are those of Nextcloud 32 with Talk 22. Talk refuses to use a
server that lacks a required feature, and checks each answer to a request of the rooms API for them.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

import aiohttp

REQUIRED = frozenset({"audio-video-permissions", "federation", "hello-v2", "incall-all", "switchto"})
WANTED = frozenset({"dialout", "join-features", "chat-relay", "changed-users"})
CHANGED_USERS = "changed-users"

FEATURES_HEADER = "X-Spreed-Signaling-Features"
CLOCK_TOLERANCE = 45.0  # seconds
CHECK_TIMEOUT = 30.0  # seconds


class UpdateRequired(Exception):
    """The server lacks required features; ``missing`` has them."""

    def __init__(self, missing: frozenset[str]) -> None:
        super().__init__(f"update required: the signaling server lacks {', '.join(sorted(missing))}")
        self.missing = missing


@dataclass(frozen=True, slots=True)
class ServerCheck:
    """The result of a check of a server that answers."""

    version: str
    features: frozenset[str]
    offset: float  # seconds by which the server's clock is ahead

    @property
    def missing(self) -> frozenset[str]:
        """The required features that the server lacks: Talk refuses it with the error "update required"."""
        return REQUIRED - self.features

    @property
    def warnings(self) -> frozenset[str]:
        """The wanted features that the server lacks: Talk warns the administrator."""
        return WANTED - self.features

    @property
    def clock_agrees(self) -> bool:
        """Whether the clocks differ by 45 s at most: Talk refuses other servers, since tokens would seem invalid."""
        return abs(self.offset) <= CLOCK_TOLERANCE


def announced(headers: Mapping[str, str]) -> frozenset[str]:
    """Return the feature ids in the headers of an answer."""
    return frozenset(feature.strip() for feature in headers.get(FEATURES_HEADER, "").split(",")) - {""}


def require(headers: Mapping[str, str]) -> None:
    """Check the answer to a request of the rooms API.

    Raises:
        UpdateRequired: a required feature is missing.
    """
    missing = REQUIRED - announced(headers)
    if missing:
        raise UpdateRequired(missing)


async def check_server(gateway: str, now: float | None = None) -> ServerCheck:
    """Ask ``http://host:port`` for its welcome, as the administration page of Talk does.

    Raises:
        aiohttp.ClientError: there is no answer, or its status is not 200.
        ValueError: it is not JSON with a version, or it has no date.
    """
    timeout = aiohttp.ClientTimeout(total=CHECK_TIMEOUT)
    url = f"{gateway.rstrip('/')}/api/v1/welcome"
    async with aiohttp.ClientSession(timeout=timeout, raise_for_status=True) as http, http.get(url) as response:
        body, headers = await response.read(), response.headers
    welcome = json.loads(body)
    version = welcome.get("version") if isinstance(welcome, dict) else None
    if not isinstance(version, str) or not version:
        raise ValueError("the welcome names no version")
    date = parsedate_to_datetime(headers.get("Date", "")).timestamp()
    return ServerCheck(version, announced(headers), date - (time.time() if now is None else now))
