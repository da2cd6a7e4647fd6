"""``portunus drain``: begins, cancels or shows the drain of a running gateway.

Source: docs/operations.md, "Draining".
"""

from __future__ import annotations

from pathlib import Path

from gateway.core.drain import AwaitedSessions
from gateway.edge.operator.drain_api import DrainReport
from gateway.tools import admin_requests


def begin(socket: Path, seconds: float | None) -> DrainReport:
    """Begin the drain, or change its deadline, in seconds from now; ``None``: the gateway's ``drain.deadline``.

    Raises:
        GatewayUnreachable: no gateway answers there.
        CommandRefused: the seconds are negative or not finite.
    """
    query = {} if seconds is None else {"deadline": str(seconds)}
    return admin_requests.request(socket, "POST", "/drain", query, DrainReport)


def cancel(socket: Path) -> DrainReport:
    """Cancel the drain.

    Raises:
        GatewayUnreachable: no gateway answers there.
        CommandRefused: there is no drain, or it cannot be cancelled.
    """
    return admin_requests.request(socket, "DELETE", "/drain", {}, DrainReport)


def status(socket: Path) -> DrainReport:
    """Return the state of the drain.

    Raises:
        GatewayUnreachable: no gateway answers there.
    """
    return admin_requests.request(socket, "GET", "/drain", {}, DrainReport)


def line(report: DrainReport) -> str:
    """Return one line of text that describes the state of the drain."""
    counts = f"sessions: {report.sessions}, in calls: {report.in_calls}"
    if not report.draining:
        return f"Not draining ({counts})."
    last = "call" if report.awaited == AwaitedSessions.IN_CALLS.value else "session"
    limit = "" if report.seconds_left is None else f", in {report.seconds_left:.0f} s at the latest"
    return f"Draining: the process ends with the last {last}{limit} ({counts}, refused: {report.refused})."
