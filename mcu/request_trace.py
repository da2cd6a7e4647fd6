"""The recorder of the requests to an SFU that are made in this context; none unless the gateway records traces."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import TypeAlias

# Called with the name of a request when it is sent; returns the function to call at its end, with an error or "".
RequestTrace: TypeAlias = Callable[[str], Callable[[str], None]]

request_trace: ContextVar[RequestTrace | None] = ContextVar("request_trace", default=None)
