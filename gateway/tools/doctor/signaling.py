"""Steps through the reverse proxy to the gateway: path, WebSocket, features, readiness.

A signaling server lists its features in a header of each HTTP response (reference 13.1). A response without this header
comes from the reverse proxy or another program.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp

from gateway.edge.operator.readiness import NO_SFU
from gateway.tools.doctor.steps import Outcome, failed, not_tried, ok, warning
from gateway.tools.doctor.target import Target
from gateway.tools.talk_check import FEATURES_HEADER, REQUIRED_FEATURES, WANTED_FEATURES, announced_features

TIMEOUT = aiohttp.ClientTimeout(total=20.0, sock_connect=10.0)  # seconds
WELCOME_MEMBER = "nextcloud-spreed-signaling"  # by which a welcome is recognised
_REDIRECTS = range(300, 400)
_PROXY_ERRORS = (502, 503, 504)
DRAIN_REMEDY = "start it again when it has ended, or cancel the drain: portunus drain --cancel -c FILE"
UPGRADE_REMEDY = (
    "nginx: `proxy_http_version 1.1;`, `proxy_set_header Upgrade $http_upgrade;` and"
    ' `proxy_set_header Connection "Upgrade";` in its location; Apache: `upgrade=websocket` in its ProxyPass'
)


async def fetch_welcome(target: Target) -> Outcome:
    """Request the welcome over HTTP, as Talk's settings page does."""
    try:
        status, headers, body = await get(f"{target.url}/api/v1/welcome")
    except (aiohttp.ClientError, OSError) as error:
        change = f"see the log of the program that listens on port {target.port}: it does not answer HTTP requests"
        return failed("the connection is closed without an answer", change, type(error).__name__)
    evidence = f"{target.url}/api/v1/welcome answers with HTTP status {status}"
    if status in _REDIRECTS:
        location = headers.get("Location", "")
        change = (
            f"use the URL to which it redirects, in Talk's settings, too: {location.removesuffix('/api/v1/welcome')}"
        )
        return failed("it redirects, which Nextcloud's requests and WebSockets do not follow", change, evidence)
    welcome = json_object(body) if status == 200 else None
    if welcome is not None and WELCOME_MEMBER in welcome:
        target.header_features = announced_features(headers)
        target.clock_offset = clock_offset(headers.get("Date", ""))
        return ok(f"{evidence}, version {welcome.get('version')}")
    if FEATURES_HEADER in headers:
        return failed(
            "the request arrives at the gateway with a wrong path: the reverse proxy does not strip the prefix"
            f" {target.path or '/'}",
            f"nginx: `location {target.path}/ {{ proxy_pass http://127.0.0.1:8080/; … }}`, with a slash at the end of"
            f" both; Apache: `ProxyPass {target.path}/ http://127.0.0.1:8080/`",
            evidence,
        )
    if status in _PROXY_ERRORS:
        change = "start the gateway (systemctl status portunus), and give the proxy the address of http.listen"
        return failed("the reverse proxy does not reach the gateway", change, evidence)
    return failed(
        "another program than the gateway answers",
        f"forward {target.path or '/'}/ to the gateway in the reverse proxy, before other rules that match; or correct"
        " the path of the URL",
        evidence,
    )


async def open_websocket(target: Target) -> Outcome:
    """Open a WebSocket and wait for the first message of the server."""
    url = f"{target.url}/spreed"
    try:
        async with (
            aiohttp.ClientSession(timeout=TIMEOUT) as http,
            http.ws_connect(url, timeout=aiohttp.ClientWSTimeout(ws_receive=TIMEOUT.total, ws_close=2.0)) as socket,
        ):
            frame = await socket.receive()
    except aiohttp.WSServerHandshakeError as error:
        return _handshake_failure(url, error)
    except (aiohttp.ClientError, OSError) as error:
        change = "see the logs of the reverse proxy and of the gateway"
        return failed("the WebSocket is closed at once", change, f"{url}: {type(error).__name__}")
    message = json_object(frame.data) if frame.type is aiohttp.WSMsgType.TEXT else None
    if message is None or message.get("type") != "welcome":
        change = f"forward {target.path}/spreed to the gateway: the server there is another one"
        return failed(
            "the WebSocket does not begin with a welcome", change, f"{url} sends a frame of {frame.type.name}"
        )
    return ok(f"{url} opens a WebSocket and sends its welcome")


