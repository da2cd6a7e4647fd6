"""One gateway: everything wired together. The only place that knows every class."""

from __future__ import annotations

import asyncio
import secrets
import ssl
import time
from collections.abc import Iterable
from pathlib import Path

from aiohttp import web

from gateway import features
from gateway.config import NO_MCU, Config, listen_address
from gateway.core.backends import Backends
from gateway.core.hub import Hub
from gateway.core.ids import SessionIds
from gateway.edge.clients.polling import PollingEndpoint
from gateway.edge.clients.websocket import WebSocketEndpoint
from gateway.edge.geo.geoip import GeoIp
from gateway.edge.housekeeper import Housekeeper
from gateway.edge.http import unix_socket
from gateway.edge.http.address import Networks, TrustedProxies
from gateway.edge.http.body import BodyReader
from gateway.edge.http.runner import HttpRunner
from gateway.edge.janus_events import JanusEvents, event_receiver
from gateway.edge.nextcloud.client import NextcloudClient
from gateway.edge.nextcloud.rooms_api import RoomsApi
from gateway.edge.operator import serverinfo
from gateway.edge.operator.admin import AdminSocket
from gateway.edge.operator.media_controls import MediaControlsApi, MediaTestControls
from gateway.edge.operator.overview import Overview
from gateway.edge.operator.status import Status
from gateway.edge.turn import TurnCredentials
from gateway.flows.services import Services
from gateway.flows.settings import FlowSettings, MediaLimits
from gateway.flows.wiring import Flows
from gateway.metrics import Counters, Metrics
from gateway.version import SERVER_HEADER, SERVER_VERSION
from gateway.wire.server import ServerFacts
from mcu import factory
from mcu.base import Mcu
from sdp.candidates import CandidateFilter

DRAIN_LOOK = 1.0  # seconds between two looks whether somebody is left
PREFIXES = ("", "/standalone-signaling")  # with and without a proxy that strips the prefix

Route = web.AbstractRouteDef


