"""The trace of one request for a stream: negotiation with the SFU, ICE and DTLS, first media.

Source: docs/tracing.md. A trace that has brought up a PeerConnection goes on after the reply, until the first media of
a publication arrive or a subscription is connected; any other one ends with the reply.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TypeVar

from gateway.flows.call_traces import exception_name, protocol_code, requests_of
from gateway.flows.postponed import Postponed
from gateway.tracing import Span, current_span, running
from mcu.base import TransportState
from mcu.request_trace import request_trace

_T = TypeVar("_T")

MEDIA_TIME = 30.0  # seconds from the connection to the end of a trace without media, as of a muted microphone


class StreamTrace:
    """The trace of one request; ``span`` is its first span, which this object ends."""

    def __init__(self, span: Span) -> None:
        self._span = span
        self._phase: Span | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._queued = False

    @property
    def ended(self) -> bool:
        """Whether the trace has ended."""
        return self._span.ended

    @contextmanager
    def receiving(self) -> Iterator[None]:
        """End the trace unless the block, which checks the request, queues it; a refusal is an error.

        A request that is postponed begins another trace when it is handled again.
        """
        try:
            yield
        except Postponed:
            self._span.event("postponed")
            self.end()
            raise
        except BaseException as error:
            self.fail(protocol_code(error))
            raise
        if not self._queued:  # a request for the own stream, for instance, is ignored
            self.end()

    def queued(self) -> Callable[[], None]:
        """Record that the request waits for its turn; return the function to call if it is dropped."""
        self._queued = True
        return partial(self.fail, "cancelled")

    @contextmanager
    def negotiating(self) -> Iterator[None]:
        """Record the block, which carries out the request, as the negotiation."""
        try:
            with running(self._span.child("negotiation"), protocol_code):
                yield
        except BaseException as error:
            self.fail(protocol_code(error))
            raise

    def replied(self, reply: str, *, goes_on: bool) -> None:
        """Record the reply to the client; the trace ends unless it ``goes_on`` with the new PeerConnection."""
        if self.ended:
            return
        self._span.event(f"{reply} sent")
        if not goes_on:
            self.end()
        elif self._phase is None:
            self._phase = self._span.child("connection")

    def transport(self, state: TransportState, *, last: bool) -> None:
        """Record a state of the PeerConnection; ``last``: no media will be reported."""
        if self.ended:
            return
        if state is TransportState.ICE_CONNECTED and self._phase is not None:
            self._phase.event("ice connected")
        elif state is TransportState.CONNECTED and self._timer is None:
            self._span.event("connected")
            if last:
                self.end()
                return
            self._next_phase("first media")
            self._timer = asyncio.get_running_loop().call_later(MEDIA_TIME, self._give_up_media)

    def media(self) -> None:
        """Record the first media, which end the trace."""
        if not self.ended:
            self._span.event("media")
            self.end()

    @contextmanager
    def answering(self) -> Iterator[None]:
        """Record the block, which hands the client's answer to the SFU, as a part of the connection."""
        if self.ended:
            yield
            return
        parent = self._phase or self._span
        parent.event("answer received")
        with running(parent.child("answer"), protocol_code):
            yield

    def fail(self, code: str) -> None:
        """End the trace with an error."""
        if self.ended:
            return
        if self._phase is not None:
            self._phase.fail(code)
        self._span.fail(code)
        self.end()

    def end(self) -> None:
        """End the trace. Idempotent."""
        if self._timer is not None:
            self._timer.cancel()
        if self._phase is not None:
            self._phase.end()
        self._span.end()

    def _next_phase(self, name: str) -> None:
        if self._phase is not None:
            self._phase.end()
        self._phase = self._span.child(name)

    def _give_up_media(self) -> None:
        self._span.event("no media")
        self.end()


async def traced_request(name: str, request: Awaitable[_T]) -> _T:
    """Await a request to the SFU, and record it in the trace of the current operation, if there is one."""
    parent = current_span()
    if parent is None:
        return await request
    with running(parent.child(f"sfu {name}"), exception_name) as span:
        token = request_trace.set(requests_of(span))
        try:
            return await request
        finally:
            request_trace.reset(token)
