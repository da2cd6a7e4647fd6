"""A fake Nextcloud with Talk's backend API: a real HTTP server for tests and experiments.

Source: reference 3.2, 3.3, 3.7, 3.8, 4.1, 4.5, 6; signaling API, Backend requests. It answers as Nextcloud 32 with
Talk 22 does; a ``NextcloudRoom`` in ``rooms`` replaces parts of the answers about a room.

It checks the gateway's checksums, answers joins, records every request, issues tickets (hello 1.0) and tokens (hello
2.0), and sends signed rooms API requests. ``talk`` contains the conversations, and the actions of their members::

    async with FakeNextcloud() as cloud:
        ... start a gateway with cloud.backend() ...
        cloud.gateway = "http://127.0.0.1:8080"
        session = cloud.talk.open("r1", "alice")
        ... let alice join r1 with this session id ...
        await cloud.talk.set_in_call("r1", session, 7)
        await cloud.wait_for(lambda request: request.type == "room")
        await cloud.send(cloud.gateway, "r1", {"type": "message", "message": {"data": {"x": 1}}})
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

import jwt
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gateway.core.limits import Backend
from gateway.tools.fake_talk import FakeTalk
from gateway.tools.talk_answers import NextcloudRoom, TalkAnswers, error
from gateway.tools.talk_notifier import SEND_ERRORS, Answer, TalkNotifier
from gateway.tools.talk_requests import php_json
from gateway.tools.talk_rooms import Json
from gateway.wire import checksum

WAIT_TIMEOUT = 30.0  # seconds that ``wait_for`` waits
LEFT_OUT = object()  # in place of a claim's value: the token lacks this claim


@dataclass(frozen=True, slots=True)
class RecordedRequest:
    """One request of the gateway; ``body`` is the member of the request with the name ``type``."""

    type: str  # "auth", "room", "ping", …, "capabilities"; "" if the checksum was wrong
    body: Json
    path: str
    headers: dict[str, str]
    time: float = field(default_factory=time.monotonic)  # monotonic, in seconds


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
        """The public key as Nextcloud publishes it: PEM, or for Ed25519 the 32 octets of the key in base64."""
        public = self._private.public_key()
        pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
        return "".join(pem.splitlines()[1:-1])[-44:] if self.algorithm == "EdDSA" else pem

    def sign(self, claims: Json) -> str:
        """Return a signed JWT with exactly these claims."""
        return jwt.encode(claims, self._private, algorithm=self.algorithm)


Hook = Callable[[RecordedRequest], Json | web.StreamResponse | None]


class FakeNextcloud:
    """The server; its attributes are settings that may be changed at any time.

    ``hook`` is called with each request and may return the answer: a protocol object (``{"type": …}``, which is wrapped
    in an OCS document), or a whole response, for malformed answers and redirects. All answers wait for ``gate``.
    ``gateway`` is the base URL of the gateway to which ``talk`` sends requests. ``rooms`` replaces parts of the answers
    about a room, by its id. ``clock`` returns unix time in seconds; tokens have the system's time.
    """

    def __init__(
        self,
        secret: str = "",
        algorithm: str = "EdDSA",
        prefix: str = "/",
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.secret = secret or secrets.token_hex(32)
        self.key = SigningKey(algorithm)
        self.prefix = prefix  # path of Nextcloud on its host
        self.features = ["signaling-v3"]
        self.signaling: Json = {"hello-v2-token-key": self.key.published}  # ``config.signaling`` of the capabilities
        self.cache_control = "max-age=3600"
        self.rooms: dict[str, NextcloudRoom] = {}
        self.gateway = ""
        self.notifier = TalkNotifier()
        self.talk = FakeTalk(clock, self)
        self.hook: Hook | None = None
        self.gate: asyncio.Event | None = None
        self.latency = 0.0  # seconds until an answer
        self.requests: list[RecordedRequest] = []
        self._tickets: dict[str, str] = {}
        self._answers = TalkAnswers(self.talk, self.rooms, self._tickets)
        self._recorded = asyncio.Event()
        self._runner: web.AppRunner | None = None
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

    async def close(self) -> None:
        """Stop listening. Idempotent."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()
        await self.notifier.close()

    @property
    def url(self) -> str:
        """The base URL, ending with a slash."""
        return f"http://127.0.0.1:{self._port}{self.prefix}"

    @property
    def refuse_unknown_rooms(self) -> bool:
        """Whether a room must exist before it is joined; otherwise a join creates it."""
        return self.talk.rooms.refuse_unknown_rooms

    @refuse_unknown_rooms.setter
    def refuse_unknown_rooms(self, value: bool) -> None:
        self.talk.rooms.refuse_unknown_rooms = value

    def backend(self, id: str = "cloud", **settings: Any) -> Backend:
        """Return the backend for the gateway's configuration."""
        return Backend(id=id, urls=(self.url,), secret=self.secret, **settings)

    # --- credentials of clients

    def ticket(self, userid: str) -> Json:
        """Issue a ticket, and return it as ``auth.params`` of a hello 1.0; an empty ``userid``: a guest."""
        ticket = secrets.token_hex(16)
        self._tickets[ticket] = userid
        return {"userid": userid or None, "ticket": ticket}

    def token(self, userid: str, userdata: Any = None, **claims: Any) -> str:
        """Return the token of a hello 2.0; ``claims`` replace its claims, ``LEFT_OUT`` removes one."""
        now = time.time()
        user = {"sub": userid or LEFT_OUT, "userdata": userdata or LEFT_OUT}
        all_claims = {"iss": self.url, "iat": now, "exp": now + 300, **user, **claims}
        return self.key.sign({name: value for name, value in all_claims.items() if value is not LEFT_OUT})

    def federation_settings(self, signaling: str, roomid: str, userid: str) -> Json:
        """Return the part of Talk's signaling settings about a room of this server for a user of another one.

        ``signaling`` is the URL of this Nextcloud's gateway. ``nextcloudServer`` does not end with a slash; the token's
        user data are only the displayed name.
        """
        return {
            "server": signaling,
            "nextcloudServer": self.url.rstrip("/"),
            "helloAuthParams": {"token": self.token(userid, {"displayname": userid.title()})},
            "roomId": roomid,
        }

    def federation(self, signaling: str, roomid: str, userid: str) -> Json:
        """Return the ``federation`` object of a join, as Talk's clients build it from ``federation_settings``."""
        settings = self.federation_settings(signaling, roomid, userid)
        return {
            "signaling": settings["server"],
            "url": f"{settings['nextcloudServer']}/ocs/v2.php/apps/spreed/api/v3/signaling/backend",
            "roomid": settings["roomId"],
            "token": settings["helloAuthParams"]["token"],
        }

    # --- recorded requests

    def requests_of(self, type: str) -> list[RecordedRequest]:
        """Return the requests of one type, in order."""
        return [request for request in self.requests if request.type == type]

    async def wait_for(self, wanted: Callable[[RecordedRequest], bool], count: int = 1) -> RecordedRequest:
        """Return the ``count``-th request for which ``wanted`` is true, counting past requests, too.

        Raises:
            TimeoutError: fewer requests have arrived within ``WAIT_TIMEOUT`` seconds.
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

        Raises:
            RuntimeError: ``start`` was not called.
            aiohttp.ClientError, TimeoutError: there is no answer.
        """
        if self._runner is None:
            raise RuntimeError("start() first")
        answer = await self.notifier.send(
            gateway, roomid, request, secret=self.secret, backend=self.url, headers=headers
        )
        return answer.status, answer.text

    @property
    def attached(self) -> bool:
        """Whether there is a gateway to which requests can be sent: ``gateway`` is set."""
        return bool(self.gateway)

    @property
    def changes_only(self) -> bool:
        """Whether requests contain no full lists: the gateway has announced ``changed-users``."""
        return self.notifier.changes_only

    async def post(self, roomid: str, request: Json) -> Answer:
        """Send a request about a room to ``gateway``; for the errors see ``RequestSender.post``."""
        if not self.gateway:
            raise RuntimeError("set gateway first")
        return await self.notifier.post(self.gateway, roomid, request, secret=self.secret, backend=self.url)

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
        response = _ocs({"version": {"major": 32}, "capabilities": {"spreed": spreed}})
        response.headers.update(headers)
        return response

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        headers = request.headers
        random, signature = headers.get("Spreed-Signaling-Random", ""), headers.get("Spreed-Signaling-Checksum", "")
        if len(random) < 32 or not checksum.verify(self.secret, random, signature, body):
            await self._record(RecordedRequest("", {}, request.path, dict(headers)))
            return _ocs(error("invalid_request", "The request could not be authenticated."))
        message = json.loads(body)
        recorded = RecordedRequest(message["type"], message[message["type"]], request.path, dict(headers))
        answer = await self._record(recorded)
        if isinstance(answer, web.StreamResponse):
            return answer
        if answer is not None:
            return _ocs(answer)
        try:
            return _ocs(await self._answers.reply(recorded.type, recorded.body))
        except SEND_ERRORS:
            return web.json_response(_FAILURE_BODY, status=500)  # as Talk answers if a request to the gateway failed

    async def _record(self, request: RecordedRequest) -> Json | web.StreamResponse | None:
        """Record a request, and return the answer of ``hook``, delayed by ``gate`` and ``latency``."""
        self.requests.append(request)
        self._recorded.set()
        self._recorded = asyncio.Event()
        answer = self.hook(request) if self.hook is not None else None
        if self.gate is not None:
            await self.gate.wait()
        if self.latency:
            await asyncio.sleep(self.latency)
        return answer


_FAILURE_BODY = {
    "ocs": {"meta": {"status": "failure", "statuscode": 996, "message": "Internal Server Error"}, "data": []}
}


def _ocs(data: Any) -> web.Response:
    document = {"ocs": {"meta": {"status": "ok", "statuscode": 200, "message": "OK"}, "data": data}}
    return web.Response(body=php_json(document), content_type="application/json", charset="utf-8")
