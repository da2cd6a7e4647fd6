"""WebSocket connections to other signaling servers, whose URLs clients choose.

The threat is server-side request forgery (docs/threat-model.md, "Federation"). Scheme and port are checked before the
name is resolved. The connector's resolver checks each address of the name, so that the gateway connects to checked
addresses only. A redirect ends the attempt. Proxies of the environment, cookies and compression are not used.

Source: reference 12.1.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.helpers import is_ip_address
from yarl import URL

from gateway.core.limits import FederationRules
from gateway.edge.federation.addresses import is_allowed
from gateway.edge.http.address import Networks
from gateway.flows.ports import (
    CERTIFICATE_ERROR,
    NETWORK_ERROR,
    NOT_ALLOWED,
    RemoteConnectionLost,
    RemoteMessageTooLong,
    RemoteUnavailable,
)
from gateway.limited_log import LimitedLog
from gateway.standstill import PeerTimeout

HEARTBEAT = 30.0  # seconds between two pings; the connection is lost without a pong within half of that
WRITE_DEADLINE = 10.0  # seconds for the socket to take a message; then the connection is lost
CONTROL_FRAMES = 600  # pings and pongs that a server may send in a period, far more than any does
CONTROL_PERIOD = 60.0  # seconds
RESOLVER_THREADS = 8  # of this module alone: a slow name server delays no other part of the gateway
FEATURES_HEADER = "X-Spreed-Signaling-Features"
PATH = "spreed"

ADDRESS_REFUSED = "a client named a server whose address is neither public nor in federation.allowed"
TOO_LONG = "a message of another server exceeds federation.message_bytes: it is left out, and the connection is renewed"

log = logging.getLogger("portunus.federation")


class AddressNotAllowed(Exception):
    """A name has an address that the gateway must not connect to."""


class CheckedResolver(AbstractResolver):
    """Resolves names, and refuses a name if any of its addresses is not allowed."""

    def __init__(self, rules: FederationRules) -> None:
        self._rules = rules
        self._threads = ThreadPoolExecutor(RESOLVER_THREADS, "federation-resolver")

    def apply(self, rules: FederationRules) -> None:
        """Replace the rules, also for names that are being resolved."""
        self._rules = rules

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Return the addresses of a host.

        Raises:
            AddressNotAllowed: the gateway must not connect to one of them.
            OSError: the name cannot be resolved.
        """
        found = await self._look_up(host, port)
        exceptions = Networks(self._rules.allowed)
        if not all(is_allowed(address, exceptions) for _, address in found):
            raise AddressNotAllowed
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=address_family,
                proto=socket.IPPROTO_TCP,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for address_family, address in found
        ]

    async def close(self) -> None:
        """End the idle threads; a thread that waits for a name server ends with its request."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _look_up(self, host: str, port: int) -> list[tuple[int, str]]:
        """Return the addresses of a name, each with its family; tests replace this method."""
        infos = await asyncio.get_running_loop().run_in_executor(self._threads, _getaddrinfo, host, port)
        return [(family, str(address[0])) for family, _, _, _, address in infos]


def _getaddrinfo(host: str, port: int) -> Sequence[tuple[socket.AddressFamily, object, int, str, tuple[object, ...]]]:
    return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)


class WebSocketRemoteConnection:
    """Implements ``flows.ports.RemoteConnection``."""

    def __init__(
        self,
        socket: aiohttp.ClientWebSocketResponse,
        features: frozenset[str],
        clock: Callable[[], float],
        warnings: LimitedLog,
    ) -> None:
        self._socket = socket
        self.features = features
        self._clock = clock
        self._warnings = warnings
        self._control_frames = 0  # since ``_counted_from``
        self._counted_from = clock()

    async def receive(self) -> str:
        """See ``RemoteConnection.receive``."""
        while True:
            try:
                frame = await self._socket.receive()
            except (aiohttp.ClientError, OSError, RuntimeError) as error:
                raise RemoteConnectionLost from error
            if frame.type is aiohttp.WSMsgType.TEXT:
                text: str = frame.data
                return text
            if (
                isinstance(frame.data, aiohttp.WebSocketError)
                and frame.data.code == aiohttp.WSCloseCode.MESSAGE_TOO_BIG
            ):
                self._warnings.warning("length", TOO_LONG)
                self.abort()
                raise RemoteMessageTooLong
            if frame.type not in (aiohttp.WSMsgType.PING, aiohttp.WSMsgType.PONG) or self._exceeds_control_frames():
                self.abort()
                raise RemoteConnectionLost
            if frame.type is aiohttp.WSMsgType.PING:
                await self._write(self._socket.pong(frame.data))

    async def send(self, text: str) -> None:
        """See ``RemoteConnection.send``."""
        await self._write(self._socket.send_str(text))

    async def _write(self, writing: Coroutine[object, object, None]) -> None:
        try:
            async with PeerTimeout(WRITE_DEADLINE):
                await writing
        except (aiohttp.ClientError, OSError, RuntimeError, TimeoutError) as error:
            self.abort()
            raise RemoteConnectionLost from error

    def _exceeds_control_frames(self) -> bool:
        """Count a ping or pong; return whether there were too many: each costs as much time as a message."""
        now = self._clock()
        if now - self._counted_from >= CONTROL_PERIOD:
            self._counted_from, self._control_frames = now, 0
        self._control_frames += 1
        return self._control_frames > CONTROL_FRAMES

    def abort(self) -> None:
        """See ``RemoteConnection.abort``."""
        connection = self._socket._response.connection  # aiohttp has no other way to end a WebSocket at once
        if connection is not None and connection.transport is not None:
            connection.transport.abort()


class RemoteWebSockets:
    """Implements ``flows.ports.RemoteServers``; call ``close`` when done.

    ``tls`` is the ``authorities_context`` of the rules; ``clock`` is monotonic, in seconds; tests give a ``resolver``
    of their own; ``on_warning`` gets time and text of each warning.
    """

    def __init__(
        self,
        user_agent: str,
        rules: FederationRules,
        tls: ssl.SSLContext | None,
        clock: Callable[[], float],
        resolver: CheckedResolver | None = None,
        on_warning: Callable[[float, str], None] = lambda at, line: None,
    ) -> None:
        self._rules = rules
        self._clock = clock
        self._warnings = LimitedLog(log, clock, written=on_warning)
        self._headers = {"User-Agent": user_agent}
        self._resolver = resolver or CheckedResolver(rules)
        self._session: aiohttp.ClientSession | None = None
        self._tls = tls  # None: created for the next connection

    def apply(self, rules: FederationRules, tls: ssl.SSLContext | None) -> None:
        """Replace the rules and their ``authorities_context``; open connections stay open."""
        self._rules, self._tls = rules, tls
        self._resolver.apply(rules)

    async def close(self) -> None:
        """Close all connections. Idempotent."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()
        await self._resolver.close()

    async def connect(self, url: str) -> WebSocketRemoteConnection:
        """See ``RemoteServers.connect``."""
        rules = self._rules
        try:
            target = self._checked_url(url, rules)
            async with PeerTimeout(rules.timeout):
                websocket = await self._client().ws_connect(
                    target,
                    headers=self._headers,
                    ssl=self._tls_context(),
                    max_msg_size=rules.message_bytes + 1,  # the first size that aiohttp refuses
                    heartbeat=HEARTBEAT,
                    autoping=False,  # aiohttp would answer a flood of pings
                    timeout=aiohttp.ClientWSTimeout(ws_close=1.0),  # seconds
                    compress=0,  # a compressed message could be a thousand times its size on the wire
                )
        except AddressNotAllowed as error:
            # The same error as for a server that cannot be reached, so that clients cannot scan internal names.
            self._warnings.warning("address", ADDRESS_REFUSED)
            raise RemoteUnavailable(NETWORK_ERROR, "The server could not be reached.") from error
        except aiohttp.ClientConnectorCertificateError as error:
            raise RemoteUnavailable(CERTIFICATE_ERROR, "The server's certificate could not be verified.") from error
        except TimeoutError as error:
            raise RemoteUnavailable(NETWORK_ERROR, "The server did not answer in time.") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise RemoteUnavailable(NETWORK_ERROR, "The server could not be reached.") from error
        # aiohttp does not publish the headers of the response to the upgrade.
        header = websocket._response.headers.get(FEATURES_HEADER, "")
        features = frozenset(name.strip() for name in header.split(","))
        return WebSocketRemoteConnection(websocket, features, self._clock, self._warnings)

    def _client(self) -> aiohttp.ClientSession:
        if self._session is None:
            redirects = aiohttp.TraceConfig()
            redirects.on_request_redirect.append(_refuse_redirect)
            self._session = aiohttp.ClientSession(
                # Each attempt resolves and checks the name anew, and uses a connection of its own.
                connector=aiohttp.TCPConnector(
                    resolver=self._resolver, use_dns_cache=False, force_close=True, limit=0, happy_eyeballs_delay=None
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None),  # connect() applies its own timeout
                trace_configs=[redirects],
                trust_env=False,
            )
        return self._session

    def _checked_url(self, url: str, rules: FederationRules) -> URL:
        """Return the URL to connect to for the base URL of a server.

        Raises:
            RemoteUnavailable: its scheme, port or literal address is not allowed.
        """
        target = URL(url, encoded=True)
        host = target.raw_host or ""  # not decoded: a name may be malformed IDNA
        ports = {443, *rules.ports}
        if (target.scheme != "https" and not rules.allow_insecure) or target.port not in ports:
            raise RemoteUnavailable(NOT_ALLOWED, "The server's URL is not allowed.")
        # aiohttp does not resolve a literal address; other notations of one (127.1, 0x7f000001) are resolved as names.
        if is_ip_address(host) and not is_allowed(host, Networks(rules.allowed)):
            self._warnings.warning("address", ADDRESS_REFUSED)
            raise RemoteUnavailable(NETWORK_ERROR, "The server could not be reached.")
        return target.join(URL(PATH))

    def _tls_context(self) -> ssl.SSLContext:
        """Return the TLS context; without authorities in the rules it trusts the system's, read after each reload."""
        if self._tls is None:
            self._tls = ssl.create_default_context()
        return self._tls


def authorities_context(rules: FederationRules) -> ssl.SSLContext | None:
    """Create the TLS context for the authorities that the rules name; ``None``: they name none.

    Raises:
        OSError: the file cannot be read, or (``ssl.SSLError``) has no certificates.
    """
    if not rules.certificate_authorities:
        return None
    context = ssl.create_default_context()
    context.load_verify_locations(rules.certificate_authorities)
    return context


async def _refuse_redirect(*_: object) -> None:
    raise aiohttp.ClientError("redirected")
