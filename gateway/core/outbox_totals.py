"""The limits on the memory of all outboxes of the process, of a backend and of a room.

Source: docs/protocol.md, "Limits". A message that was encoded once for several sessions is in memory once, and counts
once. If a total exceeds its limit, the sessions end that free the most memory besides messages that others relayed to
them: relayed messages alone never exceed a limit (``core.relayed_backlog``), so the memory that exceeds it was used by
clients that make the gateway answer, or that never acknowledge. So nobody can end a session by filling its outbox.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from gateway.core.session import Session

MESSAGE_OVERHEAD = 57  # bytes that a message takes besides its length: its object and its place in the queue


def sessions_to_end(sessions: Iterable[Session], limit: int) -> list[Session]:
    """Return the sessions that have to end so that the other outboxes take at most ``limit`` bytes; 0 = no limit.

    Shared messages are looked for only if the sum of the outbox sizes exceeds the limit.
    """
    largest = sorted((s for s in sessions if s.outbox.size), key=lambda s: s.outbox.size, reverse=True)
    if not limit or sum(session.outbox.memory(MESSAGE_OVERHEAD) for session in largest) <= limit:
        return []
    return _choose_sessions(largest, limit)


def _choose_sessions(sessions: Sequence[Session], limit: int) -> list[Session]:
    holders: dict[int, int] = {}  # number of outboxes by message
    total = 0
    for session in sessions:
        for message in session.outbox:
            count = holders.get(id(message), 0)
            holders[id(message)] = count + 1
            total += MESSAGE_OVERHEAD + (len(message) if count == 0 else 0)
    if total <= limit:
        return []
    freed = {  # bytes by session, if only that session ends
        session.id: sum(
            MESSAGE_OVERHEAD + (len(message) if holders[id(message)] == 1 else 0) for message in session.outbox
        )
        for session in sessions
    }
    own = {session.id: max(0, freed[session.id] - session.relay_budget.relayed) for session in sessions}
    ended: list[Session] = []
    for session in sorted(sessions, key=lambda s: (own[s.id], freed[s.id], s.outbox.size), reverse=True):
        if total <= limit:
            break
        ended.append(session)
        for message in session.outbox:
            holders[id(message)] -= 1
            total -= MESSAGE_OVERHEAD + (len(message) if holders[id(message)] == 0 else 0)
    return ended
