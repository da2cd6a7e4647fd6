"""The bitrate and codecs of each publisher of a room: ``GET /explain?room=R&backend=B`` of the operator's requests.

Source: docs/operations.md, "Readiness". ``room`` is the room's id or its short id in the log,
``backend`` is needed if several backends have such a room. Errors are ``{"error": …}``, one sentence. Session ids are
truncated; there are no addresses and no session descriptions.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
from aiohttp import web

from gateway.core.room import RoomKey
from gateway.edge.http.json_answer import answer, refusal
from gateway.flows.media.quality import QualityController, StreamDecision
from gateway.flows.services import Services

ID_LENGTH = 8  # characters of a session id in an answer

_stream_names = {"video": "camera", "screen": "screen"}


class PublisherExplanation(msgspec.Struct, frozen=True):
    """The bitrate limit and codecs of one publication, and the reasons for them."""

    session: str
    type: str  # "video" or "screen"
    bitrate: int  # bit/s, 0 = no limit
    applied: bool  # whether the SFU has confirmed the limit
    codecs: dict[str, str]  # negotiated with the SFU, by media kind
    reasons: list[str]


class RoomExplanation(msgspec.Struct, frozen=True):
    """The publications of a room."""

    backend: str
    room: str
    short_id: str  # of the room, in the log
    publishers: list[PublisherExplanation]


class ExplainApi:
    """Serves the request."""

    def __init__(self, services: Services, quality: QualityController) -> None:
        self._services = services
        self._quality = quality

    def routes(self) -> list[web.RouteDef]:
        """Return the routes."""
        return [web.get("/explain", self._explain, allow_head=False)]

    async def _explain(self, request: web.Request) -> web.Response:
        room, backend = request.query.get("room", ""), request.query.get("backend", "")
        if not room:
            return refusal(400, "the parameter room is missing")
        if backend and self._services.backends.by_id(backend) is None:
            return refusal(404, f"there is no backend {backend}")
        short_id = self._services.calls.room_id
        keys = [
            key for key in self._services.hub.rooms if room in (key.id, short_id(key)) and backend in ("", key.backend)
        ]
        if not keys:
            return refusal(404, f"no session is in a room {room}" + (f" of backend {backend}" if backend else ""))
        if len(keys) > 1:
            names = ", ".join(sorted(key.backend for key in keys))
            return refusal(409, f"several backends have a room {room}: choose one of {names}")
        return answer(200, self._room(keys[0]))

    def _room(self, key: RoomKey) -> RoomExplanation:
        return RoomExplanation(
            key.backend,
            key.id,
            self._services.calls.room_id(key),
            [self._explanation(decision) for decision in self._quality.explain(key)],
        )

    def _explanation(self, decision: StreamDecision) -> PublisherExplanation:
        stream, plan, share = decision.stream, decision.plan, decision.share
        return PublisherExplanation(
            stream.session.id[:ID_LENGTH],
            stream.stream_type.value,
            share.bitrate,
            decision.confirmed,
            dict(plan.chosen),
            [sentence for sentence in self._sentences(decision) if sentence],
        )

    def _sentences(self, decision: StreamDecision) -> Iterable[str]:
        plan, share = decision.plan, decision.share
        limit = f"up to {share.bitrate / 1000:.0f} kbit/s" if share.bitrate else "without a limit"
        yield f"Its {_stream_names[decision.stream.stream_type.value]} may send {limit}, because {share.reason}."
        incapable = self._quality.count_incapable(decision)
        for kind, codec in plan.chosen.items():
            count = incapable.get(kind, 0)
            exception = f" ({count} in the room cannot decode it)" if count else ""
            yield f"Its {kind} is sent as {codec}{exception}, because {plan.decided[kind].reason}."
