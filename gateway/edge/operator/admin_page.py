"""The admin page: its files, log-in, and the operator's requests of a browser that is logged in.

Source: docs/operations.md, "The admin page". Without ``admin.secret`` all paths are 404. ``POST admin/api/login`` with
``{"secret": …}`` sets a cookie for the paths below ``admin/api/``; the routes of ``operator_routes`` are served there.
Requests other than GET need the header ``X-CSRF-Token``, whose value ``login`` and ``GET admin/api/login`` answer.
Errors are ``{"error": …}``, one sentence.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Awaitable, Callable, Iterable
from importlib import resources
from pathlib import PurePosixPath
from typing import cast

import msgspec
from aiohttp import web

from gateway.core.throttle import ThrottledAction
from gateway.edge.http.address import TrustedProxies
from gateway.edge.http.body import BodyReader, UnreadableBody
from gateway.edge.http.caller import HttpCaller
from gateway.edge.http.json_answer import answer, refusal
from gateway.edge.operator.admin_logins import AdminLogins, Login
from gateway.flows.refusals import Refusals
from gateway.flows.throttling import Throttling

COOKIE = "portunus_admin"
CSRF_HEADER = "X-CSRF-Token"
MAX_BODY = 4096  # bytes of a request to log in

_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
# Allows resources of this origin only, no inline scripts or styles, and no conversion of text to markup or code.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Examination = Callable[[], Awaitable[bytes]]  # returns the doctor's results as JSON, or raises ExaminationError


class ExaminationError(Exception):
    """The doctor could not be run; the text is a sentence without a full stop."""


class _LoginRequest(msgspec.Struct, forbid_unknown_fields=True):
    secret: str


class LoginAnswer(msgspec.Struct, frozen=True):
    """The answer to a log-in, and to the question whether the browser is logged in."""

    csrf_token: str  # empty: it is not
    doctor: bool  # whether the page can run the doctor


class AdminPage:
    """Serves the page and its requests.

    ``routes`` are those of the operator; ``examine`` runs the doctor, at most once at a time.
    """

    def __init__(
        self,
        secret: str,
        routes: Iterable[web.RouteDef],
        proxies: TrustedProxies,
        throttling: Throttling,
        refusals: Refusals,
        bodies: BodyReader,
        clock: Callable[[], float],
        examine: Examination | None = None,
    ) -> None:
        self._secret = secret
        self._operator_routes = tuple(routes)
        self._proxies = proxies
        self._throttling = throttling
        self._refusals = refusals
        self._bodies = bodies
        self._logins = AdminLogins(clock)
        self._examine = examine
        self._examination = asyncio.Lock()
        web_folder = resources.files("gateway").joinpath("web")
        shared = (web_folder.joinpath(name) for name in ("base.css", "icon.svg"))
        own = (path for path in web_folder.joinpath("admin").iterdir() if path.is_file())
        self._files = {path.name: path.read_bytes() for path in (*shared, *own)}

    def apply(self, secret: str) -> None:
        """Replace the secret; if it has changed, end all log-ins and forget the failures: they were not about it."""
        if secret != self._secret:
            self._logins.clear()
            self._throttling.clear(ThrottledAction.ADMIN_SECRET)
        self._secret = secret

    def routes(self, prefix: str) -> list[web.RouteDef]:
        """Return the routes below a prefix, which is empty or begins with a slash."""
        api = f"{prefix}/admin/api"
        return [
            web.get(f"{prefix}/admin", self._redirect),
            web.get(f"{prefix}/admin/", self._file),
            web.get(f"{prefix}/admin/{{name}}", self._file),
            web.get(f"{api}/login", self._report_login, allow_head=False),
            web.post(f"{api}/login", self._log_in),
            web.delete(f"{api}/login", self._logged_in(self._log_out)),
            web.post(f"{api}/doctor", self._logged_in(self._run_doctor)),
            *(self._protected(route, api) for route in self._operator_routes),
        ]

    def _protected(self, route: web.RouteDef, api: str) -> web.RouteDef:
        """Return a route of the operator for browsers that are logged in."""
        handler = self._logged_in(cast(Handler, route.handler))
        return web.route(route.method, f"{api}{route.path}", handler, **route.kwargs)

    # -- files

    async def _redirect(self, request: web.Request) -> web.StreamResponse:
        self._check_enabled()
        # relative, because a proxy may have removed a prefix
        return web.Response(status=308, headers={"Location": "admin/", **_HEADERS})

    async def _file(self, request: web.Request) -> web.StreamResponse:
        self._check_enabled()
        name = request.match_info.get("name", "index.html")
        content_type = _TYPES.get(PurePosixPath(name).suffix)
        if content_type is None or name not in self._files:
            raise web.HTTPNotFound
        return web.Response(body=self._files[name], content_type=content_type, charset="utf-8", headers=_HEADERS)

    def _check_enabled(self) -> None:
        if not self._secret:
            raise web.HTTPNotFound

    # -- log-in

    async def _log_in(self, request: web.Request) -> web.Response:
        """Open a log-in for the right secret; failures are throttled."""
        self._check_enabled()
        secret = await self._read_secret(request)
        if isinstance(secret, web.Response):
            return secret
        if not hmac.compare_digest(secret.encode("utf-8", "surrogatepass"), self._secret.encode()):
            self._refusals.admin_secret()
            caller = HttpCaller(request, self._proxies.real_ip(request))
            if await self._throttling.record_failure(caller, ThrottledAction.ADMIN_SECRET):
                return refusal(429, "too many wrong secrets from this address: wait half an hour")
            return refusal(403, "the secret is wrong")
        token, login = self._logins.open()
        response = self._login_answer(login)
        is_secure = request.headers.get("Origin", "").startswith("https:")
        # without a path: the browser uses that of the request, which a proxy may have changed
        response.set_cookie(COOKIE, token, path="", secure=is_secure, httponly=True, samesite="Strict")
        return response

    async def _read_secret(self, request: web.Request) -> str | web.Response:
        """Return the secret of a request to log in, or a refusal."""
        if request.content_type != "application/json":  # other origins cannot send it without a preflight
            return refusal(415, "expected JSON")
        if not 0 < (request.content_length or 0) <= MAX_BODY:
            return refusal(413, f"expected a body of at most {MAX_BODY} bytes")
        try:
            return msgspec.json.decode(await self._bodies.read(request), type=_LoginRequest).secret
        except (UnreadableBody, msgspec.DecodeError, UnicodeDecodeError):
            return refusal(400, "the request is invalid")

    async def _report_login(self, request: web.Request) -> web.Response:
        self._check_enabled()
        return self._login_answer(self._logins.find(request.cookies.get(COOKIE, "")))

    async def _log_out(self, request: web.Request) -> web.Response:
        self._logins.close(request.cookies.get(COOKIE, ""))
        return answer(200, {})

    def _login_answer(self, login: Login | None) -> web.Response:
        body = LoginAnswer("", False) if login is None else LoginAnswer(login.csrf_token, self._examine is not None)
        response = answer(200, body)
        response.headers.update(_HEADERS)
        return response

    def _logged_in(self, handler: Handler) -> Handler:
        """Return a handler that serves a request only of a browser that is logged in."""

        async def serve(request: web.Request) -> web.StreamResponse:
            self._check_enabled()
            login = self._logins.find(request.cookies.get(COOKIE, ""))
            if login is None:
                return refusal(401, "not logged in")
            given = request.headers.get(CSRF_HEADER, "")
            if request.method != "GET" and not hmac.compare_digest(given.encode(), login.csrf_token.encode()):
                return refusal(403, f"the header {CSRF_HEADER} does not belong to this log-in")
            response = await handler(request)
            response.headers.update(_HEADERS)
            return response

        return serve

    # -- doctor

    async def _run_doctor(self, request: web.Request) -> web.Response:
        if self._examine is None:
            return refusal(404, "this gateway cannot run the doctor: it has no configuration file")
        if self._examination.locked():
            return refusal(409, "the doctor is at work already")
        async with self._examination:
            try:
                results = await self._examine()
            except ExaminationError as error:
                return refusal(502, str(error))
        return web.Response(body=results, content_type="application/json")
