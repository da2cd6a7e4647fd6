"""The head of a request, as far as it is read before a request is accepted."""

from __future__ import annotations

from typing import Protocol

from aiohttp import HttpVersion
from multidict import MultiMapping


class RequestHead(Protocol):
    """The part that the requests of aiohttp and ``UpgradeRequest`` have in common."""

    @property
    def version(self) -> HttpVersion:
        """The version of HTTP."""

    @property
    def headers(self) -> MultiMapping[str]:
        """The headers; names are compared without regard to case."""

    @property
    def remote(self) -> str | None:
        """The address of the TCP peer; empty or ``None`` for a unix socket."""
