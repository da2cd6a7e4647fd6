"""The requests of an operator, which the admin socket and the admin page serve."""

from __future__ import annotations

from aiohttp import web

from gateway.edge.operator.drain_api import DrainApi
from gateway.edge.operator.explain_api import ExplainApi
from gateway.edge.operator.snapshot import SnapshotApi
from gateway.edge.operator.timeline_api import TimelineApi
from gateway.flows.draining import Draining
from gateway.flows.media.quality import QualityController
from gateway.flows.services import Services


def operator_routes(
    services: Services,
    quality: QualityController,
    draining: Draining,
    version: str = "",
    snapshot: SnapshotApi | None = None,
) -> list[web.RouteDef]:
    """Return the routes.

    ``version`` is that of Portunus; without ``snapshot`` there are no snapshots.
    """
    return [
        *ExplainApi(services, quality).routes(),
        *DrainApi(services, draining).routes(),
        *TimelineApi(services, version).routes(),
        *(snapshot.routes() if snapshot is not None else ()),
    ]
