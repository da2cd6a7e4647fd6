"""Answers of hostile, broken and unusual backends: each is read as HTTP/1.1 says or is an error, and none reaches the
next request. Source: RFC 9112, 6.3, 9.3; RFC 9110, 15.2; reference 3.7.
"""

from __future__ import annotations

import asyncio
import gc
import gzip
import zlib
from collections.abc import AsyncIterator

import pytest

from gateway.edge.nextcloud import backend_http
from gateway.edge.nextcloud.answer_turns import PIECE, TURN_BYTES, AnswerTurns
from gateway.edge.nextcloud.backend_connection import BackendConnection, Reply, RequestFailed, Unreachable
from gateway.edge.nextcloud.backend_http import MAX_BODY, BackendHttp
from tests.gateway.edge.nextcloud.scripted_backend import WAIT_TIMEOUT, AcceptedConnection, answer, scripted_backend

OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
REQUEST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"
NEXT_BODY = b"later"  # the body of the answer to the next request
FORGED_ANSWER = answer(b"forged")
DEFLATE = zlib.compress(b"{}" * 500)


@pytest.fixture
async def http() -> AsyncIterator[BackendHttp]:
    async with BackendHttp(timeout=WAIT_TIMEOUT) as made:
        yield made


async def outcome_of(
    http: BackendHttp, data: bytes, *, close: bool = False, pieces: int = 0
) -> tuple[Reply | str, int]:
    """Make two requests, the first of which is answered with ``data``; the second must receive its own answer.

    Return the outcome of the first, a reply or the label of the error, and the number of connections.
    """

    async def script(connection: AcceptedConnection) -> None:
        if connection.number == 1:
            await connection.receive()
            await send_in_pieces(connection, data, pieces)
            if close:
                return
        while await connection.receive():
            await connection.send(answer(NEXT_BODY))

    async with scripted_backend(script) as backend, asyncio.timeout(WAIT_TIMEOUT):
        outcome = await request_outcome(http, backend.url)
        assert (await http.request("POST", backend.url, {}, b"{}")).body == NEXT_BODY
        return outcome, len(backend.connections)


async def request_outcome(http: BackendHttp, url: str) -> Reply | str:
    try:
        return await http.request("POST", url, {}, b"{}")
    except RequestFailed as error:
        return error.label


async def send_in_pieces(connection: AcceptedConnection, data: bytes, size: int) -> None:
    for at in range(0, len(data), size or len(data)):
        await connection.send(data[at : at + (size or len(data))])
        if size:
            await asyncio.sleep(0)


CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
READABLE_ANSWERS = {
    "with a length": (answer(b"first"), b"first"),
    "without a body": (answer(b""), b""),
    "in chunks": (CHUNKED + b"3\r\nfir\r\n2;a=b\r\nst\r\n0\r\n\r\n", b"first"),
    "in chunks, with a trailer": (
        CHUNKED + b"5\r\nfirst\r\n0\r\nX-A: b\r\n\r\n",
        b"first",
    ),
    "in small chunks": (
        CHUNKED + b"1\r\nx\r\n" * 70_000 + b"0\r\n\r\n",
        b"x" * 70_000,
    ),
    "gzip": (answer(gzip.compress(b"{}" * 500), "Content-Encoding: gzip"), b"{}" * 500),
    "deflate": (answer(DEFLATE, "Content-Encoding: deflate"), b"{}" * 500),
    "deflate without a header": (answer(DEFLATE[2:-4], "Content-Encoding: deflate"), b"{}" * 500),
    "gzip of the greatest size": (answer(gzip.compress(b" " * MAX_BODY), "Content-Encoding: gzip"), b" " * MAX_BODY),
    "interim responses": (
        HINTS + b"HTTP/1.1 100 Continue\r\n\r\n" + answer(b"first"),
        b"first",
    ),
    "204": (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
    "304": (b'HTTP/1.1 304 Not Modified\r\nETag: "a"\r\n\r\n', b""),
    "304 with the length of the document": (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 500\r\n\r\n", b""),
    "a status that does not exist": (answer(b"first", status="099 What"), b"first"),
    "header folded": (OK + b"X-A: b\r\n c\r\nContent-Length: 5\r\n\r\nfirst", b"first"),
    "spaces around values": (OK + b"Content-Length:   5  \r\n\r\nfirst", b"first"),
}


@pytest.mark.parametrize("pieces", [0, 7])
@pytest.mark.parametrize("case", READABLE_ANSWERS)
async def test_answer_is_read_and_the_connection_reused(http: BackendHttp, case: str, pieces: int) -> None:
    data, body = READABLE_ANSWERS[case]
    if pieces and len(data) > 5000:
        pieces = 1000
    outcome, connections = await outcome_of(http, data, pieces=pieces)
    assert isinstance(outcome, Reply)
    assert outcome.body == body
    assert connections == 1


LAST_ANSWERS = {
    "until the end": (OK + b"\r\nfirst", b"first"),
    "until the end, gzip": (OK + b"Content-Encoding: gzip\r\n\r\n" + gzip.compress(b"first"), b"first"),
    "close": (answer(b"first", "Connection: close"), b"first"),
    "another protocol": (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: a\r\nConnection: upgrade\r\n\r\nxyz", b""),
}


@pytest.mark.parametrize("case", LAST_ANSWERS)
async def test_answer_is_read_and_the_connection_closed(http: BackendHttp, case: str) -> None:
    data, body = LAST_ANSWERS[case]
    outcome, connections = await outcome_of(http, data, close=True)
    assert isinstance(outcome, Reply)
    assert outcome.body == body
    assert connections == 2


FOLLOWED_ANSWERS = {
    "a second answer": answer(b"first") + FORGED_ANSWER,
    "the beginning of a second answer": answer(b"first") + b"HTTP/1.1 200 O",
    "one octet of a second answer": answer(b"first") + b"H",
    "the head of a second answer": answer(b"first") + FORGED_ANSWER[:-3],
    "an interim response": answer(b"first") + b"HTTP/1.1 100 Continue\r\n\r\n",
    "more than the length": answer(b"first") + b"more",
    "more than the length, like a head": OK + b"Content-Length: 0\r\n\r\n" + FORGED_ANSWER,
    "a second answer behind chunks": CHUNKED + b"0\r\n\r\n" + FORGED_ANSWER,
    "a second answer behind a close": answer(b"first", "Connection: close") + FORGED_ANSWER,
    "a body with 204": b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n" + FORGED_ANSWER,
    "a body with 304": b"HTTP/1.1 304 Not Modified\r\nContent-Length: 3\r\n\r\nabc" + FORGED_ANSWER,
    "a second answer behind 100": b"HTTP/1.1 100 Continue\r\n\r\n" + answer(b"first") + FORGED_ANSWER,
}


@pytest.mark.parametrize("pieces", [0, 1])
@pytest.mark.parametrize("case", FOLLOWED_ANSWERS)
async def test_octets_after_an_answer_close_the_connection(
    http: BackendHttp, monkeypatch: pytest.MonkeyPatch, case: str, pieces: int
) -> None:
    async def script(connection: AcceptedConnection) -> None:
        await connection.receive()
        await send_in_pieces(
            connection, FOLLOWED_ANSWERS[case] if connection.number == 1 else answer(NEXT_BODY), pieces
        )
        await connection.wait_closed()

    monkeypatch.setattr(backend_http, "KEEPALIVE", 10 * WAIT_TIMEOUT)
    async with scripted_backend(script) as backend, asyncio.timeout(WAIT_TIMEOUT):
        outcome = await request_outcome(http, backend.url)
        assert not isinstance(outcome, Reply) or outcome.body in (b"first", b"")
        await backend.connections[0].ended.wait()
        assert http.connections() == {}
        assert (await http.request("POST", backend.url, {}, b"{}")).body == NEXT_BODY


BROKEN_ANSWERS = {
    "not HTTP": (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "unknown"),
    "another version": (b"HTTP/3.7 200 OK\r\nContent-Length: 0\r\n\r\n", "unknown"),
    "HTTP/0.9": (b"<html></html>", "unknown"),
    "no status": (b"HTTP/1.1 \r\nContent-Length: 0\r\n\r\n", "unknown"),
    "a request": (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "unknown"),
    "two lengths": (OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nfirst!", "unknown"),
    "a length in a list": (OK + b"Content-Length: 5, 5\r\n\r\nfirst", "unknown"),
    "a negative length": (OK + b"Content-Length: -5\r\n\r\nfirst", "unknown"),
    "a length with a sign": (OK + b"Content-Length: +5\r\n\r\nfirst", "unknown"),
    "a length in hexadecimal": (OK + b"Content-Length: 0x5\r\n\r\nfirst", "unknown"),
    "a length beyond 64 bits": (OK + b"Content-Length: 18446744073709551621\r\n\r\nfirst", "unknown"),
    "a length and chunks": (OK + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "unknown"),
    "chunks and a length": (OK + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", "unknown"),
    "a long header": (OK + b"X-A: " + b"a" * 20_000 + b"\r\n\r\n", "unknown"),
    "a long header name": (OK + b"X" * 20_000 + b": a\r\n\r\n", "unknown"),
    "a long reason": (b"HTTP/1.1 200 " + b"a" * 20_000 + b"\r\n\r\n", "unknown"),
    "many headers": (OK + b"X-A: b\r\n" * 200 + b"\r\n", "unknown"),
    "a header without a name": (OK + b": b\r\nContent-Length: 0\r\n\r\n", "unknown"),
    "a NUL in a header": (OK + b"X-A: b\0c\r\nContent-Length: 0\r\n\r\n", "unknown"),
    "an interim response with a body": (b"HTTP/1.1 103 Early Hints\r\nContent-Length: 9\r\n\r\n" + b"x" * 9, "unknown"),
    "a chunk without a size": (CHUNKED + b"\r\nfirst\r\n0\r\n\r\n", "unknown"),
    "a chunk of a negative size": (CHUNKED + b"-5\r\nfirst\r\n0\r\n\r\n", "unknown"),
    "a chunk beyond 64 bits": (CHUNKED + b"10000000000000005\r\nfirst\r\n0\r\n\r\n", "unknown"),
    "a chunk longer than its size": (CHUNKED + b"3\r\nfirst\r\n0\r\n\r\n", "unknown"),
    "not gzip": (answer(b"first", "Content-Encoding: gzip"), "error_reading_body"),
    "too long": (answer(b" " * (MAX_BODY + 1)), "error_reading_body"),
    "too long in chunks": (CHUNKED + b"200000\r\n" + b" " * 0x200000, "error_reading_body"),
    "too long until the end": (OK + b"\r\n" + b" " * (2 * MAX_BODY), "error_reading_body"),
    "a gzip bomb": (answer(gzip.compress(bytes(50 * MAX_BODY)), "Content-Encoding: gzip"), "error_reading_body"),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN_ANSWERS)
async def test_broken_answer_is_an_error_at_once(http: BackendHttp, case: str) -> None:
    data, label = BROKEN_ANSWERS[case]
    outcome, connections = await outcome_of(http, data)
    assert outcome == label
    assert connections == 2


INCOMPLETE_ANSWERS = {
    "the length": (answer(b"first")[:-1], "error_reading_body"),
    "a chunk": (CHUNKED + b"5\r\nfir", "error_reading_body"),
    "the last chunk": (CHUNKED + b"5\r\nfirst\r\n0\r\n", "error_reading_body"),
    "the head": (OK, "unknown"),
    "the first line": (b"HTTP/1.1 200", "unknown"),
    "an interim response": (b"HTTP/1.1 100 Continue\r\n\r\n", "unknown"),
}


@pytest.mark.parametrize("case", INCOMPLETE_ANSWERS)
async def test_connection_that_ends_before_the_end_of_the_answer_is_an_error(http: BackendHttp, case: str) -> None:
    data, label = INCOMPLETE_ANSWERS[case]
    assert await outcome_of(http, data, close=True) == (label, 2)


class ObservedConnection(BackendConnection):
    """Connection with a small limit of the body; its events are set when octets arrive, and when it is lost."""

    def __init__(self, turns: AnswerTurns, backend: str) -> None:
        self.arrived, self.ended = asyncio.Event(), asyncio.Event()
        self.pieces: list[int] = [0]  # bytes that were parsed, by iteration of the event loop, if a test counts them
        self.kept = 0  # bytes of the body when the request failed
        super().__init__(100_000, lambda _: self.ended.set(), turns, backend)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self.arrived.set()

    def _parse(self, data: bytes) -> None:
        self.pieces[-1] += len(data)
        super()._parse(data)

    def _fail(self, error: RequestFailed) -> None:
        self.kept = self.kept or len(self._body)
        super()._fail(error)


async def connect(port: int, turns: AnswerTurns | None = None, backend: str = "") -> ObservedConnection:
    """Connect; connections with the same ``turns`` share them."""
    loop, used = asyncio.get_running_loop(), turns or AnswerTurns()
    return (await loop.create_connection(lambda: ObservedConnection(used, backend), "127.0.0.1", port))[1]


async def test_gzip_bomb_is_not_decompressed_beyond_the_limit() -> None:
    async def script(connection: AcceptedConnection) -> None:
        await connection.receive()
        await connection.send(answer(gzip.compress(bytes(50_000_000)), "Content-Encoding: gzip"))
        await connection.wait_closed()

    async with scripted_backend(script) as backend, asyncio.timeout(WAIT_TIMEOUT):
        connection = await connect(backend.port)
        with pytest.raises(RequestFailed, match="too large"):
            await connection.send(REQUEST)
        assert 0 < connection.kept < 100_000 + 4 * 65536


async def test_reset_in_a_body_without_a_length_is_an_error() -> None:
    async def script(connection: AcceptedConnection) -> None:
        await connection.receive()
        await connection.send(OK + b"\r\n{}")
        await connection.wait_closed()

    async with scripted_backend(script) as backend, asyncio.timeout(WAIT_TIMEOUT):
        connection = await connect(backend.port)
        reply = connection.send(REQUEST)
        await connection.arrived.wait()
        connection.connection_lost(ConnectionResetError())  # as the event loop reports it
        with pytest.raises(RequestFailed, match="broke off"):
            await reply


# --- answers that cost more than others


async def test_many_short_chunks_are_parsed_in_many_turns_of_the_event_loop(http: BackendHttp) -> None:
    chunks = b"1\r\n{\r\n" * 20_000

    async def script(connection: AcceptedConnection) -> None:
        await connection.receive()
        await connection.send(CHUNKED + chunks + b"0\r\n\r\n")
        await connection.wait_closed()

    async with scripted_backend(script) as backend, asyncio.timeout(WAIT_TIMEOUT):
        connection = await connect(backend.port)
        reply = connection.send(REQUEST)
        while not reply.done():
            connection.pieces.append(0)
            await asyncio.sleep(0)
        assert len(reply.result().body) == 20_000
        assert 0 < max(connection.pieces) <= TURN_BYTES
        assert connection.reusable


async def test_answers_of_many_connections_are_parsed_in_turns_of_the_event_loop(http: BackendHttp) -> None:
    chunks = b"1\r\n{\r\n" * 5000

    async def script(connection: AcceptedConnection) -> None:
        await connection.receive()
        await connection.send(CHUNKED + chunks + b"0\r\n\r\n")
        await connection.wait_closed()

    async with scripted_backend(script) as backend, asyncio.timeout(WAIT_TIMEOUT):
        turns = AnswerTurns()
        flooding = [await connect(backend.port, turns, "hostile") for _ in range(10)]
        other = await connect(backend.port, turns, "other")
        replies = [connection.send(REQUEST) for connection in (*flooding, other)]
        most = before_other = 0
        while not all(reply.done() for reply in replies):
            for connection in (*flooding, other):
                connection.pieces.append(0)
            await asyncio.sleep(0)
            most = max(most, sum(connection.pieces[-1] for connection in (*flooding, other)))
            if not replies[-1].done():
                before_other = sum(reply.done() for reply in replies)
        assert {len(reply.result().body) for reply in replies} == {5000}
        assert PIECE <= most <= 2 * TURN_BYTES  # of the end of one turn and the beginning of the next
        assert before_other < len(flooding)


class ReceivingTransport(asyncio.Transport):
    """A transport that a test closes."""

    closing = False

    def is_closing(self) -> bool:
        return self.closing

    def abort(self) -> None:
        self.closing = True

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Drop it."""

    def pause_reading(self) -> None:
        """Do nothing: all octets are there."""

    resume_reading = pause_reading


@pytest.mark.parametrize(("count", "size"), [(8, 3000), (24, 1500), (1, 20_000)])
@pytest.mark.parametrize("whole", [True, False], ids=["whole", "broken off"])
@pytest.mark.parametrize("error", [None, ConnectionResetError()], ids=["closed", "reset"])
async def test_answers_whose_connections_end_at_once_are_parsed_before_the_end(
    count: int, size: int, whole: bool, error: Exception | None
) -> None:
    turns = AnswerTurns()
    connections = [ObservedConnection(turns, f"backend {number}") for number in range(count)]
    replies = []
    for connection in connections:
        transport = ReceivingTransport()
        connection.connection_made(transport)
        replies.append(connection.send(REQUEST))
        connection.data_received(answer(b"x" * size)[: None if whole else -1])
        transport.closing = True
    for _ in range(2):  # iterations between the last octets and the end, as of uvloop's TLS
        await asyncio.sleep(0)
    for connection in connections:
        connection.connection_lost(error)
        assert not connection.is_open
    async with asyncio.timeout(WAIT_TIMEOUT):
        outcomes = await asyncio.gather(*replies, return_exceptions=True)
        for connection in connections:
            await connection.ended.wait()
    assert not any(connection.reusable for connection in connections)
    if whole:
        assert [isinstance(outcome, Reply) and len(outcome.body) for outcome in outcomes] == [size] * count
    else:
        assert {getattr(outcome, "label", "") for outcome in outcomes} == {"error_reading_body"}


@pytest.mark.parametrize("body", [b"x" * (MAX_BODY + 1), b"{"], ids=["too large", "broken off"])
async def test_failed_request_leaves_nothing_to_the_garbage_collector(body: bytes, http: BackendHttp) -> None:
    async def script(connection: AcceptedConnection) -> None:
        await connection.receive()
        await connection.send(OK + b"Content-Length: 2000000\r\n\r\n" + body)
        connection.writer.close()

    label = ""
    gc.collect()
    gc.disable()
    try:
        async with scripted_backend(script) as backend, asyncio.timeout(WAIT_TIMEOUT):
            try:
                await http.request("POST", backend.url, {}, b"{}")
            except RequestFailed as error:
                label = error.label
            await asyncio.sleep(0)
            assert not [it for it in gc.get_objects() if isinstance(it, BackendConnection | RequestFailed)]
    finally:
        gc.enable()
    assert label == "error_reading_body"


# --- endless answers


@pytest.mark.parametrize(
    ("first", "forever", "labels"),
    [
        (OK, b"X-A: b\r\n", {"unknown"}),
        (OK + b"X-A: ", b"a" * 100, {"unknown"}),
        (b"HTTP/1.1 200 ", b"O" * 100, {"unknown"}),
        (OK + b"\r\n", b"x" * 10_000, {"error_reading_body"}),
        (CHUNKED, b"400\r\n" + b"x" * 1024 + b"\r\n", {"error_reading_body"}),
        (CHUNKED + b"1;", b"a" * 10_000, {"error_reading_body"}),
        (CHUNKED + b"0\r\n", b"X-A: b\r\n" * 100, {"unknown", "error_reading_body"}),  # the head alone, or not
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 100, {"error_reading_body"}),
        (b"", b"\r\n" * 1000, {"error_reading_body"}),
    ],
)
async def test_endless_answer_is_an_error(first: bytes, forever: bytes, labels: set[str]) -> None:
    async def script(connection: AcceptedConnection) -> None:
        await connection.receive()
        await connection.send(first)
        while not connection.writer.is_closing():
            await connection.send(forever)
            await asyncio.sleep(0)
        connection.ended.set()

    async with scripted_backend(script) as backend, BackendHttp(timeout=WAIT_TIMEOUT) as http:
        with pytest.raises(RequestFailed) as caught:
            await http.request("POST", backend.url, {}, b"{}")
        assert caught.value.label in labels
        assert http.connections() == {}


async def test_answer_that_arrives_slowly_octet_by_octet_times_out() -> None:
    async def script(connection: AcceptedConnection) -> None:
        await connection.receive()
        for octet in answer(b"x" * 1000):
            await connection.send(bytes([octet]))
            await asyncio.sleep(0.02)
        await connection.wait_closed()

    async with scripted_backend(script) as backend, BackendHttp(timeout=0.5) as http:
        with pytest.raises(RequestFailed) as caught:
            await http.request("POST", backend.url, {}, b"{}")
        assert caught.value.label == "timeout"
        assert http.connections() == {}


# --- unsolicited octets


async def test_octets_on_an_idle_connection_close_it(http: BackendHttp) -> None:
    forge = asyncio.Event()

    async def script(connection: AcceptedConnection) -> None:
        await connection.receive()
        await connection.send(answer(b"%d" % connection.number))
        await forge.wait()
        await connection.send(FORGED_ANSWER)
        await connection.wait_closed()

    async with scripted_backend(script) as backend, asyncio.timeout(WAIT_TIMEOUT):
        assert (await http.request("POST", backend.url, {}, b"{}")).body == b"1"
        forge.set()
        await backend.connections[0].ended.wait()
        assert http.connections() == {}
        assert (await http.request("POST", backend.url, {}, b"{}")).body == b"2"


async def test_octets_before_the_first_request_close_the_connection() -> None:
    async def script(connection: AcceptedConnection) -> None:
        await connection.send(FORGED_ANSWER)
        await connection.wait_closed()

    async with scripted_backend(script) as backend, asyncio.timeout(WAIT_TIMEOUT):
        connection = await connect(backend.port)
        await connection.ended.wait()
        assert not connection.is_open
        with pytest.raises(Unreachable):
            await connection.send(REQUEST)
