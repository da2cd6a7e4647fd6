"""The HTTP client for requests from the gateway to Nextcloud.

Source: reference 3.7, 3.8. Deviation: the leave request has the same timeout as the others.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Self

import msgspec
from msgspec import Raw, Struct

from gateway.core.limits import Backend
from gateway.edge.nextcloud.backend_connection import Reply, RequestFailed
from gateway.edge.nextcloud.backend_http import BackendHttp, PreparedRequest, prepare
from gateway.edge.nextcloud.capabilities import Capabilities, CapabilitiesCache
from gateway.edge.nextcloud.failures import explanation
from gateway.edge.nextcloud.health import BackendHealth, BackendProblem
from gateway.flows.call_traces import known_code
from gateway.flows.ports import NextcloudError
from gateway.flows.refusals import SHARED_SECRET
from gateway.limited_log import LimitedLog, shown_code
from gateway.metrics import Counters
from gateway.standstill import PeerTimeout
from gateway.tracing import current_span, running
from gateway.wire import checksum
from gateway.wire.backend import (
    AuthRequest,
    BackendAnswer,
    BackendRequest,
    RoomRequest,
    encode_request,
    type_of_request,
)

_PREPARED = 256  # backends whose requests are kept prepared; limited because clients choose them with ``allow_any``

_TIMEOUT_MESSAGE = "the backend did not answer in time"
_NOT_ACCEPTED = ": Nextcloud does not accept the signature; "
_ANOTHER_NEXTCLOUD = {  # what to compare if Nextcloud refuses a client, by type of the request
    AuthRequest: "; if all clients get it, compare urls of [[backend]] %s with the Nextcloud at which they log in",
    RoomRequest: "; if all rooms get it, compare urls of [[backend]] %s with the Nextcloud that has these rooms",
}
_CONFIGURATION_ERRORS = frozenset({"invalid_request"})  # codes of errors that a wrong configuration causes
_ENDPOINT = "ocs/v2.php/apps/spreed/api/{version}/signaling/backend"


class _Meta(Struct, frozen=True):
    statuscode: int = 0


class _Ocs(Struct, frozen=True):
    meta: _Meta | None = None
    data: Raw = Raw()


class _Document(Struct, frozen=True):
    ocs: _Ocs | None = None


_document = msgspec.json.Decoder(_Document)
_answer = msgspec.json.Decoder(BackendAnswer)
log = logging.getLogger("portunus.nextcloud")


class NextcloudClient:
    """Implements ``flows.ports.Nextcloud`` over HTTP; call ``close`` when done.

    ``user_agent`` and ``features`` (the ids announced to regular clients) are sent with each request; ``clock`` is
    monotonic, in seconds; ``random`` returns 64 unguessable characters;
    ``on_warning`` gets the time and the text of each warning.
    """

    def __init__(
        self,
        user_agent: str,
        features: Sequence[str],
        *,
        clock: Callable[[], float],
        timeout: float = 10.0,
        connections_per_host: int = 8,
        counters: Counters | None = None,
        random: Callable[[], str] = lambda: secrets.token_hex(32),
        on_warning: Callable[[float, str], None] = lambda at, line: None,
    ) -> None:
        self._timeout = timeout
        self._http = BackendHttp(timeout, connections_per_host)
        self._headers = {"User-Agent": user_agent}
        self._warnings = LimitedLog(log, clock, written=on_warning)
        self._capabilities = CapabilitiesCache(self._http, self._headers, clock, on_warning)
        self._request_headers = self._headers | {
            "Content-Type": "application/json",
            "Accept": "application/json",
            "OCS-APIRequest": "true",
            "X-Spreed-Signaling-Features": ", ".join(sorted(features)),
        }
        self._prepared = lru_cache(maxsize=_PREPARED)(self._prepare)
        self._counters = counters or Counters()
        self._clock = clock
        self._random = random
        self._health = BackendHealth()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Cancel the running requests for capabilities and close the connections. Idempotent."""
        await self._capabilities.close()
        await self._http.close()

    def connections(self) -> dict[str, int]:
        """Count the open connections by host."""
        return self._http.connections()

    def problem(self, backend: Backend) -> BackendProblem | None:
        """Return the reason for which the last request to a backend failed; ``None`` if it did not."""
        return self._health.problem(backend)

    async def ask(self, backend: Backend, url: str, request: BackendRequest) -> BackendAnswer:
        """Send a signed request and return the unwrapped answer; the timeout covers a fetch of the capabilities, too.

        Raises:
            NextcloudError: no usable answer; the text is sent to the client.
        """
        span, subject = current_span(), type_of_request[type(request)]
        if span is None:
            return await self._ask(backend, url, request, subject)
        attributes = {"portunus.backend": backend.id, "http.request.method": "POST"}
        with running(span.child(f"nextcloud {subject}", attributes, remote=True), _label) as child:
            answer = await self._ask(backend, url, request, subject)
            if answer.type == "error":
                child.fail(known_code("" if answer.error is None else answer.error.code or ""))
            return answer

    async def _ask(self, backend: Backend, url: str, request: BackendRequest, subject: str) -> BackendAnswer:
        status = None
        try:
            async with PeerTimeout(self._timeout):
                reply = await self._post(backend, url, encode_request(request))
            status = reply.status
            if (span := current_span()) is not None:
                span.set("http.response.status_code", status)
            answer = _unwrap(reply)
        except (TimeoutError, RequestFailed) as error:
            raise NextcloudError(self._failed(backend, url, subject, status, error)) from error
        code = answer.error.code if answer.type == "error" and answer.error is not None else ""
        if code in _CONFIGURATION_ERRORS:
            self._fail(backend, url, subject, status, f"error {code}{_NOT_ACCEPTED}{SHARED_SECRET % backend.id}")
            return answer
        refused = _refused_client(request, backend)
        if code and (status >= 400 or refused):
            self._warn(backend, url, subject, _outcome(status, f"error {shown_code(code)}{refused}"))
        if not code or status < 400:
            self._health.record_success(backend)
        return answer

    def _failed(
        self, backend: Backend, url: str, subject: str, status: int | None, error: TimeoutError | RequestFailed
    ) -> str:
        """Count and log the failure of a request, and return the text for the client."""
        failed = error if isinstance(error, RequestFailed) else RequestFailed("timeout", _TIMEOUT_MESSAGE)
        self._counters.backend_errors[backend.id, failed.label] += 1
        self._fail(backend, url, subject, failed.status if status is None else status, explanation(failed))
        return str(failed)

    def _fail(self, backend: Backend, url: str, subject: str, status: int | None, reason: str) -> None:
        """Log a failure, and report it by ``problem``: clients receive only ``internal_error``."""
        outcome = _outcome(status, reason)
        sentence = f"the last request, of type {subject}, to {url} {outcome}"
        self._health.record_failure(backend, BackendProblem(status is not None, sentence))
        self._warn(backend, url, subject, outcome)

    def _warn(self, backend: Backend, url: str, subject: str, outcome: str) -> None:
        self._warnings.warning(
            (backend.id, url, subject, outcome),
            "a request of type %s to backend %s at %s %s",
            subject,
            backend.id,
            url,
            outcome,
        )

    async def token_key(self, url: str) -> str:
        """Return the public key for hello 2.0 tokens; empty if there is none even after a forced refresh.

        Raises:
            NextcloudError: no key is known, because the backend could not be asked; the text is sent to the client.
        """
        lookup = await self._capabilities.get(url)
        if lookup.cached and not _token_key(lookup.capabilities) and self._capabilities.expire(url):
            lookup = await self._capabilities.get(url)
        key = _token_key(lookup.capabilities)
        if not key and lookup.failure:
            raise NextcloudError(lookup.failure)
        return key

    async def renewed_token_key(self, url: str, old: str) -> str:
        """Return the public key if it differs from ``old``; empty if it is the same, or was fetched just before.

        Raises:
            NextcloudError: the backend could not be asked for its key; the text is sent to the client.
        """
        lookup = await self._capabilities.get(url)
        if lookup.cached and _token_key(lookup.capabilities) == old and self._capabilities.renew(url):
            lookup = await self._capabilities.get(url)
        key = _token_key(lookup.capabilities)
        if key == old and lookup.failure:
            raise NextcloudError(lookup.failure)
        return key if key != old else ""

    async def supports(self, url: str, feature: str) -> bool:
        """Return whether Talk lists a feature in its capabilities.

        Raises:
            NextcloudError: it is not known, because the backend could not be asked; the text is sent to the client.
        """
        lookup = await self._capabilities.get(url)
        supported = feature in lookup.capabilities.features
        if not supported and lookup.failure:
            raise NextcloudError(lookup.failure)
        return supported

    async def session_ping_limit(self, url: str) -> int:
        """Return the maximum number of entries in one ping request; 0: each room needs its own request."""
        capabilities = (await self._capabilities.get(url)).capabilities
        limit = capabilities.signaling.get("session-ping-limit")
        return int(limit) if isinstance(limit, int | float) and limit > 0 else 0

    async def _post(self, backend: Backend, url: str, body: bytes) -> Reply:
        capabilities = (await self._capabilities.get(url)).capabilities
        # A Talk whose capabilities are unknown is assumed to be a current one, which has no v1 of the API any more.
        old = capabilities.has_talk and "signaling-v3" not in capabilities.features
        random = self._random()
        signature = checksum.sign(backend.secret, random, body)
        lines = f"Spreed-Signaling-Random: {random}\r\nSpreed-Signaling-Checksum: {signature}\r\n"
        if (span := current_span()) is not None:
            lines += f"traceparent: {span.traceparent}\r\n"
        started = self._clock()
        try:
            request = self._prepared("v1" if old else "v3", url)
            return await self._http.send(request, body, lines.encode())
        finally:
            self._counters.backend_answered(backend.id, self._clock() - started)

    def _prepare(self, version: str, url: str) -> PreparedRequest:
        return prepare("POST", url + _ENDPOINT.format(version=version), self._request_headers)


