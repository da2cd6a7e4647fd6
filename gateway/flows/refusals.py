"""Refused clients and requests, reported to the operator: one warning a minute for each cause, and counters.

Source: docs/troubleshooting.md, "Refusals". A warning names the backend, the refused URL, and the settings to
compare; never a secret, a token or the address of a client. Warnings about URLs, which peers can invent, have their own
limit of lines, so that they do not displace others.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from enum import Enum

from gateway.core.backends import Backends
from gateway.core.limits import Backend
from gateway.flows.ports import FlowCounters
from gateway.flows.refused_urls import UnknownUrl, origin, shown
from gateway.limited_log import LimitedLog, shown_code
from gateway.wire import unverified_claims
from gateway.wire.claims import NOT_YET, TOKEN_EXPIRED
from gateway.wire.unverified_claims import UnverifiedClaims

RECENT_WARNINGS = 20  # warnings that ``portunus top`` shows
INVENTED_URL_LINES = 16  # lines a minute about URLs that peers can invent
UNLOGGED_LIMITS = frozenset(  # limits that only slow or idle peers reach, or that have lines of their own
    {"http_read_timeout", "idle_connections_per_address", "peer_connections", "descriptors"}
)
SHARED_SECRET = (
    "compare the secret of [[backend]] %s in this server's configuration with the shared secret in Nextcloud"
    " (Administration settings, Talk, High-performance backend)"
)

log = logging.getLogger("portunus.refusals")


class AuthFailure(Enum):
    """The cause of a failed authentication; the value is its metrics label."""

    UNKNOWN_BACKEND = "unknown_backend"  # a URL that is not configured
    UNSIGNED = "unsigned"  # a request of the rooms API without a signature
    WRONG_CHECKSUM = "wrong_checksum"  # a request of the rooms API
    TOKEN_INVALID = "token_invalid"
    TOKEN_TIME = "token_time"
    NO_TOKEN_KEY = "no_token_key"
    INTERNAL_SECRET = "internal_secret"
    TURN_KEY = "turn_key"  # a request for TURN credentials
    ADMIN_SECRET = "admin_secret"  # a log-in on the admin page


class Refusals:
    """Logs and counts refused clients and requests; ``clock`` is monotonic, in seconds."""

    def __init__(self, clock: Callable[[], float], counters: FlowCounters) -> None:
        self.recent: deque[tuple[float, str]] = deque(maxlen=RECENT_WARNINGS)  # times and texts of the latest warnings
        self._warnings = LimitedLog(log, clock, written=self.record_line)
        self._url_warnings = LimitedLog(log, clock, INVENTED_URL_LINES, self.record_line)
        self._counters = counters

    def configuration_changed(self) -> None:
        """Log the next refusal of each cause at once, because the configuration has changed."""
        self._warnings.clear()
        self._url_warnings.clear()

    def record_line(self, at: float, line: str) -> None:
        """Record a warning that another part has logged among the recent ones; ``at``: time of the monotonic clock."""
        self.recent.append((at, line))

    def unknown_url(self, subject: str, url: str, backends: Backends) -> None:
        """Report a URL without a backend; ``subject`` names the refused requests, in the plural."""
        self._count(AuthFailure.UNKNOWN_BACKEND)
        self._url_warnings.warning((subject, origin(url)), "%s are refused: %s", subject, UnknownUrl(url, backends))

    def wrong_checksum(self, backend: Backend | None, url: str) -> None:
        """Report a request of the rooms API with a wrong signature; ``backend``: ``None`` if the request names none."""
        self._count(AuthFailure.WRONG_CHECKSUM, backend)
        if backend is None:
            text = "requests to the rooms API without a backend URL are refused: no [[backend]] has their secret"
            self._warnings.warning("wrong checksum", text)
            return
        text = "requests to the rooms API for backend %s at %s are refused, their signature is wrong: " + SHARED_SECRET
        self._warnings.warning((backend.id, "checksum"), text, backend.id, shown(url), backend.id)

    def missing_signature(self) -> None:
        """Report a request of the rooms API without a signature."""
        self._count(AuthFailure.UNSIGNED)
        self._warnings.warning(
            "unsigned",
            "requests to the rooms API without the headers Spreed-Signaling-Random and -Checksum are refused: if"
            " Nextcloud sends them, a proxy in between removes them",
        )

    def envelope(self, reason: str) -> None:
        """Report a request of the rooms API that is refused before its signature is checked."""
        self._warnings.warning(("envelope", reason), "requests to the rooms API are refused: %s", reason)

    def token(self, backend: Backend, url: str, code: str, token: str, now: float, backends: Backends) -> None:
        """Report a refused token of hello 2.0; ``code`` is that of ``TokenError``, ``now`` unix time in seconds."""
        claims = unverified_claims.read(token)
        if code in (TOKEN_EXPIRED, NOT_YET):
            self._count(AuthFailure.TOKEN_TIME, backend)
            text = (
                "hello 2.0 for backend %s is refused: its token %s; compare the clocks of this server and of Nextcloud"
            )
            self._warnings.warning((backend.id, code), text, backend.id, _describe_times(code, claims, now))
            return
        self._count(AuthFailure.TOKEN_INVALID, backend)
        issuer = backends.find(claims.iss) if claims.iss else None
        text = "hello 2.0 for backend %s is refused: no key that %s announces (hello-v2-token-key) has signed its token"
        if not claims.iss or issuer is backend:
            self._warnings.warning((backend.id, code), text, backend.id, url)
            return
        of = "no configured backend" if issuer is None else f"backend {issuer.id}"
        text += "; its issuer is %s, which is %s: a client or a proxy mixes up two Nextclouds"
        self._url_warnings.warning((backend.id, origin(claims.iss)), text, backend.id, url, shown(claims.iss), of)

    def no_token_key(self, backend: Backend, url: str) -> None:
        """Report a hello 2.0 to a Nextcloud that announces no key for its tokens."""
        self._count(AuthFailure.NO_TOKEN_KEY, backend)
        text = (
            "hello 2.0 for backend %s is refused: %s announces no hello-v2-token-key; look whether Talk is enabled"
            " there, and has this server in its settings"
        )
        self._warnings.warning((backend.id, "no key"), text, backend.id, url)

    def internal(self, *, configured: bool) -> None:
        """Report an internal client without the right secret; ``configured``: whether the server has a secret."""
        self._count(AuthFailure.INTERNAL_SECRET)
        self._warnings.warning(
            ("internal", configured),
            "internal clients are refused: %s",
            "compare internal.secret with the internalsecret of the SIP bridge or the recorder"
            if configured
            else "internal.secret is not configured",
        )

    def turn_key(self, *, configured: bool) -> None:
        """Report a request for TURN credentials without the right key; ``configured``: whether the server has a key."""
        self._count(AuthFailure.TURN_KEY)
        self._warnings.warning(
            ("turn key", configured),
            "requests for TURN credentials are refused: %s",
            "compare turn.api_key with turn_rest_api_key in janus.jcfg (section nat), or the key of another program"
            " that sends them"
            if configured
            else "turn.api_key is not configured",
        )

    def no_turn_servers(self) -> None:
        """Report a request for TURN credentials that has the right key, while no TURN server is configured."""
        self._warnings.warning("no turn servers", "requests for TURN credentials get none: turn.servers is empty")

    def admin_secret(self) -> None:
        """Report a log-in on the admin page with a wrong secret."""
        self._count(AuthFailure.ADMIN_SECRET)
        self._warnings.warning("admin secret", "a log-in on the admin page is refused: the secret is not admin.secret")

    def session_limit(self, backend: Backend) -> None:
        """Report a client that is refused because its backend has too many sessions."""
        self._warnings.warning(
            (backend.id, "sessions"),
            "clients of backend %s are refused: it has session_limit = %d sessions",
            backend.id,
            backend.session_limit,
        )

    def limit(self, name: str) -> None:
        """Report that a client has reached the limit of this name in the configuration."""
        if name not in UNLOGGED_LIMITS:
            text = "limits.%s is reached: requests, connections or messages beyond it are refused or wait"
            self._warnings.warning(("limit", name), text, name)

    def blocked_address(self, action: str) -> None:
        """Report that an address is blocked after too many failed attempts; ``action`` is their metrics label."""
        self._warnings.warning(
            ("blocked", action),
            "an address is blocked after too many failed attempts (%s): wrong requests from it get"
            " too_many_requests; a changed secret and a reload (SIGHUP) end this",
            action,
        )

    def unexpected_answer(self, backend: Backend, url: str, request: str) -> None:
        """Report an answer of Nextcloud that is neither an error nor what ``request`` (``auth``, ``room``) asks for."""
        self._warnings.warning(
            (backend.id, url, request, "answer"),
            "a request of type %s to backend %s at %s has an answer of another type: look at Nextcloud's log, and"
            " whether its version of Talk is supported",
            request,
            backend.id,
            url,
        )

    def taken_room_session(self, backend: Backend) -> None:
        """Report a join with a Nextcloud session id that belongs to a session of another user or client."""
        self._warnings.warning(
            (backend.id, "room session"),
            "a join of backend %s is refused: another client is in the room with the same Nextcloud session; if it"
            " happens to one user after a lost connection, the old session ends by itself",
            backend.id,
        )

    def federated_join(self, backend: Backend, url: str, reason: str) -> None:
        """Report a room of another signaling server that a client could not join, or lost; ``url`` is the server's.

        ``reason`` is a phrase of this server's own, which says what to compare.
        """
        self._url_warnings.warning(
            ("federation", backend.id, origin(url), reason),
            "a room of the server %s cannot be used by clients of backend %s: %s",
            shown(url),
            backend.id,
            reason,
        )

    def statistics(self, path: str, *, hidden: bool) -> None:
        """Report a refused request for statistics; ``hidden``: it came through a proxy that is not trusted."""
        self._warnings.warning(
            ("statistics", path, hidden),
            "requests for %s are refused: %s",
            path,
            "they come through a proxy that is not in http.trusted_proxies, which hides their address"
            if hidden
            else "their address is not in stats.allowed; if they are those of your monitoring, add its address there",
        )

    def full_outbox(self, backend: Backend, total: str) -> None:
        """Report that a session ends because its client reads too slowly.

        ``total`` is the key of the limit on several outboxes together that was reached; empty: its own is full.
        """
        text = "a session of backend %s ends: its outbox is full (%s), its client reads too slowly"
        if total:
            text = (
                "a session of backend %s ends: its outbox and others together are full (%s),"
                " its client reads too slowly"
            )
        limit = total or "sessions.outbox_bytes"
        self._warnings.warning((backend.id, "outbox", total), text, backend.id, limit)

    def dialout(self, backend: Backend, code: str) -> None:
        """Report a phone call that Nextcloud requested and no internal client has started; ``code`` is the error's."""
        self._warnings.warning(
            (backend.id, "dialout", code),
            "a phone call of backend %s is not started: %s; see whether the SIP bridge is connected, and its log",
            backend.id,
            shown_code(code),
        )

    def no_federation(self, backend: Backend, url: str) -> None:
        """Report the hello of a federated client to a backend whose Nextcloud does not announce federated calls."""
        self._warnings.warning(
            (backend.id, "federation-v2"),
            "hellos of federated clients for backend %s are refused: %s does not announce federation-v2; update Talk,"
            " and enable federation there",
            backend.id,
            url,
        )

    def _count(self, cause: AuthFailure, backend: Backend | None = None) -> None:
        self._counters.authentication_failures["" if backend is None else backend.id, cause.value] += 1


def _describe_times(code: str, claims: UnverifiedClaims, now: float) -> str:
    """Return the predicate of a sentence about a token that has expired or is not valid yet."""
    if code == TOKEN_EXPIRED:
        return f"expired {now - claims.exp:.0f} s ago" if claims.exp > claims.iat else "never was valid (exp)"
    return (
        f"was issued {claims.iat - now:.0f} s from now" if claims.iat > now else "is not valid yet (nbf), or has no iat"
    )
