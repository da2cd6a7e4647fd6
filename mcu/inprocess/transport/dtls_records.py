"""Splits a datagram into DTLS records, for aiortc, which expects one record in each datagram.

Source: RFC 6347, 4.1; RFC 9147, 4.
"""

from __future__ import annotations

from collections.abc import Iterator

APPLICATION_DATA = 23  # content type of a DTLS record (RFC 6347, 4.1)
MAX_RECORD = 2048  # bytes of a DTLS record
MAX_DATA_RECORD = 1500  # bytes of a record with application data: aiortc reads no more, and keeps the rest for ever


def dtls_records(datagram: bytes) -> Iterator[bytes]:
    """Yield the DTLS records of a datagram, except oversized ones, up to the first malformed one."""
    at = 0
    while at < len(datagram):
        first = datagram[at]
        if 31 < first < 64:  # DTLS 1.3, encrypted (RFC 9147, 4)
            header = 2 + bool(first & 0x08) + 2 * bool(first & 0x04)
            has_length = first & 0x04
        else:
            header, has_length = 13, 1
        if at + header > len(datagram):
            return
        length = int.from_bytes(datagram[at + header - 2 : at + header], "big") if has_length else len(datagram)
        end = min(at + header + length, len(datagram)) if not has_length else at + header + length
        if end > len(datagram):
            return
        is_data = first == APPLICATION_DATA or first > 31
        if end - at <= (MAX_DATA_RECORD if is_data else MAX_RECORD):
            yield datagram[at:end]
        at = end
