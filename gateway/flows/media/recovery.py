"""Asks a client to publish a lost stream again.

Source: docs/mcu.md, "When streams are lost"; docs/protocol.md, "Offering again".
"""

from __future__ import annotations

import logging

from gateway.core.session import ClientType, Session
from gateway.flows.end_requests import EndCause, EndRequest
from gateway.flows.media.session_stream import MediaContext
from gateway.wire import server
from mcu.base import CloseReason, StreamType

log = logging.getLogger("portunus.flows.media")

REPUBLISH = "republish"  # feature id of clients that publish again on request


class Recovery:
    """The recovery of one lost publication: its client is asked to publish again once an SFU accepts streams.

    A session whose client does not know ``republish`` is ended instead, if that is configured: its client then opens
    another session and publishes anew.
    """

    def __init__(self, context: MediaContext, session: Session, stream_type: StreamType) -> None:
        self._services = context.services
        self._sfu = context.sfu
        self._session = session
        self._stream_type = stream_type
        self._lost: server.RepublishBody | None = None

    @property
    def pending(self) -> bool:
        """Whether the stream was lost and its client has not been asked yet."""
        return self._lost is not None

    def mark_lost(self, reason: CloseReason, sid: str) -> None:
        """Mark the stream as lost, if its client can publish again on request or its session may be ended for it."""
        may_be_reset = self._services.settings.reset_sessions_on_loss and self._session.client_type is ClientType.CLIENT
        if REPUBLISH in self._session.features or may_be_reset:
            self._lost = server.RepublishBody(self._stream_type.value, sid, reason.value)

    def cancel(self) -> None:
        """Stop the recovery: the stream was published again, or its session ended it."""
        self._lost = None

    def attempt(self) -> None:
        """Ask the client to publish again, or end its session, if the stream was lost and an SFU accepts streams."""
        lost = self._lost
        if lost is None or not self._sfu.accepts_streams:
            return
        self._lost = None
        if REPUBLISH in self._session.features:
            self._services.delivery.send(self._session, server.encode(server.Republish(lost)))
        elif self._services.settings.reset_sessions_on_loss:
            log.info("a session ends: its client cannot be asked to publish again")
            self._services.end_requests.put_nowait(EndRequest(self._session, EndCause.STREAMS_LOST))
