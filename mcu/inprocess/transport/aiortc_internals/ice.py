"""ICE on sockets of our own: port range, loopback, and packets that do not pass through aioice's queue."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any

import aioice
from aioice.candidate import candidate_foundation, candidate_priority
from aioice.ice import CandidatePair, StunProtocol
from aioice.stun import Message

from mcu.inprocess.settings import InprocessSettings
from mcu.inprocess.transport.aiortc_internals.sockets import bind, machine_addresses
from mcu.inprocess.transport.dtls_records import dtls_records
from mcu.inprocess.transport.stun_rate import StunRate

COMPONENT = 1  # RTP and RTCP share one (RFC 8834, 4.5)
MAX_QUEUED = 256  # DTLS records that wait for DTLS
MAX_STUN = 1280  # bytes; checks have 100 to 250, and no message may exceed the MTU (RFC 8489, 6.1)
MAX_REMOTE_CANDIDATES = 128  # peer-reflexive ones included
SETTLING_TIME = 0.5  # seconds for the first packet of a client that has moved to another address

log = logging.getLogger("portunus.inprocess")


class NoSocketError(Exception):
    """None of the configured addresses and ports could be bound."""


class IceTransport(aioice.Connection):
    """ICE on the addresses and ports of the settings.

    A *renewal* is the time in which the client may replace its ICE transport by another one, while the SFU keeps its
    sockets and credentials (docs/mcu.md). "Transport" means that of the client here.
    """

    def __init__(
        self,
        settings: InprocessSettings,
        receive: Callable[[bytes], object],
        on_renewed: Callable[[], object] = lambda: None,
        in_use: Callable[[], bool] = lambda: False,
        *,
        controlling: bool,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Create ICE without sockets; ``on_renewed`` is called when the client's next transport is nominated.

        ``in_use`` returns whether the client's transport is connected.
        """
        super().__init__(ice_controlling=controlling)
        self._settings = settings
        self._pair: CandidatePair | None = None  # the nominated pair that ``_destination`` belongs to
        self._destination: tuple[Callable[[bytes, Any], None], tuple[str, int]] | None = None
        self.receive_srtp: Callable[[bytes], object] = receive
        self.drops_received = False  # whether all received datagrams are dropped, for tests
        self._on_renewed = on_renewed
        self._in_use = in_use
        self._ufrag = ""  # the client's, of the transport in use; until the first nomination, of the expected one
        self._passwords: dict[str, str] = {}  # ufrag -> password of the transport in use, and of the next one
        self._sources: dict[tuple[str, int], str] = {}  # address of a candidate or check -> ufrag of the client
        self._sources_before: frozenset[tuple[str, int]] | None = None  # during a renewal: the sources from before it
        self._former_sources: frozenset[tuple[str, int]] = frozenset()  # after a renewal: those of the old transport
        self._doubtful_address: tuple[str, int] | None = None  # of the transport in use or the next one
        self._settling: asyncio.TimerHandle | None = None
        self._clock = clock
        self._client_rate, self._strangers_rate = StunRate(), StunRate()

    async def get_component_candidates(
        self,
        component: int,
        addresses: list[str],
        timeout: int = 5,  # noqa: ASYNC109  aioice's signature
    ) -> list[aioice.Candidate]:
        """Bind one socket per address of the settings, by default of the machine; ``addresses`` is not used."""
        candidates: list[aioice.Candidate] = []
        for rank, address in enumerate(self._settings.addresses or machine_addresses()):
            bound = bind(address, self._settings)
            if bound is None:
                continue
            _, protocol = await asyncio.get_running_loop().create_datagram_endpoint(
                lambda: _DemultiplexingSocket(self), sock=bound
            )
            self._protocols.append(protocol)
            host, port = bound.getsockname()[:2]
            protocol.local_candidate = aioice.Candidate(
                foundation=candidate_foundation("host", "udp", host),
                component=component,
                transport="udp",
                priority=candidate_priority(component, "host", max(0, 65535 - rank)),
                host=host,
                port=port,
                type="host",
            )
            candidates.append(protocol.local_candidate)
        if not candidates:
            raise NoSocketError("no UDP port could be bound")
        return candidates

    def set_remote(self, ufrag: str, password: str, *, lite: bool) -> None:
        """Set the client's credentials before ``connect``; the SFU is the controlling side of an ICE lite client."""
        self.remote_username, self.remote_password = ufrag, password
        self._ufrag, self._passwords = ufrag, {ufrag: password}
        self.remote_is_lite = lite
        if lite:
            self.ice_controlling = True

    async def connect(self) -> None:
        """Wait for a nomination, and start again the checks of a renewal, which aioice then cancels with the others."""
        await super().connect()
        for pair in self._check_list:
            if pair.task is not None:
                pair.task, pair.state = None, CandidatePair.State.FROZEN
        self._check_renewed_transport()

    def add(self, candidate: aioice.Candidate) -> None:
        """Add a remote candidate whose address is an IP literal."""
        address = candidate.host, candidate.port
        if address in self._former_sources:
            return
        self._add_remote_candidate(candidate, candidate.host)
        self._add_source(address, self.remote_username or "")
        self._check_renewed_transport()

    def _check_renewed_transport(self) -> None:
        """Start the checks of a renewal: aioice starts none after the first nomination."""
        if self._sources_before is not None:
            for pair in self._check_list:
                if pair.state is CandidatePair.State.FROZEN:
                    self.check_start_task(pair)

    def check_start_task(self, pair: CandidatePair) -> None:
        """Start a check; in a renewal mark it IN_PROGRESS first: a nomination removes WAITING and FROZEN pairs."""
        if self._sources_before is not None and pair.task is None:
            self.check_state(pair, CandidatePair.State.IN_PROGRESS)
        super().check_start_task(pair)

    def data_received(self, data: bytes, component: int) -> None:
        """Queue a DTLS record; drop it while too many wait."""
        if self._queue.qsize() < MAX_QUEUED:
            super().data_received(data, component)

    def is_source(self, address: tuple[str, int]) -> bool:
        """Return whether a datagram other than STUN may come from an address."""
        return address in self._sources

    def may_read_stun(self, address: tuple[str, int]) -> bool:
        """Return whether a STUN message from an address may be read, and count it if so.

        Strangers have a rate of their own, so that they cannot displace the checks of the client.
        """
        rate = self._client_rate if address in self._sources else self._strangers_rate
        return rate.take(self._clock())

    def request_received(self, message: Message, addr: tuple[str, int], protocol: StunProtocol) -> None:
        """Answer a connectivity check; store the source of an authentic check that arrives before ``connect``."""
        super().request_received(message, addr, protocol)
        if self._early_checks and self._early_checks[-1][0] is message:
            self._add_source(addr, _ufrag_of(message))

    def _valid_username(self, username: str) -> bool:
        """Return whether a check is of the client's transport in use, or of the next one."""
        local, _, ufrag = username.partition(":")
        return local == self.local_username and (not self._passwords or ufrag in self._passwords)

    def build_request(self, pair: CandidatePair, nominate: bool) -> Message:
        """Return a check with the ufrag of the client's transport that has the address."""
        request = super().build_request(pair, nominate)
        request.attributes["USERNAME"] = f"{self._ufrag_at(pair.remote_addr)}:{self.local_username}"
        return request

    def key_for(self, address: tuple[str, int]) -> bytes:
        """Return the key for the integrity of checks that are sent to an address."""
        return self._passwords[self._ufrag_at(address)].encode()

    def _ufrag_at(self, address: tuple[str, int]) -> str:
        ufrag = self._sources.get(address)
        return ufrag if ufrag in self._passwords else self.remote_username or ""

    def check_incoming(self, message: Message, addr: tuple[str, int], protocol: StunProtocol) -> None:
        """Handle an authentic check, unless it is of a former transport or would add a candidate beyond the limit."""
        if addr in self._former_sources:
            return
        if addr not in self._sources and len(self._remote_candidates) >= MAX_REMOTE_CANDIDATES:
            return
        self._add_source(addr, _ufrag_of(message))
        super().check_incoming(message, addr, protocol)

    def _add_source(self, address: tuple[str, int], ufrag: str) -> None:
        if len(self._sources) >= 2 * MAX_REMOTE_CANDIDATES:
            kept = {(c.host, c.port) for c in self._remote_candidates[-MAX_REMOTE_CANDIDATES:]}
            self._sources = {source: of_source for source, of_source in self._sources.items() if source in kept}
        self._sources[address] = ufrag

    @property
    def renewing(self) -> bool:
        """Whether the client may begin a new transport in place of its old one."""
        return self._sources_before is not None

    def renew(self, ufrag: str, password: str) -> None:
        """Accept a new transport of the client with these credentials, which may be those of the old one.

        Until an address of the new transport is nominated the client may also keep its old transport, at any address;
        then the old one's addresses are forgotten, and its datagrams dropped. The SFU's credentials and sockets stay.
        """
        self.assign_to_next_transport()  # the client may keep the transport that is in doubt
        self.remote_username, self.remote_password = ufrag, password
        self._passwords = {self._ufrag: self._passwords[self._ufrag], ufrag: password}
        self._sources_before, self._former_sources = frozenset(self._sources), frozenset()

    def end_renewal(self) -> None:
        """Accept no new transport any more: the client has kept its old one."""
        self._cancel_settling()
        self._sources_before = None

    def _is_of_next_transport(self, address: tuple[str, int]) -> bool:
        """Return whether an address is one of the client's next transport, or may be one.

        The ufrag of its checks decides. Firefox begins further transports with the ufrag of the first one; then an
        address belongs to the next transport if it was unknown before.
        """
        if self.remote_username != self._ufrag:
            return self._sources.get(address) == self.remote_username
        return self._sources_before is not None and address not in self._sources_before

    def check_complete(self, pair: CandidatePair) -> None:
        """End the renewal if a pair of the client's new transport was nominated.

        If the transport in use has the same ufrag, and is connected, it may have moved to that address: then a packet
        that it has encrypted arrives from there within ``SETTLING_TIME``, and the client keeps the transport.
        """
        super().check_complete(pair)
        address = pair.remote_addr
        if self._nominated.get(COMPONENT) is not pair:
            return
        if self._sources_before is None or not self._is_of_next_transport(address):
            return
        if self.remote_username != self._ufrag or not self._in_use():
            self._complete_renewal()
        elif self._doubtful_address != address:
            self._cancel_settling()
            self._doubtful_address = address
            self._settling = asyncio.get_running_loop().call_later(SETTLING_TIME, self.assign_to_next_transport)

    @property
    def doubtful_address(self) -> tuple[str, int] | None:
        """The nominated address, while it may belong to the transport in use or to the next one."""
        return self._doubtful_address

    def assign_to_current_transport(self) -> None:
        """Assign the doubtful address to the transport in use."""
        if self._sources_before is not None and self._doubtful_address is not None:
            self._sources_before |= {self._doubtful_address}
        self._cancel_settling()

    def assign_to_next_transport(self) -> None:
        """Assign a doubtful address to the next transport, which ends the renewal."""
        address, pair = self._doubtful_address, self._nominated.get(COMPONENT)
        self._cancel_settling()
        if pair is not None and pair.remote_addr == address and not self._closing:
            self._complete_renewal()

    def _cancel_settling(self) -> None:
        self._doubtful_address = None
        if self._settling is not None:
            self._settling.cancel()
            self._settling = None

    def _complete_renewal(self) -> None:
        """Forget the client's old transport."""
        former = frozenset(address for address in self._sources if not self._is_of_next_transport(address))
        self._former_sources = former
        self._sources_before, self._ufrag = None, self.remote_username or ""
        self._passwords = {self._ufrag: self.remote_password or ""}
        self._sources = {address: ufrag for address, ufrag in self._sources.items() if address not in former}
        for other in [other for other in self._check_list if other.remote_addr in former]:
            if other.task is not None:
                other.task.cancel()
            self._check_list.remove(other)
        self._remote_candidates[:] = [c for c in self._remote_candidates if (c.host, c.port) not in former]
        self._queue = asyncio.Queue()  # the old transport's records stay with its reader
        self._on_renewed()

    def send_now(self, data: bytes) -> bool:
        """Send a datagram on the nominated pair without awaiting; ``False`` if there is none."""
        pair = self._nominated.get(COMPONENT)
        if pair is not self._pair:
            self._pair = pair
            self._destination = None if pair is None else (pair.protocol.transport.sendto, pair.remote_addr)
        if self._destination is None:
            return False
        send, to = self._destination
        send(data, to)
        return True