class Gateway:
    """A running gateway: ``start`` it, and ``stop`` it when done."""

    def __init__(self, config: Config, *, routes: Iterable[Route] = ()) -> None:
        self._config = config
        self._extra_routes = tuple(routes)
        self._proxies = TrustedProxies(config.http.trusted_proxies)
        self._stats_allowed = Networks(config.stats.allowed)
        self._features = features.announced(config.mcu.type)
        self._counters = Counters()
        self._turn = TurnCredentials(config.turn, time.time)
        self._geoip = GeoIp(config.geoip)
        self._runner: web.AppRunner | None = None
        self._mcu = self._create_mcu()

    @property
    def hub(self) -> Hub:
        """The sessions and rooms, to look at."""
        return self._flows.services.hub

    @property
    def mcu(self) -> Mcu | None:
        """The SFU, to look at."""
        return self._mcu

    def _create_mcu(self) -> Mcu | None:
        section = self._config.mcu
        if section.type == NO_MCU:
            return None
        instance = self._config.instance
        return factory.create(section.type, section.settings, timeout=section.timeout, instance=instance)

    async def start(self) -> list[str]:
        """Listen, and return the addresses as URLs (``unix:`` and the path for a unix socket).

        Raises:
            OSError: an address is taken or not ours; nothing listens then.
        """
        self._wire()
        if self._mcu is not None:
            await self._mcu.start(self._flows.media.sfu_changed)  # it logs by itself
        self._flows.start()
        self._housekeeper.start()
        await self._geoip.start()
        self._runner = HttpRunner(
            self._application(),
            self._headers(),
            self._read_timeout,
            self._count_read_timeout,
            access_log=None,
            shutdown_timeout=5.0,
            auto_decompress=False,  # nobody sends compressed bodies, and one that is broken would be logged
        )
        try:
            await self._admin.start(self._config.admin.socket)
            await self._runner.setup()
            return await self._listen(self._runner)
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Close the connections, end all streams on the SFU and stop listening. Idempotent."""
        await self._admin.stop()
        await self._housekeeper.stop()
        await self._geoip.stop()
        self._endpoint.close()
        self._polling.close()
        await self._events.close()
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()
        await self._flows.close()
        if self._mcu is not None:
            await self._mcu.stop()
        await self._nextcloud.close()

    async def drain(self) -> None:
        """Stop listening, and return when the last session but those of internal clients is gone (2.5)."""
        if self._runner is not None:
            for site in list(self._runner.sites):
                await site.stop()
        sessions = self.hub.sessions
        while any(not it.is_internal for it in sessions.values()):  # noqa: ASYNC110 - once a second will do
            await asyncio.sleep(DRAIN_LOOK)

    async def reload(self, config: Config) -> list[str]:
        """Take a changed configuration as far as that goes without a restart; returns the keys that need one.

        Backends, limits, quality, internal clients' secret, candidate lists, trusted proxies, who may read statistics,
        countries, and what the SFU takes are changed at once; sessions and streams go on.

        Raises:
            ValueError: the SFU refuses its settings; nothing has changed.
        """
        settings = _flow_settings(config)
        if self._mcu is not None and config.mcu.type == self._config.mcu.type:
            await self._mcu.reconfigure(config.mcu.settings)  # what may be refused comes first: then nothing changes
        before, self._config = self._config, config
        self._flows.apply(settings)
        self._turn.settings = config.turn
        self._proxies.replace_with(TrustedProxies(config.http.trusted_proxies))
        self._stats_allowed.replace_with(Networks(config.stats.allowed))
        await self._geoip.reconfigure(config.geoip)
        return _need_restart(before, config)

    # -- wiring

    def _wire(self) -> None:
        config, mcu = self._config, self._mcu
        self._nextcloud = NextcloudClient(
            SERVER_HEADER,
            self._features,
            timeout=config.nextcloud.timeout,
            connections_per_host=config.nextcloud.connections_per_host,
            counters=self._counters,
        )
        services = Services(
            settings=_flow_settings(config),
            nextcloud=self._nextcloud,
            mcu=mcu,
            counters=self._counters,
            ids=SessionIds(config.sessions.secret),
            server=ServerFacts(SERVER_VERSION, self._features),
            server_internal=ServerFacts(SERVER_VERSION, features.internal(config.mcu.type)),
            server_welcome=ServerFacts(SERVER_VERSION, features.welcome(config.mcu.type)),
            outbox_bytes=config.sessions.outbox_bytes,
            clock=time.monotonic,
            wall_clock=time.time,
            entropy=secrets.token_bytes,
            locate=self._geoip.locate,
        )
        flows = self._flows = Flows(services)
        self._admin = AdminSocket(services, flows.media.quality)
        self._bodies = BodyReader(self._read_timeout, self._count_read_timeout)
        self._polling = PollingEndpoint(flows.dispatch, self._counters, self._proxies, self._bodies)
        self._endpoint = WebSocketEndpoint(flows.dispatch, self._counters, time.time, self._proxies)
        self._events = JanusEvents(event_receiver(mcu), self._proxies)
        self._housekeeper = Housekeeper(time.monotonic, *flows.sweeps)

    def _application(self) -> web.Application:
        flows, services = self._flows, self._flows.services
        overview = Overview(services, flows.media, self._mcu)
        rooms_api = RoomsApi(
            services,
            flows.backend_requests.handle,
            flows.dialouts.start,
            self._proxies,
            services.throttling,
            self._bodies,
        )
        status = Status(
            SERVER_VERSION,
            self._proxies,
            self._stats_allowed,
            stats=overview.stats,
            metrics=Metrics(self._counters, overview.gauges(self._nextcloud.connections)).render,
            not_ready=overview.not_ready,
            away=overview.away,
            server_info=lambda: serverinfo.describe(services, SERVER_VERSION, self._features, overview.sfu_status()),
        )
        app = web.Application(client_max_size=0)
        for prefix in PREFIXES:
            app.router.add_get(f"{prefix}/spreed", self._connect, allow_head=False)
            app.router.add_post(f"{prefix}/spreed/poll", self._polling.handle)
            app.router.add_options(f"{prefix}/spreed/poll", self._polling.preflight)
            app.router.add_post(f"{prefix}/api/v1/room/{{roomid}}", rooms_api.handle)
            app.router.add_get(f"{prefix}/turn/credentials", self._turn.handle, allow_head=False)
            app.router.add_routes(status.routes(prefix))
        if _test_controls(self._config) and isinstance(self._mcu, MediaTestControls):
            app.router.add_routes(MediaControlsApi(self._mcu).routes())
        app.router.add_routes(self._extra_routes)
        app.on_response_prepare.append(self._add_headers)
        return app

    async def _connect(self, request: web.Request) -> web.StreamResponse:
        """Take a WebSocket: of a client, or of a Janus that sends its events (2.1)."""
        return await (self._events if self._events.wanted(request) else self._endpoint).handle(request)

    async def _add_headers(self, request: web.BaseRequest, response: web.StreamResponse) -> None:
        """Put what Nextcloud's admin page reads on every response, the upgrade included (1.2)."""
        response.headers.update(self._headers())

    def _read_timeout(self) -> float:
        return self._flows.services.settings.limits.http_read_timeout

    def _count_read_timeout(self) -> None:
        self._flows.services.count_excess("http_read_timeout")

    def _headers(self) -> dict[str, str]:
        return {"Server": SERVER_HEADER, "X-Spreed-Signaling-Features": ", ".join(self._features)}

    async def _listen(self, runner: web.AppRunner) -> list[str]:
        http = self._config.http
        tls = _tls(http.certificate, http.key) if http.certificate else None
        urls = []
        for text in http.listen:
            address = listen_address(text)
            if address is None:
                unix_socket.remove_stale(Path(text))
                await web.UnixSite(runner, text, ssl_context=tls).start()
                urls.append(f"unix:{text}")
                continue
            site = web.TCPSite(runner, address[0] or None, address[1], ssl_context=tls)
            before = len(runner.addresses)
            await site.start()
            for bound in runner.addresses[before:]:
                host = f"[{bound[0]}]" if ":" in bound[0] else bound[0]
                urls.append(f"{'https' if tls else 'http'}://{host}:{bound[1]}")
        return urls


