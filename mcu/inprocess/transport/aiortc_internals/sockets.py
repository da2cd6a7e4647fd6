"""The UDP sockets of a connection: one for each address, on a free port of the settings' range."""

from __future__ import annotations

import logging
import random
import socket

from aioice.ice import get_host_addresses

from mcu.inprocess.settings import InprocessSettings

RECEIVE_BUFFER = 1 << 20  # bytes per UDP socket: keyframes come in bursts

log = logging.getLogger("portunus.inprocess")


def machine_addresses() -> tuple[str, ...]:
    """Return the addresses of this machine, loopback if it has no other.

    Raises:
        OSError: the system does not tell them.
    """
    return tuple(get_host_addresses(use_ipv4=True, use_ipv6=True)) or ("127.0.0.1",)


def sockets_of_connection(settings: InprocessSettings) -> int:
    """Return the number of sockets, and of descriptors, of one connection: one for each address."""
    try:
        return len(settings.addresses or machine_addresses())
    except OSError:
        return 1


def binding_problem(settings: InprocessSettings) -> str:
    """Return the reason why no address can be bound, in one sentence; empty if one can be bound."""
    try:
        addresses = settings.addresses or machine_addresses()
    except OSError:
        addresses = ()
    if _can_bind_any(addresses, settings):
        return ""
    if not _can_bind_any(("127.0.0.1", "::1"), InprocessSettings()):
        return "no UDP socket can be opened"
    if _can_bind_any(addresses, InprocessSettings()):
        return "no UDP port from mcu.inprocess.port_min to mcu.inprocess.port_max is free"
    if settings.addresses:
        return "mcu.inprocess.address is not an address of this machine"
    return "this machine has no address that could be bound; set mcu.inprocess.address"


def _can_bind_any(addresses: tuple[str, ...], settings: InprocessSettings) -> bool:
    for address in addresses:
        bound = bind(address, settings)
        if bound is not None:
            bound.close()
            return True
    return False


def bind(address: str, settings: InprocessSettings) -> socket.socket | None:
    """Return a socket on a free port of the range; ``None`` if no port is free or the address is not this machine's."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    if settings.port_min == 0:
        ports = [0]
    else:
        ports = list(range(settings.port_min, settings.port_max + 1))
        random.shuffle(ports)
    try:
        bound = socket.socket(family, socket.SOCK_DGRAM)
    except OSError as error:
        log.debug("a UDP socket could not be opened: %s", error.strerror)
        return None
    bound.setblocking(False)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
    for port in ports:
        try:
            bound.bind((address, port))
        except OSError as error:
            log.debug("a UDP port is not free: %s", error.strerror)
        else:
            return bound
    bound.close()
    return None
