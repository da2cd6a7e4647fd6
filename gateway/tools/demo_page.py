"""The routes of the call page: its files and its requests to the demo backend. Only ``portunus demo`` serves them."""

from __future__ import annotations

from importlib import resources
from pathlib import PurePosixPath
from typing import Annotated, TypeVar

import msgspec
from aiohttp import web
from msgspec import Meta, Struct

from gateway.tools.demo_backend import DemoBackend, TooManyParticipants
from gateway.tools.talk_rooms import ID_LENGTH

MAX_BODY = 4096  # bytes; a name, a room and two ids

_TYPES = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}

# Allows resources of this origin only, no inline scripts or styles, and no conversion of text to markup or code.
_POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "media-src 'self' blob: mediastream:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
    ]
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "Permissions-Policy": "camera=(self), microphone=(self), display-capture=(self)",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-cache",
}

_Text = Annotated[str, Meta(min_length=1, max_length=60, pattern=r"\S")]
_Id = Annotated[str, Meta(max_length=ID_LENGTH)]
_T = TypeVar("_T", bound=Struct)


class _Join(Struct, forbid_unknown_fields=True):
    name: _Text
    room: _Text
    person: Annotated[str, Meta(min_length=16, max_length=64)]
    previous: _Id = ""


class _Call(Struct, forbid_unknown_fields=True):
    session: _Id
    flags: Annotated[int, Meta(ge=0, le=15)]


def page_routes(backend: DemoBackend) -> list[web.RouteDef]:
    """Return the routes of the page, to be passed as ``Gateway(routes=…)``."""
    files = {
        path.name: path.read_bytes() for path in resources.files("gateway").joinpath("web").iterdir() if path.is_file()
    }

    async def asset(request: web.Request) -> web.Response:
        return _file_response(files, request.match_info.get("name", "index.html"))

    async def join(request: web.Request) -> web.Response:
        body = await _read(request, _Join)
        try:
            credentials = backend.join(" ".join(body.name.split()), body.room.strip(), body.person, body.previous)
        except TooManyParticipants as error:
            raise web.HTTPServiceUnavailable(text="the demo backend is full") from error
        return _json_response(credentials)

    async def call(request: web.Request) -> web.Response:
        body = await _read(request, _Call)
        if not await backend.set_call(body.session, body.flags):
            raise web.HTTPNotFound(text="the demo backend has no such session")
        return _json_response({})

    return [
        web.get("/", asset),
        web.get("/demo/{name}", asset),
        web.post("/demo/api/join", join),
        web.post("/demo/api/call", call),
    ]


def _file_response(files: dict[str, bytes], name: str) -> web.Response:
    content_type = _TYPES.get(PurePosixPath(name).suffix)
    if content_type is None or name not in files:
        raise web.HTTPNotFound
    return web.Response(body=files[name], content_type=content_type, charset="utf-8", headers=_HEADERS)


async def _read(request: web.Request, struct: type[_T]) -> _T:
    """Decode a request of the page; other origins cannot send JSON without a CORS preflight."""
    if request.content_type != "application/json":
        raise web.HTTPUnsupportedMediaType(text="expected JSON")
    body = b""  # may arrive in chunks, and without a Content-Length
    while len(body) <= MAX_BODY and (chunk := await request.content.read(MAX_BODY + 1 - len(body))):
        body += chunk
    if len(body) > MAX_BODY:
        raise web.HTTPRequestEntityTooLarge(MAX_BODY, len(body))
    try:
        return msgspec.json.decode(body, type=struct)
    except (msgspec.DecodeError, RecursionError) as error:
        raise web.HTTPBadRequest(text=f"the request is invalid: {error}") from error


def _json_response(answer: object) -> web.Response:
    return web.Response(
        body=msgspec.json.encode(answer), content_type="application/json", headers={"Cache-Control": "no-store"}
    )
