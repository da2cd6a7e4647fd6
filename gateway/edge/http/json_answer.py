"""Answers with JSON to requests of the operator's commands."""

from __future__ import annotations

import msgspec
from aiohttp import web


def answer(status: int, body: object) -> web.Response:
    """Return an answer with an object that msgspec encodes."""
    return web.Response(status=status, body=msgspec.json.encode(body), content_type="application/json")


def refusal(status: int, sentence: str) -> web.Response:
    """Return the answer to a request that is refused; the sentence has no full stop."""
    return answer(status, {"error": sentence})
