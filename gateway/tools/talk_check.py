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

CHANGED_USERS = "changed-users"
REQUIRED_FEATURES = frozenset({"audio-video-permissions", "federation", "hello-v2", "incall-all", "switchto"})
WANTED_FEATURES = frozenset({"dialout", "join-features", "chat-relay", CHANGED_USERS})

FEATURES_HEADER = "X-Spreed-Signaling-Features"
CLOCK_TOLERANCE = 45.0  # seconds that the clocks may differ
CHECK_TIMEOUT = 30.0  # seconds for the welcome


class UpdateRequired(Exception):
    """The server lacks the required features in ``missing``."""

    def __init__(self, missing: frozenset[str]) -> None:
        super().__init__(f"update required: the signaling server lacks {', '.join(sorted(missing))}")
        self.missing = missing


@dataclass(frozen=True, slots=True)
class ServerCheck:
    """The version, features and clock of a signaling server, and Talk's judgement of them."""

    version: str
    features: frozenset[str]
    clock_offset: float  # seconds that the server's clock is ahead of Nextcloud's

    @property
    def missing_required_features(self) -> frozenset[str]:
        """The required features that the server lacks; Talk refuses a server that lacks one."""
        return REQUIRED_FEATURES - self.features

    @property
    def missing_wanted_features(self) -> frozenset[str]:
        """The wanted features that the server lacks; Talk warns the administrator of them."""
        return WANTED_FEATURES - self.features

    @property
    def clock_agrees(self) -> bool:
        """Whether the clocks differ by 45 s at most; otherwise Talk refuses the server, as tokens may seem invalid."""
        return abs(self.clock_offset) <= CLOCK_TOLERANCE


def announced_features(headers: Mapping[str, str]) -> frozenset[str]:
    """Return the feature ids that the headers of an answer announce."""
    return frozenset(feature.strip() for feature in headers.get(FEATURES_HEADER, "").split(",")) - {""}


def require_features(headers: Mapping[str, str]) -> None:
    """Check that the headers of an answer of the rooms API announce all required features.

    Raises:
        UpdateRequired: a required feature is missing.
    """
    missing = REQUIRED_FEATURES - announced_features(headers)
    if missing:
        raise UpdateRequired(missing)


async def check_server(gateway: str, now: float | None = None) -> ServerCheck:
    """Fetch the welcome of the server at ``gateway`` (``http://host:port``), as Talk's administration page does.

    ``now`` is the unix time of Nextcloud's clock in seconds; ``None``: the system's.

    Raises:
        aiohttp.ClientError, TimeoutError: there is no answer, or its status is not 2xx.
        ValueError: the answer is not JSON with a version, or has no date.
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
    return ServerCheck(version, announced_features(headers), date - (time.time() if now is None else now))