def _refused_client(request: BackendRequest, backend: Backend) -> str:
    """Return what to compare if an error refuses a client its session or room; empty for other requests."""
    if isinstance(request, RoomRequest) and request.action:  # a leave: the room may be deleted
        return ""
    return _ANOTHER_NEXTCLOUD[type(request)] % backend.id if type(request) in _ANOTHER_NEXTCLOUD else ""


def _outcome(status: int | None, reason: str) -> str:
    return f"ended {'without an answer' if status is None else f'with HTTP status {status}'}: {reason}"


def _label(error: BaseException) -> str:
    """Return the label of the error counter for a failed request."""
    cause = error.__cause__
    if isinstance(error, NextcloudError):
        return cause.label if isinstance(cause, RequestFailed) else "timeout"
    return "cancelled"


def _token_key(capabilities: Capabilities) -> str:
    value = capabilities.signaling.get("hello-v2-token-key")
    return value if isinstance(value, str) else ""


def _unwrap(reply: Reply) -> BackendAnswer:
    """Return the protocol object in an OCS document; the HTTP status is ignored."""
    if not reply.is_json:
        raise RequestFailed("invalid_content_type", "unsupported_content_type")
    try:
        ocs = _document.decode(reply.body).ocs
    except (msgspec.DecodeError, RecursionError) as error:
        raise RequestFailed("error_decoding_ocs", "the backend's answer is not an OCS document") from error
    if ocs is None or bytes(ocs.data) in (b"", b"null"):
        raise RequestFailed("error_incomplete_ocs", "incomplete OCS response")
    if ocs.meta is not None and ocs.meta.statuscode == 429:
        raise RequestFailed("throttled", "throttled OCS response")
    try:
        return _answer.decode(ocs.data)
    except (msgspec.DecodeError, RecursionError) as error:
        raise RequestFailed("error_decoding_ocs_data", "the backend's answer is not of the expected form") from error
