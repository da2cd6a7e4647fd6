"""A connection to a backend that carries one HTTP/1.1 request after another.

Source: RFC 9112; reference 3.7. ``aiohttp``'s parser reads the answers. Own code instead of ``aiohttp.ClientSession``
because of its costs: with eight requests at a time, each took 80 us of CPU time there, and takes 26 us here (20 us
without the timer of each request).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable, Mapping
from functools import partial
from typing import cast

from aiohttp.http_parser import HttpResponseParser, RawResponseMessage
from aiohttp.streams import StreamReader
from msgspec import Struct
from multidict import CIMultiDictProxy

from gateway.edge.nextcloud.answer_turns import PIECE, AnswerTurns

_PARSER_BUFFER = 1 << 16  # bytes; aiohttp's parser pauses when it holds more than twice this of a decompressed body
_REDIRECTS = frozenset({300, 301, 302, 303, 307, 308})  # RFC 9110, 15.4
_TOO_LARGE = "the backend's answer is too large"
_INTERIM_STATUSES = frozenset({100, *range(102, 200)})  # RFC 9110, 15.2; the parser knows that they have no body


class RequestFailed(Exception):
    """A request without a usable response; ``label`` is a label of the error counter. The text contains no address."""

    def __init__(self, label: str, text: str, status: int | None = None) -> None:
        super().__init__(text)
        self.label = label
        self.status = status  # of HTTP; None: there was no response, or it broke off


class Unreachable(RequestFailed):
    """There was no response; ``silent``: the backend closed the connection before the first byte of one."""

    def __init__(self, *, silent: bool = False) -> None:
        super().__init__("unknown", "the backend could not be reached")
        self.silent = silent


class Redirected(RequestFailed):
    """The answer is a redirect; ``location``: the URL to which it leads, for the operator only."""

    def __init__(self, status: int, location: str) -> None:
        super().__init__("unknown", "the backend redirects, configure its final URL", status)
        self.location = location


class Reply(Struct, frozen=True):
    """A complete response of any status."""

    status: int
    headers: CIMultiDictProxy[str]
    body: bytes

    @property
    def is_json(self) -> bool:
        """Return whether the content type begins with ``application/json``."""
        return self.headers.get("Content-Type", "").startswith("application/json")


def encode_head(method: str, path: str, host: str, headers: Mapping[str, str]) -> bytes:
    """Return the head of a request, without the headers that ``encode_request`` adds to each request.

    ``path`` is percent-encoded, ``host`` the value of the header ``Host``.

    Raises:
        ValueError: a line end or a NUL in the request line or a header.
    """
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", *(f"{name}: {value}" for name, value in headers.items())]
    lines.append("Accept-Encoding: gzip, deflate")
    head = "\r\n".join(lines)
    if head.count("\n") != len(lines) - 1 or head.count("\r") != len(lines) - 1 or "\0" in head:
        raise ValueError("a header with a line end")
    return f"{head}\r\n".encode("utf-8", "surrogateescape")


def encode_request(head: bytes, lines: bytes, body: bytes | None) -> bytes:
    """Return a request with the head of ``encode_head``; ``lines`` are further headers, each with its line end."""
    if body is None:
        return b"%b%b\r\n" % (head, lines)
    return b"%b%bContent-Length: %d\r\n\r\n%b" % (head, lines, len(body), body)


class BackendConnection(asyncio.Protocol):
    """One connection; it is ``reusable`` if nothing followed the last complete answer and the backend keeps it open.

    ``max_body`` is the greatest size of a decompressed body in bytes; ``on_lost`` is called when the connection is
    closed. ``turns`` limit the octets that all connections parse in one iteration of the event loop; ``backend`` is
    the key of this connection's backend in ``turns``.
    """

    def __init__(
        self, max_body: int, on_lost: Callable[[BackendConnection], None], turns: AnswerTurns, backend: Hashable
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._max_body = max_body
        self._on_lost = on_lost
        self._turns = turns
        self._backend = backend
        self._transport: asyncio.Transport | None = None
        self._parser: HttpResponseParser | None = None  # None: no answer is expected
        self._answer: asyncio.Future[Reply] | None = None
        self._message: RawResponseMessage | None = None  # the head of the answer
        self._payload: StreamReader | None = None  # the part of the body that is not in ``_body`` yet
        self._body = bytearray()
        self._unparsed = bytearray()  # received; reading is paused meanwhile
        self._end: Callable[[], None] | None = None  # of the lost connection, once these octets are parsed
        self._received = 0  # bytes since the request was sent
        self._silent = True  # no byte of the answer has arrived
        self._spoiled = False  # another message followed the answer
        self._held = False  # the parser has paused
        self.idle_since = 0.0  # seconds on the loop's clock
        self.reusable = False

    @property
    def is_open(self) -> bool:
        """Whether requests can be sent, as far as is known."""
        return self._transport is not None and self._end is None and not self._transport.is_closing()

    def send(self, request: bytes) -> asyncio.Future[Reply]:
        """Send an encoded request; the future has the answer, or a ``RequestFailed``. One request at a time."""
        self._answer = self._loop.create_future()
        if self._transport is None or not self.is_open:
            self._answer.set_exception(Unreachable(silent=True))
            return self._answer
        self._parser = HttpResponseParser(self, self._loop, _PARSER_BUFFER, read_until_eof=True)  # type: ignore[arg-type]
        self._received = 0
        self._silent, self._spoiled, self.reusable = True, False, False
        self._transport.write(request)
        return self._answer

    def abort(self) -> None:
        """Close the connection at once; a request without an answer fails. Idempotent."""
        self._fail(Unreachable())
        if self._transport is not None:
            self._transport.abort()

    # -- calls of the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        parser = self._parser
        if parser is None:  # no request was sent for this
            self.abort()
            return
        self._silent = False
        self._received += len(data)
        if self._received > 2 * self._max_body:  # chunk headers and interim answers included
            self._fail(RequestFailed("error_reading_body", _TOO_LARGE))
        elif self._unparsed:
            self._unparsed += data
        elif self._transport is None or self._turns.take(len(data)):
            self._parse(data)
        else:
            self._transport.pause_reading()
            self._unparsed += data
            self._turns.put(self._backend, self._parse_piece)

    def _parse_piece(self) -> None:
        """Parse the next piece of the received octets, and the others in later iterations of the event loop."""
        if self._parser is None:  # the answer is complete, or there will be none
            self._unparsed.clear()
        piece = bytes(self._unparsed[:PIECE])
        del self._unparsed[:PIECE]
        self._parse(piece)
        if self._unparsed:
            self._turns.put(self._backend, self._parse_piece)
        elif self._end is not None:
            end, self._end = self._end, None
            end()
        elif self._transport is not None and self.is_open:
            self._transport.resume_reading()

    def _parse(self, data: bytes) -> None:
        parser = self._parser
        if parser is None:
            return
        try:
            self._held = True
            while self._held and self._parser is not None:
                self._held = False
                messages, upgraded, _ = parser.feed_data(data)
                data = b""
                self._spoiled = self._spoiled or upgraded
                for message, payload in messages:
                    self._begin(message, payload)
                self._read_body()
        except Exception as error:  # not HTTP, a head beyond the parser's limits, a body that cannot be decompressed
            self._break_off(error)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._unparsed:  # the end follows at once if TLS has received it together with the last octets
            self._end = partial(self.connection_lost, exc)
            return
        parser, self._transport = self._parser, None
        self.reusable = False
        if parser is not None and self._message is not None and exc is None:
            try:
                parser.feed_eof()  # ends a body without a length
                self._read_body()
            except Exception:  # of the parser: the body is incomplete
                pass
        if self._parser is not None:
            self._break_off(exc)
        self._on_lost(self)

    # -- calls of the parser's payload

    def pause_reading(self) -> None:
        """Pause the parser: much is decompressed and not read yet."""
        if self._parser is not None:
            self._held = True
            self._parser.pause_reading()

    def resume_reading(self, resume_parser: bool = True) -> None:
        """Do nothing: ``_parse`` resumes the parser itself."""

    # -- the answer

    def _begin(self, message: RawResponseMessage, payload: StreamReader) -> None:
        if self._message is not None:
            self._spoiled = True
        elif message.code not in _INTERIM_STATUSES:
            self._message, self._payload = message, payload
            if message.code in _REDIRECTS:
                self._fail(Redirected(message.code, message.headers.get("Location", "")))

    def _read_body(self) -> None:
        """Read the received part of the body, and complete the answer when the body is whole."""
        message, payload, parser = self._message, self._payload, self._parser
        if message is None or payload is None or parser is None:
            return
        self._body += payload.read_nowait()
        if len(self._body) > self._max_body:
            self._fail(RequestFailed("error_reading_body", _TOO_LARGE))
        elif payload.is_eof():
            # ``feed_eof`` returns the message that has begun after this one, if any.
            ended = self._transport is not None and parser.feed_eof() is None
            self.reusable = ended and not (self._spoiled or self._unparsed or message.should_close)
            reply = Reply(message.code, message.headers, bytes(self._body))
            answer = self._end_request()
            if answer is not None and not answer.done():
                answer.set_result(reply)

    def _end_request(self) -> asyncio.Future[Reply] | None:
        """Forget the request, and return its future.

        The exception of a failed future refers, by its traceback, to the stack frames that awaited it, and so to this
        connection: if it kept the future, both and the octets received would stay in memory until the garbage collector
        runs.
        """
        answer, self._answer, self._parser = self._answer, None, None
        self._message, self._payload, self._body = None, None, bytearray()
        return answer

    def _break_off(self, cause: BaseException | None = None) -> None:
        error: RequestFailed = Unreachable(silent=self._silent)
        if self._message is not None:
            error = RequestFailed("error_reading_body", "the backend's answer broke off")
        error.__cause__ = cause
        self._fail(error)

    def _fail(self, error: RequestFailed) -> None:
        self.reusable = False
        answer = self._end_request()
        if answer is not None and not answer.done():
            answer.set_exception(error)
        if self._transport is not None:
            self._transport.abort()
