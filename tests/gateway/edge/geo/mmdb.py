"""Writer of databases in MaxMind's format (specification 2.0), with 24-bit records and one value per network."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_network

_MARKER = b"\xab\xcd\xefMaxMind.com"
_SEPARATOR = bytes(16)
_STRING, _UINT32, _MAP, _UINT64, _ARRAY = 2, 6, 7, 9, 11

Tree = list["Tree | int | None"]  # [left, right]; a number is an offset in the data section


def country_record(code: str, continent: str) -> dict[str, object]:
    """Return a record in the form of MaxMind's country databases."""
    return {
        "continent": {"code": continent, "names": {"en": "somewhere"}},
        "country": {"iso_code": code, "names": {"en": "a country"}},
    }


def write(records: Mapping[str, object], *, version: int = 6, type: str = "Test-Country") -> bytes:
    """Encode a database of records by network; in an IPv6 database IPv4 networks are below ``::/96``."""
    tree: Tree = [None, None]
    data = bytearray()
    for text, record in records.items():
        network = ip_network(text)
        bits = f"{int(network.network_address):0{network.max_prefixlen}b}"[: network.prefixlen]
        _insert(tree, bits if network.version == version else "0" * 96 + bits, len(data))
        data += _encoded(record)
    nodes = _nodes(tree)
    numbers = {id(node): number for number, node in enumerate(nodes)}
    search = bytearray()
    for node in nodes:
        for branch in node:
            if branch is None:
                value = len(nodes)
            elif isinstance(branch, int):
                value = len(nodes) + len(_SEPARATOR) + branch
            else:
                value = numbers[id(branch)]
            search += value.to_bytes(3)
    return bytes(search) + _SEPARATOR + bytes(data) + _MARKER + _metadata(len(nodes), version, type)


def _insert(tree: Tree, bits: str, offset: int) -> None:
    node = tree
    for bit in map(int, bits[:-1]):
        child = node[bit]
        if not isinstance(child, list):
            child = node[bit] = [None, None]
        node = child
    node[int(bits[-1])] = offset


def _nodes(tree: Tree) -> list[Tree]:
    return [tree, *(node for branch in tree if isinstance(branch, list) for node in _nodes(branch))]


def _metadata(nodes: int, version: int, type: str) -> bytes:
    return _encoded(
        {
            "node_count": nodes,
            "record_size": 24,
            "ip_version": version,
            "database_type": type,
            "languages": ["en"],
            "binary_format_major_version": 2,
            "binary_format_minor_version": 0,
            "build_epoch": 1_700_000_000,
            "description": {"en": "for tests"},
        }
    )


def _encoded(value: object) -> bytes:
    match value:
        case str():
            return _head(_STRING, len(value.encode())) + value.encode()
        case int():
            octets = value.to_bytes((value.bit_length() + 7) // 8)
            return _head(_UINT32 if len(octets) <= 4 else _UINT64, len(octets)) + octets
        case dict():
            members = b"".join(_encoded(name) + _encoded(member) for name, member in value.items())
            return _head(_MAP, len(value)) + members
        case list():
            return _head(_ARRAY, len(value)) + b"".join(map(_encoded, value))
    raise TypeError(value)


def _head(type_number: int, size: int) -> bytes:
    assert size < 29
    return bytes([type_number << 5 | size]) if type_number < 8 else bytes([size, type_number - 7])
