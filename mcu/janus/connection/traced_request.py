"""Records the requests to Janus for a trace: their names, and how they ended.

The name of a plugin request is that in its body. No member of a request or of an answer but these is recorded.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from mcu.janus.connection.messages import JanusMessage, error_of
from mcu.request_trace import RequestTrace


def record(
    trace: RequestTrace, janus: str, fields: Mapping[str, Any], answer: asyncio.Future[JanusMessage | None]
) -> None:
    """Record a request to Janus until its answer has arrived or it is cancelled."""
    body = fields.get("body")
    end = trace(f"janus {body.get('request', janus) if isinstance(body, dict) else janus}")
    answer.add_done_callback(lambda answer: end(_outcome(answer)))


def _outcome(answer: asyncio.Future[JanusMessage | None]) -> str:
    """Return the error with which a request ended; empty if it succeeded."""
    if answer.cancelled():
        return "cancelled"
    message = answer.result()
    if message is None:
        return "connection lost"
    if message.janus == "interrupted":
        return "connection interrupted"
    error = error_of(message)
    return "" if error is None else f"janus error {error.code}"