def _need_restart(before: Config, now: Config) -> list[str]:
    """Name the keys that differ and cannot be changed while the gateway runs."""
    pairs = {
        "http.listen": (before.http.listen, now.http.listen),
        "http.certificate": (before.http.certificate, now.http.certificate),
        "http.key": (before.http.key, now.http.key),
        "sessions": (before.sessions, now.sessions),
        "nextcloud": (before.nextcloud, now.nextcloud),
        "admin": (before.admin, now.admin),
        "mcu.type": (before.mcu.type, now.mcu.type),
        "mcu.instance": (before.mcu.instance, now.mcu.instance),
        "mcu.inprocess.test_controls": (_test_controls(before), _test_controls(now)),
    }
    return [key for key, (old, new) in pairs.items() if old != new]


def _test_controls(config: Config) -> bool:
    """Whether the SFU's counters and switches are to be served; only one that has them knows the key."""
    return bool(getattr(config.mcu.settings, "test_controls", False))


def _flow_settings(config: Config) -> FlowSettings:
    mcu = config.mcu
    return FlowSettings(
        Backends(config.backends, config.compat),
        internal_secret=config.internal.secret,
        limits=config.limits,
        quality=config.quality,
        media_limits=MediaLimits(mcu.max_stream_bitrate, mcu.max_screen_bitrate, mcu.timeout, mcu.allow_subscribe_any),
        candidate_filter=CandidateFilter(mcu.allowed_candidates, mcu.blocked_candidates),
        reset_sessions_on_loss=mcu.reset_sessions_on_loss,
    )


def _tls(certificate: str, key: str) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    return context