class _DemultiplexingSocket(StunProtocol):
    """A UDP socket that demultiplexes SRTP, DTLS and STUN by the first byte (RFC 7983)."""

    def __init__(self, ice: IceTransport) -> None:
        super().__init__(ice)
        self._ice = ice

    async def request(
        self,
        request: Message,
        addr: tuple[str, int],
        integrity_key: bytes | None = None,
        retransmissions: int | None = None,
    ) -> tuple[Message, tuple[str, int]]:
        """Send a check with the password of the client's transport that has the address."""
        return await super().request(request, addr, self._ice.key_for(addr), retransmissions)

    def datagram_received(self, data: bytes | str, addr: tuple[Any, ...]) -> None:
        """Dispatch one datagram; must not raise."""
        if isinstance(data, str) or len(data) < 2 or self._ice.drops_received:
            return
        first = data[0]
        if 127 < first < 192:
            if self._ice.is_source(addr[:2]):
                authentic = self._ice.receive_srtp(data)
                if authentic is True and addr[:2] == self._ice.doubtful_address:
                    self._ice.assign_to_current_transport()
        elif 19 < first < 64:
            if self._ice.is_source(addr[:2]):
                for record in dtls_records(data):
                    self._ice.data_received(record, COMPONENT)
        elif first < 4 and len(data) <= MAX_STUN and self._ice.may_read_stun(addr[:2]):
            try:
                super().datagram_received(data, addr)
            except Exception:
                log.debug("aioice failed on a STUN message", exc_info=True)


def _ufrag_of(check: Message) -> str:
    """Return the client's ufrag in a connectivity check (RFC 8445, 7.2.2)."""
    return str(check.attributes["USERNAME"]).partition(":")[2]
