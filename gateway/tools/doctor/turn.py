"""Steps at the TURN servers: an allocation with the credentials of a client, and forbidden peers.

Source: RFC 8656; draft-uberti-behave-turn-rest-00. A relay that accepts peers on loopback or in private networks
lets every client reach servers behind the operator's firewall.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import secrets
import socket
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from ipaddress import ip_address

import aiohttp
from aioice import stun
from aioice.turn import (
    DEFAULT_ALLOCATION_LIFETIME,
    DEFAULT_CHANNEL_REFRESH_TIME,
    TurnClientProtocol,
    TurnClientTcpProtocol,
    TurnClientUdpProtocol,
)

from gateway.config import TurnSection
from gateway.edge.turn import credentials as make_credentials
from gateway.tools.doctor.signaling import get, json_object
from gateway.tools.doctor.steps import Outcome, failed, ok
from gateway.tools.doctor.target import Target

ANSWER_LIMIT = 8.0  # seconds for one allocation and all requests that a step makes with it
DELETE_LIMIT = 1.0  # seconds for the deletion of an allocation
PEER_PORT = 9  # discard; a permission covers all ports of an address, and no packet is sent there
FORBIDDEN_PEERS = {  # peer that the relay must refuse -> line of turnserver.conf that makes it refuse
    "127.0.0.1": "denied-peer-ip=127.0.0.0-127.255.255.255",
    "0.0.0.0": "denied-peer-ip=0.0.0.0-0.255.255.255",
    "::1": "denied-peer-ip=::1",
    "::ffff:127.0.0.1": "denied-peer-ip=::ffff:0.0.0.0-::ffff:255.255.255.255",
    "10.0.0.1": "denied-peer-ip=10.0.0.0-10.255.255.255",
    "172.16.0.1": "denied-peer-ip=172.16.0.0-172.31.255.255",
    "192.168.0.1": "denied-peer-ip=192.168.0.0-192.168.255.255",
    "169.254.169.254": "denied-peer-ip=169.254.0.0-169.254.255.255",
}
_UNAUTHORIZED, _WRONG_CREDENTIALS = 401, 441  # RFC 8489, 14.8; RFC 8656, 19
_uri = re.compile(r"(turns?):(\[[0-9A-Fa-f:.]+\]|[^:?\[\]]+)(?::([0-9]{1,5}))?(?:\?transport=(udp|tcp))?")


@dataclass(slots=True)
class ExaminedTurnCredentials:
    """The credentials for the TURN servers; ``obtain_credentials`` sets them."""

    username: str = ""
    password: str = ""


async def obtain_credentials(credentials: ExaminedTurnCredentials, target: Target, settings: TurnSection) -> Outcome:
    """Obtain credentials from the gateway; without ``api_key`` make them from the secret, as Nextcloud does."""
    if not settings.api_key:
        name = secrets.token_hex(8)
        credentials.username, credentials.password = make_credentials(settings.secret, name, time.time())
        return ok("made from the secret that the TURN servers share, as Nextcloud makes them")
    url = f"{target.url}/turn/credentials"
    try:
        status, _, body = await get(url, {"service": "turn", "api": settings.api_key})
    except (aiohttp.ClientError, OSError) as error:
        return failed("the request for credentials is not answered", "see the gateway's log", type(error).__name__)
    granted = json_object(body) if status == 200 else None
    if granted is None or not all(isinstance(granted.get(name), str) for name in ("username", "password")):
        change = (
            "reload the gateway if its file was changed (systemctl reload portunus): [turn] api_key, secret, servers"
        )
        return failed("the running gateway grants no credentials", change, f"{url} answers with HTTP status {status}")
    credentials.username, credentials.password = granted["username"], granted["password"]
    return ok(f"{url} grants credentials")


async def allocate(credentials: ExaminedTurnCredentials, uri: str) -> Outcome:
    """Allocate a relayed address, check that it is public, and delete the allocation."""
    try:
        async with asyncio.timeout(ANSWER_LIMIT), _allocation(credentials, uri) as (server, client):
            relayed = client.relayed_address
    except stun.TransactionFailed as error:
        return _allocation_failure(error)
    except (stun.TransactionError, TimeoutError):
        change = (
            "start coturn (systemctl status coturn), and let firewalls on the way pass its port, UDP as well as TCP"
        )
        return failed("the TURN server does not answer", change, uri)
    except ValueError as error:
        return failed(str(error), "write a URI like turn:turn.example.com:3478?transport=udp", uri)
    except ssl.SSLError as error:
        change = "give coturn a valid certificate (cert and pkey in turnserver.conf), or write turn in place of turns"
        return failed("TLS towards the TURN server fails", change, f"{uri}: {error.reason}")
    except OSError as error:
        change = "correct the URI in turn.servers and in Talk's settings, or start coturn (systemctl status coturn)"
        return failed("the TURN server cannot be reached", change, f"{uri}: {error.strerror or type(error).__name__}")
    address = ip_address(relayed[0]) if relayed is not None else None
    if address is not None and not address.is_global and ip_address(server).is_global:
        change = f"set external-ip={server} in turnserver.conf, and restart coturn"
        return failed(
            "the relayed address is private: no peer elsewhere reaches it", change, f"{uri} relays at {address}"
        )
    return ok(f"{uri} relays at {address}")


def _allocation_failure(error: stun.TransactionFailed) -> Outcome:
    code, reason = error.response.attributes.get("ERROR-CODE", (0, ""))
    evidence = f"error {code} {reason}".strip()
    if code in (_UNAUTHORIZED, _WRONG_CREDENTIALS):
        change = (
            "in turnserver.conf set use-auth-secret, and static-auth-secret to the value of turn.secret; synchronise"
            " the clocks; restart coturn"
        )
        return failed("the TURN server does not accept the credentials that clients get", change, evidence)
    change = "see coturn's log; its quotas are user-quota and total-quota, its ports min-port and max-port"
    return failed("the TURN server allocates no relayed address", change, evidence)


async def check_forbidden_peers(credentials: ExaminedTurnCredentials, uri: str) -> Outcome:
    """Check that the relay refuses permissions for peers on loopback and in private networks."""
    accepted = []
    try:
        async with asyncio.timeout(ANSWER_LIMIT), _allocation(credentials, uri) as (_, client):
            for peer in FORBIDDEN_PEERS:
                request = stun.Message(stun.Method.CREATE_PERMISSION, stun.Class.REQUEST)
                request.attributes["XOR-PEER-ADDRESS"] = (peer, PEER_PORT)
                try:
                    await client.request_with_retry(request)
                except stun.TransactionFailed:
                    continue
                accepted.append(peer)
    except (stun.TransactionError, OSError, TimeoutError) as error:
        change = "see coturn's log"
        return failed("the TURN server stopped answering", change, f"{uri}: {type(error).__name__}")
    if accepted:
        change = f"add to turnserver.conf, and restart coturn: {', '.join(FORBIDDEN_PEERS[peer] for peer in accepted)}"
        evidence = f"{uri} permits {', '.join(accepted)}"
        return failed("the relay leads clients to loopback or private addresses", change, evidence)
    return ok(f"{uri} refuses {', '.join(FORBIDDEN_PEERS)}")


def is_turn_uri(text: str) -> bool:
    """Return whether a text is the URI of a TURN server."""
    return _uri.fullmatch(text) is not None


@asynccontextmanager
async def _allocation(credentials: ExaminedTurnCredentials, uri: str) -> AsyncIterator[tuple[str, TurnClientProtocol]]:
    """Yield the numeric address of the TURN server and a client with an allocation, which is deleted at the end.

    Raises:
        ValueError: ``uri`` is not the URI of a TURN server.
        stun.TransactionError, OSError: the server is not reached, or allocates nothing.
    """
    match = _uri.fullmatch(uri)
    if match is None:
        raise ValueError("this is not the URI of a TURN server")
    scheme, host, port, transport = match[1], match[2].strip("[]"), int(match[3] or 0), match[4]
    secure = scheme == "turns"
    port = port or (5349 if secure else 3478)
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    server = (str(found[0][4][0]), port)

    options = (
        server,
        credentials.username,
        credentials.password,
        DEFAULT_ALLOCATION_LIFETIME,
        DEFAULT_CHANNEL_REFRESH_TIME,
    )
    client: TurnClientProtocol
    opened: asyncio.BaseTransport
    if secure or transport == "tcp":
        context = ssl.create_default_context() if secure else None
        opened, client = await loop.create_connection(
            lambda: TurnClientTcpProtocol(*options), *server, ssl=context, server_hostname=host if secure else None
        )
    else:
        opened, client = await loop.create_datagram_endpoint(
            lambda: TurnClientUdpProtocol(*options), remote_addr=server
        )
    try:
        await client.connect()
        yield server[0], client
    finally:
        try:
            await _delete(client)
        finally:
            opened.close()


async def _delete(client: TurnClientProtocol) -> None:
    """Delete the allocation, also one whose answer was lost; else it would occupy a port of the relay for minutes."""
    if client.refresh_task is not None:
        client.refresh_task.cancel()
    if client.integrity_key is not None:  # the server has answered, and may have made an allocation
        with contextlib.suppress(TimeoutError, OSError):
            async with asyncio.timeout(DELETE_LIMIT):
                await client.delete()
