"""Limits the TLS records that carry no content, which OpenSSL answers without telling the program.

Source: RFC 8446, 4.6.3; docs/operations.md, "Limits". A KeyUpdate record has 27 octets and takes 20 us of CPU time: one
connection that sends 1.2 MB/s of them would occupy a core, without a single octet that another limit counts. A client
needs no more than one KeyUpdate for many gigabytes.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable
from typing import Any

OVERHEAD = 40  # octets that a record may have besides its content; TLS 1.3 adds 22, TLS 1.2 with AES-GCM 29
ALLOWANCE = 32_768  # octets beyond ``OVERHEAD`` that a connection may send in ``PERIOD``, such as padding
PERIOD = 60.0  # seconds after which a connection gets the allowance again
_PIECE = 4096  # octets that OpenSSL gets at once
_LONGEST_RECORD = 5 + 16_384 + 256  # octets


class TooMuchOverhead(ssl.SSLError):
    """The client sends TLS records without content."""


class LimitedConnection(ssl.SSLObject):
    """A TLS connection that fails when the octets received exceed the content by too many.

    OpenSSL gets the octets of ``incoming`` in pieces, since it processes all that it has before it returns.
    The program must read at least 16 KiB at once, the content of a record: what one read leaves of a record counts as
    overhead, so that an ``asyncio.BufferedProtocol`` with a smaller buffer would lose its connection.
    """

    incoming: ssl.MemoryBIO  # the program writes the octets received here
    fed: ssl.MemoryBIO  # OpenSSL reads them here
    clock: Callable[[], float] = staticmethod(time.monotonic)
    _taken = 0  # octets that OpenSSL has taken since the last content
    _spent = 0  # octets of the allowance
    _since = 0.0

    def read(self, len: int = 1024, buffer: Any = None) -> Any:
        """See ``ssl.SSLObject.read``.

        Raises:
            TooMuchOverhead: in addition.
        """
        if not self.pending():  # the first read would raise an ``SSLWantReadError``, which is expensive
            self._feed()
        before = self.fed.pending
        while True:
            try:
                content = super().read(len, buffer)
            except ssl.SSLWantReadError:
                self._taken += before
                if self._taken > _LONGEST_RECORD:  # more than one incomplete record can have
                    self._spend(self._taken)
                    self._taken = 0
                if not self._feed():
                    raise
                before = self.fed.pending
            else:
                size = content if isinstance(content, int) else content.__len__()
                overhead = self._taken + before - self.fed.pending - size
                self._taken = 0
                if overhead > OVERHEAD:
                    self._spend(overhead - OVERHEAD)
                return content

    def pending(self) -> int:
        """See ``ssl.SSLObject.pending``; octets that OpenSSL has not read count, since uvloop asks before it reads."""
        return super().pending() or self.fed.pending

    def do_handshake(self) -> None:
        """See ``ssl.SSLObject.do_handshake``."""
        self._feed_all()
        super().do_handshake()

    def unwrap(self) -> None:
        """See ``ssl.SSLObject.unwrap``."""
        self._feed_all()
        super().unwrap()

    def _feed(self) -> bool:
        """Give OpenSSL the next piece; ``False``: there is none."""
        octets = self.incoming.read(_PIECE)
        if octets:
            self.fed.write(octets)
        elif self.incoming.eof and not self.fed.eof:
            self.fed.write_eof()
        else:
            return False
        return True

    def _feed_all(self) -> None:
        while self._feed():
            pass

    def _spend(self, octets: int) -> None:
        if self._spent and self._spent + octets <= ALLOWANCE:
            self._spent += octets
            return
        now = self.clock()
        if not self._spent or now - self._since >= PERIOD:
            self._spent, self._since = 0, now
        self._spent += octets
        if self._spent > ALLOWANCE:
            raise TooMuchOverhead("too many TLS records without content")


class LimitedContext(ssl.SSLContext):
    """TLS context that limits the overhead of each of its connections (``LimitedConnection``)."""

    sslobject_class = LimitedConnection

    def wrap_bio(self, incoming: ssl.MemoryBIO, *arguments: Any, **options: Any) -> LimitedConnection:
        """See ``ssl.SSLContext.wrap_bio``."""
        fed = ssl.MemoryBIO()
        made = super().wrap_bio(fed, *arguments, **options)
        assert isinstance(made, LimitedConnection)
        made.incoming, made.fed = incoming, fed
        return made
