"""What an operator may set under ``[mcu.inprocess]``."""

from __future__ import annotations

from ipaddress import ip_address

import msgspec

MIN_PORT = 1024
MAX_PORT = 65535


class InprocessSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where the in-process SFU binds its UDP sockets, and what it tells clients about them.

    Raises:
        ValueError: an address is not an IP address, or the range of ports is empty or out of bounds.
    """

    address: str | tuple[str, ...] = ()  # bound and announced; empty = each address of the machine but loopback
    announced_address: str = ""  # told to clients in place of ``address``: the public side of a 1:1 NAT
    port_min: int = 0  # 0 for both = any free port
    port_max: int = 0
    test_controls: bool = False  # counters and switches over HTTP: for the gateway, which serves them

    def __post_init__(self) -> None:
        for entry in (*self.addresses, *filter(None, [self.announced_address])):
            if ip_address(entry).is_unspecified:
                raise ValueError(f"{entry!r} is no address that a client could send to")
        if (self.port_min, self.port_max) != (0, 0) and not MIN_PORT <= self.port_min <= self.port_max <= MAX_PORT:
            raise ValueError(f"port_min and port_max must hold {MIN_PORT} <= port_min <= port_max <= {MAX_PORT}")

    @property
    def addresses(self) -> tuple[str, ...]:
        """The addresses to bind; empty where the machine is to be asked."""
        if isinstance(self.address, str):
            return (self.address,) if self.address else ()
        return self.address
