"""All flows of one gateway, wired together: the application and the tests use the same wiring."""

from __future__ import annotations

from collections.abc import Callable

from gateway.core.throttle import ThrottledAction
from gateway.flows.backend.pings import KeepAlivePings
from gateway.flows.backend.requests import BackendRequests
from gateway.flows.call_log import SessionEnd
from gateway.flows.dispatch import Dispatcher
from gateway.flows.draining import Draining
from gateway.flows.federation.rooms import FederatedRooms
from gateway.flows.internal.dialout import Dialouts
from gateway.flows.internal.requests import InternalRequests
from gateway.flows.internal.virtual_sessions import VirtualSessions
from gateway.flows.media.signaling import MediaSignaling
from gateway.flows.rooms.events import RoomEvents
from gateway.flows.rooms.membership import RoomMembership
from gateway.flows.rooms.relay import Relay
from gateway.flows.rooms.transient import TransientRequests
from gateway.flows.services import Services
from gateway.flows.sessions.closing import SessionCloser
from gateway.flows.sessions.hello import HelloRequests
from gateway.flows.sessions.outbox_totals import OutboxTotals
from gateway.flows.settings import FlowSettings
from gateway.flows.tasks import Tasks
from gateway.flows.traffic import Traffic


class Flows:
    """The flows over one set of services; ``start`` them, and ``close`` them when done."""

    def __init__(self, services: Services) -> None:
        self.services = services
        traffic = Traffic(services)
        self.media = MediaSignaling(services, traffic)
        events = RoomEvents(services, self.media)
        virtual_sessions = VirtualSessions(services, events)
        self.transient = TransientRequests(services, events, traffic)
        self.dialouts = Dialouts(services, self.transient)
        self.session_closer = SessionCloser(services, events, virtual_sessions, self.dialouts)
        relay = Relay(services, self.media, traffic)
        membership = RoomMembership(services, events, self.session_closer, traffic)
        self.federated_rooms = FederatedRooms(services, events, membership, self.session_closer)
        internal_requests = InternalRequests(services, events, self.media, virtual_sessions, self.dialouts, traffic)
        self.dispatch = Dispatcher(
            services,
            HelloRequests(services, events),
            self.session_closer,
            {
                "message": relay.message,
                "control": relay.control,
                "transient": self.transient.update,
                "room": self.federated_rooms.handle,
                "internal": internal_requests.handle,
            },
        )
        self.backend_requests = BackendRequests(services, events, self.media, self.session_closer, virtual_sessions)
        self.pings = KeepAlivePings(services)
        self.outbox_totals = OutboxTotals(services, self.dispatch.is_held)
        self.draining = Draining(services)
        self._background = Tasks()

    def start(self) -> None:
        """Serve the requests to end sessions from now on."""
        self._background.spawn(self.session_closer.serve_end_requests(), "session closer")

    def apply(self, settings: FlowSettings) -> None:
        """Replace the settings, also for open sessions and streams.

        A session ends if its backend's id now names another Nextcloud: its user would become a user there.
        """
        before, self.services.settings = self.services.settings, settings
        self.services.refusals.configuration_changed()
        # Attempts that failed with the old credentials may have been no guesses.
        if _credentials(before) != _credentials(settings):
            self.services.throttling.clear(ThrottledAction.ROOM_AUTH)
        if before.internal_secret != settings.internal_secret:
            self.services.throttling.clear(ThrottledAction.HELLO_INTERNAL)
        for session in list(self.services.hub.sessions.values()):
            if not settings.backends.may_continue(session.backend, session.url):
                self.session_closer.end(session, SessionEnd.BACKEND_CHANGED)
        self.services.hub.replace_backends(settings.backends.by_id)
        if before.media_limits.subscribe_any and not settings.media_limits.subscribe_any:
            self.media.subscriptions_restricted()
        self.media.quality.rules_changed()

    @property
    def sweeps(self) -> tuple[Callable[[float], None], ...]:
        """The functions that apply time limits; to be called once a second with the monotonic time."""
        return self.dispatch.sweep, self.pings.sweep, self.services.throttling.sweep, self.outbox_totals.sweep

    @property
    def client_limits(self) -> tuple[Callable[[float], None], ...]:
        """The ``sweeps`` that end connections and sessions of silent clients."""
        return (self.dispatch.sweep,)

    async def close(self) -> None:
        """Cancel all background work and wait for its end; the caller then stops the SFU."""
        self.services.calls.gateway_ends()
        self.transient.close()
        await self.draining.close()
        await self.federated_rooms.close()
        await self._background.close()
        await self.services.tasks.close()


def _credentials(settings: FlowSettings) -> list[tuple[str, str, tuple[str, ...]]]:
    """Return id, secret and URLs of each backend, which decide whether a request of Nextcloud is accepted."""
    return [(backend.id, backend.secret, backend.urls) for backend in settings.backends]
