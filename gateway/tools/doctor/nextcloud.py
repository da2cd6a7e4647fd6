"""Steps between the gateway and one Nextcloud, in both directions (reference 1.4, 3.7, 3.8)."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import aiohttp
from msgspec import Raw

from gateway.core.limits import Backend
from gateway.edge.nextcloud.backend_connection import Redirected, Reply, RequestFailed
from gateway.edge.nextcloud.backend_http import BackendHttp
from gateway.edge.nextcloud.capabilities import PATH, Capabilities, parse_capabilities
from gateway.edge.nextcloud.client import NextcloudClient
from gateway.edge.nextcloud.failures import explanation, redirect_base
from gateway.features import announced
from gateway.flows.ports import NextcloudError
from gateway.tools.doctor.signaling import clock_offset
from gateway.tools.doctor.steps import Outcome, failed, not_tried, ok, warning
from gateway.tools.doctor.target import Target
from gateway.tools.talk_check import CLOCK_TOLERANCE
from gateway.tools.talk_notifier import TalkNotifier
from gateway.version import SERVER_HEADER
from gateway.wire.backend import AuthRequest
from gateway.wire.token import is_public_key

ROOM = "portunus-doctor"  # a room that does not exist
_INVALID_TICKET = AuthRequest(Raw(b'{"userid":null,"ticket":"portunus-doctor"}'))
_SECRET_REMEDY = (
    "use one secret for backend.secret and in Nextcloud (Administration settings, Talk, High-performance backend),"
    " without blanks or line ends around it"
)


@dataclass(slots=True)
class ExaminedNextcloud:
    """One URL of a backend; ``fetch_capabilities`` sets the attributes that the later steps check.

    A ``backend`` without a secret is that of ``--nextcloud``; no signed requests are sent to it.
    """

    backend: Backend
    url: str  # with a slash at the end
    capabilities: Capabilities = field(default_factory=Capabilities)
    clock_offset: float | None = None  # seconds that its clock is ahead of this machine's


async def fetch_capabilities(nextcloud: ExaminedNextcloud) -> Outcome:
    """Fetch the capabilities, as the gateway does."""
    async with BackendHttp() as http:
        headers = {"Accept": "application/json", "OCS-APIRequest": "true", "User-Agent": SERVER_HEADER}
        try:
            reply = await http.request("GET", nextcloud.url + PATH, headers)
        except RequestFailed as error:
            if isinstance(error, Redirected):
                evidence = f"{nextcloud.url}{PATH} answers with HTTP status {error.status}"
                change = f"write the URL to which it redirects in backend.urls; see: curl -I {nextcloud.url}{PATH}"
                if base := redirect_base(error):
                    change = f"write {base} in backend.urls"
                return failed("it redirects, which signed requests do not follow", change, evidence)
            change = f"correct backend.urls, or mend the way there; on this machine: curl -v {nextcloud.url}status.php"
            return failed(
                "this Nextcloud cannot be reached from here", change, f"{nextcloud.url}: {explanation(error)}"
            )
    nextcloud.clock_offset = clock_offset(reply.headers.get("Date", ""))
    return _capabilities_outcome(nextcloud, reply)


def _capabilities_outcome(nextcloud: ExaminedNextcloud, reply: Reply) -> Outcome:
    evidence = f"{nextcloud.url}{PATH} answers with HTTP status {reply.status}"
    if reply.status == 503:
        return failed("it is in maintenance mode, or overloaded", "occ maintenance:mode --off", evidence)
    capabilities = parse_capabilities(reply) if reply.status == 200 and reply.is_json else None
    if capabilities is None:
        change = "correct backend.urls: the base URL of Nextcloud, with its folder if it has one"
        return failed("another program than Nextcloud answers there", change, evidence)
    if not capabilities.has_talk:
        return failed("Talk is not enabled there", "occ app:enable spreed", evidence)
    nextcloud.capabilities = capabilities
    return ok(f"{evidence}; Talk has {len(capabilities.features)} features")


async def compare_clocks(nextcloud: ExaminedNextcloud, target: Target) -> Outcome:
    """Compare the clock of the signaling server with Nextcloud's."""
    if nextcloud.clock_offset is None or target.clock_offset is None:
        sender = "Nextcloud" if nextcloud.clock_offset is None else "the signaling server"
        return warning("the clocks cannot be compared", "have the proxy pass all headers", f"{sender} sends no Date")
    ahead = target.clock_offset - nextcloud.clock_offset
    evidence = f"the signaling server's clock is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} Nextcloud's"
    if abs(ahead) > CLOCK_TOLERANCE:
        change = "synchronise the clocks of both machines: timedatectl set-ntp true (NTP)"
        return failed(
            f"the clocks differ by more than {CLOCK_TOLERANCE:g} s, so that tokens are invalid", change, evidence
        )
    return ok(evidence)