def _handshake_failure(url: str, error: aiohttp.WSServerHandshakeError) -> Outcome:
    evidence = f"{url} answers the handshake with HTTP status {error.status}"
    if error.status in _PROXY_ERRORS:
        change = "give the proxy's rule for WebSockets the address of http.listen"
        return failed("the reverse proxy does not reach the gateway with WebSockets", change, evidence)
    if error.headers is not None and FEATURES_HEADER in error.headers and error.status == 429:
        return failed("the gateway refuses this address", "see `limits` in the configuration", evidence)
    return failed("the reverse proxy does not forward the upgrade to a WebSocket", UPGRADE_REMEDY, evidence)


async def check_features(target: Target) -> Outcome:
    """Compare the features that the server announces with the features that Talk requires and wants."""
    features = target.header_features
    if not features:
        change = f"have the reverse proxy pass all headers of answers, {FEATURES_HEADER} among them"
        return failed("the header with the features is removed on the way, without it Talk refuses the server", change)
    if missing := REQUIRED_FEATURES - features:
        change = "update the signaling server"
        return failed(f"Talk refuses this server, it lacks: {', '.join(sorted(missing))}", change)
    if missing := WANTED_FEATURES - features:
        change = "update the signaling server"
        return warning(f"Talk warns of this server, it lacks: {', '.join(sorted(missing))}", change)
    if "mcu" not in features:
        change = 'set type = "janus" in [mcu], and url in [[mcu.janus]]; restart the gateway'
        return warning(NO_SFU, change, f"the feature mcu is missing in {FEATURES_HEADER}")
    return ok(f"all {len(REQUIRED_FEATURES | WANTED_FEATURES)} that Talk requires or wants, and an SFU")


async def read_readiness(target: Target) -> Outcome:
    """Read from ``/readyz`` whether the gateway's SFUs and backends work."""
    try:
        status, _, body = await get(f"{target.url}/readyz")
    except (aiohttp.ClientError, OSError) as error:
        return failed("/readyz is not answered", "see the log of the gateway", type(error).__name__)
    document = json_object(body)
    state = document.get("state") if document is not None else None
    if document is None or not isinstance(state, str):
        return not_tried("this server has no /readyz: a URL of a Portunus")
    if document.get("draining") is True:
        return failed("the gateway is being drained: it opens no new sessions", DRAIN_REMEDY)
    listed = document.get("dependencies")
    bad = [entry for entry in listed or () if isinstance(entry, dict) and entry.get("state") != "ok"]
    evidence = "; ".join(f"{entry.get('name')} is {entry.get('state')}: {entry.get('reason')}" for entry in bad)
    if state == "ok":
        return ok("the gateway reports that its SFU and backends work")
    hidden = "" if listed is not None else "; the reasons are shown to addresses in stats.allowed"
    change = (
        "do what the evidence says" if bad else "see the reasons on the gateway's machine: portunus doctor -c FILE"
    ) + '; docs/operations.md, "Readiness"'
    if status == 200:
        return warning(f"the gateway reports that it works in part{hidden}", change, evidence)
    return failed(f"the gateway reports that no SFU accepts streams{hidden}", change, evidence)


async def get(url: str, query: dict[str, str] | None = None) -> tuple[int, Mapping[str, str], bytes]:
    """Request a URL without following redirects; return status, headers and body.

    Raises:
        aiohttp.ClientError, OSError: there is no answer.
    """
    async with (
        aiohttp.ClientSession(timeout=TIMEOUT) as http,
        http.get(url, params=query, allow_redirects=False) as response,
    ):
        return response.status, response.headers, await response.read()


def json_object(body: bytes | str) -> dict[str, Any] | None:
    """Decode a body that is a JSON object; ``None`` for any other body."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def clock_offset(date: str) -> float | None:
    """Return the seconds that a server's clock is ahead of this machine's; ``None``: ``date`` is no date.

    ``date`` is the header ``Date`` of a response that has just arrived.
    """
    try:
        return parsedate_to_datetime(date).timestamp() - time.time()
    except ValueError:
        return None
