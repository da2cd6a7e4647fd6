"""The steps that open a session: a real hello of an internal client, and one of a user with a token or ticket."""

from __future__ import annotations

import secrets

import aiohttp

from gateway.tools.doctor.signaling import DRAIN_REMEDY, json_object
from gateway.tools.doctor.steps import Outcome, failed, not_tried, ok
from gateway.tools.doctor.target import Target
from gateway.tools.talk_client import Json, RequestRefused, TalkClient
from gateway.wire import checksum
from gateway.wire.errors import Code

TICKET = (
    "--ticket FILE, with what Nextcloud answers a user's browser at"
    " /ocs/v2.php/apps/spreed/api/v3/signaling/settings?format=json"
)
_MEMBERS = ("ocs", "data", "helloAuthParams")  # around the credentials in that answer


def internal_params(secret: str, backend: str) -> Json:
    """Return the parameters of an internal client's hello."""
    random = secrets.token_hex(32)
    return {"random": random, "token": checksum.sign(secret, random, b""), "backend": backend}


def read_ticket(text: str) -> tuple[str, Json]:
    """Return the version of a hello and its parameters, from Talk's signaling settings or from a part of them.

    Raises:
        ValueError: it has neither a token nor a ticket.
    """
    document = json_object(text)
    if document is None:
        if text.count(".") == 2 and not text.split()[1:]:
            return "2.0", {"token": text.strip()}
        raise ValueError("it is neither a token nor JSON")
    for member in _MEMBERS:
        inner = document.get(member)
        document = inner if isinstance(inner, dict) else document
    for version in ("2.0", "1.0"):
        params = document.get(version, document)
        if isinstance(params, dict) and isinstance(params.get("token" if version == "2.0" else "ticket"), str):
            return version, params
    raise ValueError("it has neither a token nor a ticket")


async def open_user_session(target: Target, ticket: tuple[str, Json] | None, backend: str) -> Outcome:
    """Open a session with the token or ticket of a user, and end it; ``backend`` is the URL of the user's Nextcloud."""
    if ticket is None:
        return not_tried(TICKET)
    if not backend:
        return not_tried("the URL of a Nextcloud: --nextcloud URL, or -c FILE")
    version, params = ticket
    try:
        async with TalkClient(target.url, backend) as client:
            await client.hello(params, version)
            await client.bye()
    except RequestRefused as error:
        return _refused_ticket(error, version, backend)
    except (aiohttp.ClientError, OSError) as error:
        change = "see the logs of the reverse proxy and of the gateway"
        return failed("the WebSocket ends before the hello is answered", change, type(error).__name__)
    return ok(f"a user opened a session with a hello {version} and ended it")


def _refused_ticket(error: RequestRefused, version: str, backend: str) -> Outcome:
    change = "the gateway's log names the cause and what to compare"
    if error.code == Code.INVALID_BACKEND.value[0]:
        change = f"add {backend} to urls of the [[backend]] in the gateway's configuration, and reload it"
    elif error.code in (Code.TOKEN_EXPIRED.value[0], "invalid_ticket"):
        change = "fetch it again: it is valid for a short time; if a new one is refused, synchronise the clocks (NTP)"
    elif error.code == Code.INVALID_TOKEN.value[0]:
        change = f"fetch it from {backend}; the gateway's log names the issuer of this one"
    return failed(f"the gateway refuses the hello {version} of a user", change, str(error))


async def open_session(target: Target, secret: str, backend: str) -> Outcome:
    """Open a session as an internal client, and end it; ``backend`` is the URL of a Nextcloud."""
    if not secret or not backend:
        return not_tried(
            "-c FILE, a configuration with a backend and internal.secret: the doctor is an internal client"
        )
    try:
        async with TalkClient(target.url, backend) as client:
            await client.hello_internal(internal_params(secret, backend))
            await client.bye()
    except RequestRefused as error:
        if error.code == Code.SHUTDOWN_SCHEDULED.value[0]:
            return failed("the gateway is being drained: it opens no new sessions", DRAIN_REMEDY, str(error))
        change = "reload the gateway if its file was changed (systemctl reload portunus); its log names the cause"
        return failed("the running gateway refuses a hello with this internal.secret and backend", change, str(error))
    except (aiohttp.ClientError, OSError) as error:
        change = "see the logs of the reverse proxy and of the gateway"
        return failed("the WebSocket ends before the hello is answered", change, type(error).__name__)
    return ok("an internal client opened a session and ended it")
