"""The step that checks which address of a client arrives at the gateway through the reverse proxy.

A signed request asks the gateway which address it sees (docs/doctor.md). A gateway that sees the proxy's address counts
all clients as one, and a proxy that passes on what clients write into the headers lets them choose their address.
"""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Sequence
from ipaddress import ip_address
from typing import Any

import aiohttp
import msgspec

from gateway.edge.http.address import Networks
from gateway.edge.nextcloud.rooms_api import SEEN_CLIENT_HEADER, SeenClient
from gateway.tools.doctor.nextcloud import ROOM, ExaminedNextcloud
from gateway.tools.doctor.signaling import json_object
from gateway.tools.doctor.steps import Outcome, failed, not_tried, ok
from gateway.tools.doctor.target import Target
from gateway.tools.talk_notifier import TalkNotifier

FORGED_REAL_IP, FORGED_FORWARDED = "192.0.2.77", "192.0.2.78"  # in no network (RFC 5737)
HEADERS_REMEDY = (
    "nginx: `proxy_set_header X-Real-IP $remote_addr;` and"
    " `proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;` in its location; Apache: `RequestHeader set"
    " X-Real-IP expr=%{REMOTE_ADDR}`; Caddy: `header_up X-Real-IP {remote_host}` in its reverse_proxy"
)


async def check_client_address(nextcloud: ExaminedNextcloud, target: Target, trusted: Sequence[str]) -> Outcome:
    """Check that the address of this machine arrives at the gateway, and no forged one.

    ``trusted`` is ``http.trusted_proxies`` in the file of the configuration, which has the secret of the backend.
    """
    if not nextcloud.backend.secret:
        return not_tried("the gateway's configuration, which has the shared secret: -c FILE")
    try:
        seen, own = await _ask(nextcloud, target, {})
        if seen is None:
            return not_tried("this server does not tell which address it sees: a URL of a Portunus of this version")
        if (seen.peer, seen.peer_port) in own:
            return ok(f"the gateway sees {seen.address}: no proxy is in between")
        if (found := _unforged_problem(seen, trusted)) is not None:
            return found
        forged = {"X-Real-IP": FORGED_REAL_IP, "X-Forwarded-For": FORGED_FORWARDED}
        again, _ = await _ask(nextcloud, target, forged)
    except (aiohttp.ClientError, OSError) as error:
        change = "see the log of the reverse proxy: it closes POST requests to /api/v1/room/"
        return failed("a request of the rooms API is not answered", change, type(error).__name__)
    if again is not None and _is_forged(again):
        evidence = f"a request with a forged {_forged_header(again)} arrives as one of {again.address}"
        return failed("clients can choose the address under which they count", HEADERS_REMEDY, evidence)
    return ok(f"the gateway sees {seen.address} as this machine's address, which the trusted proxy {seen.peer} names")


def _unforged_problem(seen: SeenClient, trusted: Sequence[str]) -> Outcome | None:
    """Return the outcome for a request that came through a proxy, without forged headers; ``None``: it is right."""
    if not seen.named and not ip_address(seen.peer).is_private and not seen.trusted:
        return ok(f"the gateway sees {seen.address}: there is a NAT in between, or a proxy without X-Forwarded-For")
    evidence = f"the gateway sees {seen.address}, from which the proxy connects"
    if not seen.named:
        return failed("the reverse proxy does not name the address of the client", HEADERS_REMEDY, evidence)
    if not seen.trusted:
        entries = json.dumps([*trusted, seen.peer])
        change = f"write under [http]: trusted_proxies = {entries} and reload the gateway (systemctl reload portunus)"
        if ip_address(seen.peer) in Networks(trusted):
            change = "reload the gateway (systemctl reload portunus): the file names the proxy in http.trusted_proxies"
        return failed("all clients count as one address: the gateway does not trust the proxy", change, evidence)
    return None


def _is_forged(seen: SeenClient) -> bool:
    """Return whether a forged address counts.

    That of ``X-Forwarded-For`` may count for a client that is in ``trusted_proxies`` itself, which the proxy has added.
    """
    return seen.address == FORGED_REAL_IP or (seen.address == FORGED_FORWARDED and seen.named[-1] == FORGED_FORWARDED)


def _forged_header(seen: SeenClient) -> str:
    return "X-Real-IP" if seen.address == FORGED_REAL_IP else "X-Forwarded-For"


async def _ask(
    nextcloud: ExaminedNextcloud, target: Target, headers: dict[str, str]
) -> tuple[SeenClient | None, list[tuple[Any, ...]]]:
    """Send a signed request; return how it arrives, and the addresses and ports from which it was sent.

    Raises:
        aiohttp.ClientError, OSError: there is no answer.
    """
    sockets: list[socket.socket] = []

    def create(address: tuple[Any, ...]) -> socket.socket:
        sockets.append(socket.socket(*address[:3]))
        return sockets[-1]

    client = aiohttp.ClientSession(connector=aiohttp.TCPConnector(socket_factory=create))
    notifier = TalkNotifier(client)
    message = {"type": "message", "message": {"data": {"type": ROOM}}}
    try:
        answer = await notifier.send(
            target.url,
            ROOM,
            message,
            secret=nextcloud.backend.secret,
            backend=nextcloud.url,
            headers={SEEN_CLIENT_HEADER: "1", **headers},
        )
        own = []
        for sock in sockets:
            with contextlib.suppress(OSError):
                own.append(sock.getsockname()[:2])
    finally:
        await notifier.close()
    document = json_object(answer.text) or {}
    try:
        return msgspec.convert(document.get("client"), SeenClient), own
    except msgspec.ValidationError:
        return None, own
