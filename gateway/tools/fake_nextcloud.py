"""A fake Nextcloud with Talk's backend API: a real HTTP server for tests and experiments.

Source: reference 3.2, 3.3, 3.7, 3.8, 4.1, 4.5, 6; signaling API, Backend requests.

It checks the gateway's checksums, answers joins, records every request, issues tickets (hello 1.0) and tokens (hello
2.0), and sends signed rooms API requests. Its answers can be changed at any time::

    async with FakeNextcloud() as cloud:
        cloud.rooms["r1"] = NextcloudRoom(permissions=["publish-media"])
        ... start a gateway with cloud.backend() ...
        await cloud.wait_for(lambda request: request.type == "room")
        await cloud.send("http://127.0.0.1:8080", "r1", {"type": "message", "message": {"data": {"x": 1}}})
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import quote

import aiohttp
import jwt
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from yarl import URL

from gateway.core.limits import Backend
from gateway.wire import checksum

WAIT_TIMEOUT = 5.0  # seconds that ``wait_for`` waits

Json = dict[str, Any]


@dataclass(slots=True)
class NextcloudRoom:
    """The answer to joins of a room; ``error`` (an error object) refuses joins, and leaves if ``refuses_leaves``."""

    properties: Any = None
    permissions: list[str] | None = None
    session: Json | None = None  # {"userid": …} names a guest
    error: Json | None = None
    refuses_leaves: bool = False


@dataclass(frozen=True, slots=True)
class RecordedRequest:
    """One request of the gateway; ``body`` is the object that ``type`` names."""

    type: str  # "auth", "room", "ping", …, "capabilities"; "" if its checksum was wrong
    body: Json
    path: str
    headers: dict[str, str]
    time: float = field(default_factory=time.monotonic)


class SigningKey:
    """A key that signs hello 2.0 tokens; ``published`` is the public key in the capabilities."""

    def __init__(self, algorithm: str = "EdDSA") -> None:
        self.algorithm = algorithm
        self._private: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
        if algorithm.startswith("RS"):
            self._private = rsa.generate_private_key(65537, 2048)
        elif algorithm.startswith("ES"):
            curve = {"ES256": ec.SECP256R1(), "ES384": ec.SECP384R1(), "ES512": ec.SECP521R1()}[algorithm]
            self._private = ec.generate_private_key(curve)
        else:
            self._private = ed25519.Ed25519PrivateKey.generate()

    @property
    def published(self) -> str:
        """The public key as Nextcloud publishes it: PEM, or for Ed25519 base64 only."""
        public = self._private.public_key()
        pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
        return "".join(pem.splitlines()[1:-1])[-44:] if self.algorithm == "EdDSA" else pem

    def sign(self, claims: Json) -> str:
        """Return a token with exactly these claims."""
        return jwt.encode(claims, self._private, algorithm=self.algorithm)


Hook = Callable[[RecordedRequest], Json | web.StreamResponse | None]


class FakeNextcloud:
    """The server; its attributes are settings that may be changed at any time.

    ``hook`` is called with each request and may return the answer: a protocol object (``{"type": …}``, which is wrapped
    in an OCS document), or a whole response, for malformed answers and redirects. All answers wait for ``gate``.
    """

    def __init__(self, secret: str = "", algorithm: str = "EdDSA", prefix: str = "/") -> None:
        self.secret = secret or secrets.token_hex(32)
        self.key = SigningKey(algorithm)
        self.prefix = prefix  # path of Nextcloud on its host
        self.features = ["signaling-v3"]
        self.signaling: Json = {"hello-v2-token-key": self.key.published}  # ``config.signaling``
        self.cache_control = "max-age=3600"
        self.rooms: dict[str, NextcloudRoom] = {}
        self.refuse_unknown_rooms = False
        self.hook: Hook | None = None
        self.gate: asyncio.Event | None = None
        self.requests: list[RecordedRequest] = []
        self._tickets: dict[str, str] = {}
        self._recorded = asyncio.Event()
        self._runner: web.AppRunner | None = None
        self._client: aiohttp.ClientSession | None = None
        self._port = 0

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> None:
        """Listen on a port; 0: any free port."""
        app = web.Application()
        app.router.add_get(f"{self.prefix}ocs/v2.php/cloud/capabilities", self._answer_capabilities)
        app.router.add_post(f"{self.prefix}ocs/v2.php/apps/spreed/api/{{version}}/signaling/backend", self._answer)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, host, port).start()
        self._port = self._runner.addresses[0][1]
        self._client = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10))

    async def close(self) -> None:
        """Stop listening. Idempotent."""
        runner, client, self._runner, self._client = self._runner, self._client, None, None
        if client is not None:
            await client.close()
        if runner is not None:
            await runner.cleanup()

    @property
    def url(self) -> str:
        """The base URL, ending with a slash."""
        return f"http://127.0.0.1:{self._port}{self.prefix}"

    def backend(self, id: str = "cloud", **settings: Any) -> Backend:
        """Return the backend for the gateway's configuration."""
        return Backend(id=id, urls=(self.url,), secret=self.secret, **settings)

    # --- credentials of clients

    def ticket(self, userid: str) -> Json:
        """Return ``auth.params`` of a hello 1.0 for this user; an empty ``userid``: a guest."""
        ticket = secrets.token_hex(16)
        self._tickets[ticket] = userid
        return {"userid": userid or None, "ticket": ticket}

    def token(self, userid: str, userdata: Any = None, **claims: Any) -> str:
        """Return the token of a hello 2.0; ``claims`` replace its claims; the value ``...`` removes a claim."""
        now = time.time()
        given = {"iss": self.url, "iat": now, "exp": now + 300, "sub": userid or ..., "userdata": userdata or ...}
        return self.key.sign({name: value for name, value in (given | claims).items() if value is not ...})

    # --- recorded requests

    def requests_of(self, type: str) -> list[RecordedRequest]:
        """Return the requests of one type, in order."""
        return [request for request in self.requests if request.type == type]

    async def wait_for(self, wanted: Callable[[RecordedRequest], bool], count: int = 1) -> RecordedRequest:
        """Return the ``count``-th request that fulfils ``wanted``, counting past requests, too.

        Raises:
            TimeoutError: fewer have arrived within ``WAIT_TIMEOUT`` seconds.
        """
        async with asyncio.timeout(WAIT_TIMEOUT):
            while len(found := [request for request in self.requests if wanted(request)]) < count:
                await self._recorded.wait()
        return found[count - 1]

    # --- the rooms API

    async def send(
        self, gateway: str, roomid: str, request: Json | bytes, headers: dict[str, str] | None = None
    ) -> tuple[int, str]:
        """Send a signed request to a gateway (``http://host:port``); return status and text of the answer.

        ``headers`` replace headers of the request; an empty value removes the header.
        """
        if self._client is None:
            raise RuntimeError("start() first")
        body = request if isinstance(request, bytes) else json.dumps(request).encode()
        random = secrets.token_hex(32)
        given = {
            "Content-Type": "application/json",
            "Spreed-Signaling-Random": random,
            "Spreed-Signaling-Checksum": checksum.sign(self.secret, random, body),
            "Spreed-Signaling-Backend": self.url,
        } | (headers or {})
        given = {name: value for name, value in given.items() if value}
        url = f"{gateway.rstrip('/')}/api/v1/room/{quote(roomid, safe='')}"
        async with self._client.post(URL(url, encoded=True), data=body, headers=given) as response:
            return response.status, await response.text()

    # --- answers

    async def _answer_capabilities(self, request: web.Request) -> web.StreamResponse:
        recorded = RecordedRequest("capabilities", {}, request.path, dict(request.headers))
        if (answer := await self._record(recorded)) is not None:
            return answer if isinstance(answer, web.StreamResponse) else _ocs(answer)
        spreed = {"features": self.features, "config": {"signaling": self.signaling}}
        etag = f'"{hashlib.sha256(json.dumps(spreed).encode()).hexdigest()[:32]}"'
        headers = {"ETag": etag, "Cache-Control": self.cache_control}
        if request.headers.get("If-None-Match") == etag:
            return web.Response(status=304, headers=headers)
        response = _ocs({"version": {"major": 30}, "capabilities": {"spreed": spreed}})
        response.headers.update(headers)
        return response

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        headers = request.headers
        random, given = headers.get("Spreed-Signaling-Random", ""), headers.get("Spreed-Signaling-Checksum", "")
        if len(random) < 32 or not checksum.verify(self.secret, random, given, body):
            await self._record(RecordedRequest("", {}, request.path, dict(headers)))
            return _ocs(_error("invalid_request", "The request could not be authenticated."))
        message = json.loads(body)
        recorded = RecordedRequest(message["type"], message[message["type"]], request.path, dict(headers))
        answer = await self._record(recorded)
        if isinstance(answer, web.StreamResponse):
            return answer
        return _ocs(self._reply(recorded) if answer is None else answer)

    async def _record(self, request: RecordedRequest) -> Json | web.StreamResponse | None:
        """Record a request, and return the answer of ``hook`` once ``gate`` is set."""
        self.requests.append(request)
        self._recorded.set()
        self._recorded = asyncio.Event()
        answer = self.hook(request) if self.hook is not None else None
        if self.gate is not None:
            await self.gate.wait()
        return answer

    def _reply(self, request: RecordedRequest) -> Json:
        body = request.body
        if request.type == "auth":
            return self._auth(body.get("params"))
        if request.type == "room" and body.get("action") != "leave":
            return self._join(body["roomid"])
        room = self.rooms.get(body.get("roomid", ""))
        if request.type == "session":  # Talk does not support this type
            return _error("unknown_type", "The given type is not supported.")
        if request.type == "ping":
            return {"type": "room", "room": {"version": "1.0"}}
        if room is not None and room.error is not None and not room.refuses_leaves:
            return {"type": "room", "room": {"version": "1.0", "roomid": body["roomid"]}}
        return self._join(body["roomid"])  # Talk answers a leave with the whole room, or ``no_such_room``

    def _auth(self, params: Any) -> Json:
        params = params if isinstance(params, dict) else {}
        userid = params.get("userid") or ""
        if params.get("ticket") not in self._tickets or self._tickets[params["ticket"]] != userid:
            return _error("invalid_ticket", "The given ticket is not valid for this user.")
        answer: Json = {"version": "1.0"}
        if userid:
            answer |= {"userid": userid, "user": {"displayname": userid.title()}}
        return {"type": "auth", "auth": answer}

    def _join(self, roomid: str) -> Json:
        room = self.rooms.get(roomid)
        if room is None:
            if self.refuse_unknown_rooms:
                return _error("no_such_room", "The user is not invited to this room.")
            room = NextcloudRoom(properties={"name": roomid, "type": 2})
        if room.error is not None:
            return {"type": "error", "error": room.error}
        answer = {"version": "1.0", "roomid": roomid, "properties": room.properties}
        if room.permissions is not None:
            answer["permissions"] = room.permissions
        if room.session is not None:
            answer["session"] = room.session
        return {"type": "room", "room": answer}


def _error(code: str, message: str) -> Json:
    return {"type": "error", "error": {"code": code, "message": message}}


def _ocs(data: Any) -> web.Response:
    return web.json_response({"ocs": {"meta": {"status": "ok", "statuscode": 200, "message": "OK"}, "data": data}})
