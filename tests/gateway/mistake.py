"""An installation in which ``test_mistakes`` makes the mistakes of administrators, and steps that reveal them."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from gateway.tools.fake_nextcloud import FakeNextcloud
from gateway.tools.talk_client import RequestRefused, TalkClient
from gateway.wire import checksum
from tests.gateway.served import INTERNAL_SECRET, LOG, WITH_INTERNAL_CLIENTS
from tests.janus_process import ADMIN_KEY, API_SECRET, JanusProcess

WRONG_SECRET = "ffeeddccbbaa99887766554433221100"  # in place of any secret
TURN_KEY = "1a2b3c4d5e6f70819293a4b5c6d7e8f9"
TURN_SECRET = "9f8e7d6c5b4a39281706f5e4d3c2b1a0"
CLIENT_ADDRESS = "203.0.113.77"
TURN = f'[turn]\napi_key = "{TURN_KEY}"\nsecret = "{TURN_SECRET}"\nservers = ["turn:127.0.0.1:9"]\n'
IN_PROCESS = '[mcu]\ntype = "inprocess"\n[mcu.inprocess]\naddress = "127.0.0.1"\n'
WARNINGS_ABOUT_THE_MACHINE = ("lacks security fixes", "descriptors may be open")  # its Janus, its limits
LOG_LIMIT = 60.0  # seconds until a line is in the log


@dataclass
class Installation:
    """The servers of an installation; ``text`` is the configuration with which the gateway starts."""

    cloud: FakeNextcloud
    janus: JanusProcess | None
    folder: Path
    text: str = ""
    url: str = ""  # of the gateway
    private: list[str] = field(default_factory=list)  # that must not be in the log

    def replace(self, old: str, new: str) -> None:
        """Replace a value in the configuration."""
        assert self.text.count(f'"{old}"') == 1
        self.text = self.text.replace(f'"{old}"', f'"{new}"')

    def lines(self) -> list[tuple[str, str]]:
        """Return level and event of each line of the log so far."""
        written = (self.folder / LOG).read_text().splitlines(keepends=True)
        read = [json.loads(line) for line in written if line.endswith("\n")]
        return [(line["level"], line["event"]) for line in read]

    async def warnings(self, count: int) -> list[str]:
        """Wait for a number of warnings, and return all of them; warnings about this machine are left out."""
        async with asyncio.timeout(LOG_LIMIT):
            while True:
                found = [event for level, event in self.lines() if level != "info"]
                found = [event for event in found if not any(words in event for words in WARNINGS_ABOUT_THE_MACHINE)]
                if len(found) >= count:
                    return found
                await asyncio.sleep(0.05)

    async def get(self, path: str, **headers: str) -> tuple[int, str]:
        """Request a path of the gateway."""
        async with aiohttp.ClientSession() as http, http.get(self.url + path, headers=headers) as answer:
            return answer.status, await answer.text()

    async def hello(self, url: str) -> str:
        """Say hello with a ticket as a user of the Nextcloud at this URL; return the error code or ''."""
        ticket = self.cloud.ticket("alice")
        self.private.append(ticket["ticket"])
        async with TalkClient(self.url, url) as alice:
            try:
                await alice.hello(ticket)
            except RequestRefused as error:
                return error.code
            self.private += [alice.session_id, alice.resume_id]
        return ""


Trigger = Callable[[Installation], Awaitable[None]]


async def do_nothing(installation: Installation) -> None:
    """Do nothing: the gateway finds the mistake by itself."""


def hello(url: Callable[[Installation], str], code: str) -> Trigger:
    """Return the step of a client whose hello with this URL is refused."""

    async def say_hello(installation: Installation) -> None:
        assert await installation.hello(url(installation)) == code

    return say_hello


async def notify_and_hello(installation: Installation) -> None:
    """Let Nextcloud send a request, and a client say hello."""
    message = {"type": "message", "message": {"data": {"type": "private-text"}}}
    installation.private.append("private-text")
    assert (await installation.cloud.send(installation.url, "r", message))[0] == 403
    assert await installation.hello(installation.cloud.url) == "invalid_request"


async def hello_of_recorder(installation: Installation) -> None:
    """Say hello as a recorder with another secret."""
    random = secrets.token_hex(32)
    params = {"random": random, "token": checksum.sign(WRONG_SECRET, random, b""), "backend": installation.cloud.url}
    installation.private += params["token"], random
    async with TalkClient(installation.url, installation.cloud.url) as recorder:
        with pytest.raises(RequestRefused, match="invalid_token"):
            await recorder.hello_internal(params)


async def ask_for_credentials(installation: Installation) -> None:
    """Request TURN credentials as a Janus with another key."""
    assert (await installation.get(f"/turn/credentials?service=turn&api={WRONG_SECRET}"))[0] == 403


async def forward(installation: Installation) -> None:
    """Forward a request as a reverse proxy does."""
    status, body = await installation.get("/readyz", **{"X-Forwarded-For": CLIENT_ADDRESS, "X-Real-IP": CLIENT_ADDRESS})
    assert (status, json.loads(body)) == (200, {"state": "ok"})
    installation.private.append(CLIENT_ADDRESS)


def redirect_to_https(installation: Installation) -> None:
    """Let Nextcloud's web server redirect all requests from http to https."""

    def answer(request: Any) -> web.Response:
        location = f"https://cloud.example.com{request.path}"
        return web.Response(status=301, headers={"Location": location})

    installation.cloud.hook = answer


@asynccontextmanager
async def without_data_channels(janus: JanusProcess) -> AsyncIterator[str]:
    """Yield the URL of a WebSocket in front of a Janus, which then reports that it was built without usrsctp."""

    async def bridge(request: web.Request) -> web.WebSocketResponse:
        client = web.WebSocketResponse(protocols=["janus-protocol"])
        await client.prepare(request)
        async with aiohttp.ClientSession() as http, http.ws_connect(janus.url, protocols=["janus-protocol"]) as server:

            async def to_client() -> None:
                async for frame in server:
                    answer = json.loads(frame.data)
                    if answer["janus"] == "server_info":
                        assert answer["data_channels"] is True
                        answer["data_channels"] = False
                    await client.send_json(answer)

            sending = asyncio.create_task(to_client())
            async for frame in client:
                await server.send_str(frame.data)
            sending.cancel()
        return client

    app = web.Application()
    app.router.add_get("/", bridge)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"ws://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def correct_configuration(installation: Installation) -> str:
    """Return the configuration before a mistake is made, and record its secrets as private."""
    janus = installation.janus
    text = WITH_INTERNAL_CLIENTS.format(
        internal=INTERNAL_SECRET, url=installation.cloud.url, secret=installation.cloud.secret
    )
    installation.private += [
        INTERNAL_SECRET,
        TURN_KEY,
        TURN_SECRET,
        WRONG_SECRET,
        installation.cloud.secret,
        API_SECRET,
        ADMIN_KEY,
    ]
    if janus is None:
        return text + IN_PROCESS
    secret = f'api_secret = "{API_SECRET}"\nadmin_key = "{ADMIN_KEY}"\n'
    return f'{text}[mcu]\ntype = "janus"\n[[mcu.janus]]\nurl = "{janus.url}"\n{secret}'
