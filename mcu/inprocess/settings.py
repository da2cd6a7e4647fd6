"""The ``[mcu.inprocess]`` section of the configuration."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Annotated

import msgspec

MIN_PORT = 1024
MAX_PORT = 65535


class InprocessSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Addresses and ports of the in-process SFU's UDP sockets, as bound and as announced in candidates.

    Raises:
        ValueError: an address is not an IP address or is unspecified, or the port range is empty or out of bounds.
    """

    address: str | tuple[str, ...] = ()  # bound and announced; empty: see ``addresses``
    announced_address: str = ""  # in candidates in place of ``address``: the public side of a 1:1 NAT
    port_min: int = 0  # 0 for both = any free port
    port_max: int = 0
    peer_connections: Annotated[int, msgspec.Meta(ge=0)] = 12_000  # at most; 0 = no limit
    test_controls: bool = False  # whether the gateway serves counters and impairments over HTTP (docs/testing.md)

    def __post_init__(self) -> None:
        for entry in (*self.addresses, *filter(None, [self.announced_address])):
            if ip_address(entry).is_unspecified:
                raise ValueError(f"{entry!r} is no address that a client could send to")
        if (self.port_min, self.port_max) != (0, 0) and not MIN_PORT <= self.port_min <= self.port_max <= MAX_PORT:
            raise ValueError(f"port_min and port_max must hold {MIN_PORT} <= port_min <= port_max <= {MAX_PORT}")

    @property
    def ports(self) -> int:
        """The number of ports on each address; 0 = as many as are free."""
        return self.port_max - self.port_min + 1 if self.port_max else 0

    @property
    def addresses(self) -> tuple[str, ...]:
        """The addresses to bind; empty = all addresses of the machine, loopback only if there is no other."""
        if isinstance(self.address, str):
            return (self.address,) if self.address else ()
        return self.address