async def ask_nextcloud(nextcloud: ExaminedNextcloud, mcu: str) -> Outcome:
    """Send Nextcloud a signed request as the gateway does; its ticket is invalid, so that nothing changes."""
    if not nextcloud.backend.secret:
        return not_tried("the gateway's configuration, which has the shared secret: -c FILE")
    async with NextcloudClient(SERVER_HEADER, announced(mcu), clock=time.monotonic) as client:
        try:
            answer = await client.ask(nextcloud.backend, nextcloud.url, _INVALID_TICKET)
        except NextcloudError:
            problem = client.problem(nextcloud.backend)
            change = "see Nextcloud's log, and what its web server does with POST requests below /ocs/"
            return failed("a signed request is not answered properly", change, problem.reason if problem else "")
        problem = client.problem(nextcloud.backend)
    if problem is not None:
        return failed("Nextcloud does not accept the gateway's signature", _SECRET_REMEDY, problem.reason)
    code = answer.error.code if answer.error is not None else ""
    return ok(f"the signature is accepted; an invalid ticket is refused ({code or answer.type})")


async def send_as_nextcloud(nextcloud: ExaminedNextcloud, target: Target) -> Outcome:
    """Send a signed request to the gateway as Nextcloud does: a message to a room without members."""
    if not nextcloud.backend.secret:
        return not_tried("the gateway's configuration, which has the shared secret: -c FILE")
    message = {"type": "message", "message": {"data": {"type": ROOM}}}
    notifier = TalkNotifier()
    try:
        answer = await notifier.send(target.url, ROOM, message, secret=nextcloud.backend.secret, backend=nextcloud.url)
    except (aiohttp.ClientError, OSError) as error:
        change = "see the log of the reverse proxy: it closes POST requests to /api/v1/room/"
        return failed("a request of the rooms API is not answered", change, type(error).__name__)
    finally:
        await notifier.close()
    evidence = f"POST {target.url}/api/v1/room/{ROOM} is answered with HTTP status {answer.status}"
    if answer.status == 200:
        return ok(evidence)
    if answer.status == 411:
        change = "nginx: remove `proxy_request_buffering off;` for this location"
        return failed("the reverse proxy forwards the body in chunks", change, evidence)
    if answer.status == 403:
        change = (
            "reload the gateway if its file was changed (systemctl reload portunus); have the proxy pass all headers"
            " that begin with Spreed-Signaling-; the gateway's log names the cause"
        )
        return failed(
            "the running gateway refuses a request that is signed with this secret for this URL", change, evidence
        )
    change = f"forward POST requests to {target.path}/api/v1/room/ unchanged in the reverse proxy"
    return failed("requests of the rooms API do not get to the gateway", change, evidence)


async def check_token_key(nextcloud: ExaminedNextcloud) -> Outcome:
    """Check the key with which tokens of hello 2.0 are verified."""
    key = nextcloud.capabilities.signaling.get("hello-v2-token-key")
    if not isinstance(key, str) or not key:
        change = "update Nextcloud and Talk; a cache in front of Nextcloud must not keep its capabilities"
        return failed("its capabilities have no hello-v2-token-key, so that a hello 2.0 is refused", change)
    if not is_public_key(key):
        change = f"see what changes the answer on its way: curl -H 'OCS-APIRequest: true' {nextcloud.url}{PATH}"
        return failed("its hello-v2-token-key is not a public key", change, f"it has {len(key)} characters")
    return ok("its capabilities have a public key for the tokens of hello 2.0")
