"""The application: flows, HTTP endpoints and SFU of one configuration, created and connected."""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Iterable, Sequence
from socket import socket

from aiohttp import web

from gateway import features
from gateway.config import NO_MCU, Config, listen_address
from gateway.config.restart import keys_that_need_restart
from gateway.core.hub import Hub
from gateway.core.ids import SessionIds
from gateway.edge.clients.polling import PollingEndpoint
from gateway.edge.clients.websocket import WebSocketEndpoint
from gateway.edge.federation.connections import RemoteWebSockets
from gateway.edge.geo.geoip import GeoIp
from gateway.edge.housekeeper import Housekeeper
from gateway.edge.http.address import Networks, TrustedProxies
from gateway.edge.http.body import BodyReader
from gateway.edge.http.body_budget import BodyBudget
from gateway.edge.http.descriptors import DescriptorReserve
from gateway.edge.http.idle_connections import IdleConnections
from gateway.edge.http.listening import listen
from gateway.edge.http.new_connection import UpgradeRequest
from gateway.edge.http.runner import ConnectionRules, HttpRunner
from gateway.edge.http.tls import ServerTls
from gateway.edge.http.untrusted_proxies import UntrustedProxies
from gateway.edge.janus_events import JanusEvents, event_receiver
from gateway.edge.nextcloud.client import NextcloudClient
from gateway.edge.nextcloud.rooms_api import RoomsApi
from gateway.edge.operator import serverinfo
from gateway.edge.operator.admin_page import AdminPage, Examination
from gateway.edge.operator.admin_socket import AdminSocket
from gateway.edge.operator.media_controls import MediaControlsApi, MediaTestControls
from gateway.edge.operator.operator_routes import operator_routes
from gateway.edge.operator.overview import Overview
from gateway.edge.operator.snapshot import SnapshotApi
from gateway.edge.operator.status import Status
from gateway.edge.shutdown import Shutdown
from gateway.edge.traces import create_tracer
from gateway.edge.turn import TurnCredentials
from gateway.flows.services import Services
from gateway.flows.wiring import Flows
from gateway.limited_log import LimitedLog
from gateway.metrics import Counters, Metrics
from gateway.settings import GatewaySettings, prepare
from gateway.version import SERVER_HEADER, SERVER_VERSION, VERSION
from gateway.wire.server import ServerInfo
from mcu import factory
from mcu.base import Mcu

PATH_PREFIXES = ("", "/standalone-signaling")  # a proxy may strip the prefix or not
WEBSOCKET_PATH = "/spreed"
WEBSOCKET_PATHS = frozenset(prefix + WEBSOCKET_PATH for prefix in PATH_PREFIXES)

log = logging.getLogger("portunus")

Route = web.AbstractRouteDef


class Gateway:
    """A gateway with its configuration; call ``start``, and ``stop`` when done.

    ``routes`` are served, too; ``passed_sockets`` are those of a service manager. ``examine`` runs the doctor for the
    admin page.

    Raises:
        OSError: a file of certificates or keys cannot be used.
    """

    def __init__(
        self,
        config: Config,
        *,
        routes: Iterable[Route] = (),
        passed_sockets: Sequence[socket] = (),
        examine: Examination | None = None,
    ) -> None:
        self._extra_routes = tuple(routes)
        self._passed_sockets = passed_sockets
        self._clock, self._wall_clock = time.monotonic, time.time
        self._features = features.announced(config.mcu.type)
        self._sfu_timeout = config.mcu.timeout  # until a restart: the SFU has it, too
        self._counters = Counters()
        self._untrusted_proxies = UntrustedProxies()
        self._settings = settings = prepare(config, self._sfu_timeout)
        self._tls = None if settings.tls is None else ServerTls(settings.tls)
        self._proxies = TrustedProxies(settings.trusted_proxies.texts, self._untrusted_proxies.report)
        self._stats_allowed = Networks(settings.stats_allowed.texts)
        self._geoip = GeoIp(settings.locations)
        self._nextcloud = self._create_nextcloud_client()
        self._remote_servers = RemoteWebSockets(
            SERVER_HEADER, config.federation, settings.remote_authorities, self._clock, on_warning=self._record_refusal
        )
        self._mcu = self._create_mcu()
        self._tracer = create_tracer(config.tracing, VERSION, self._clock)
        self._services = self._create_services()
        throttling, refusals = self._services.throttling, self._services.refusals
        self._turn = TurnCredentials(config.turn, self._wall_clock, self._proxies, throttling, refusals)
        self._flows = flows = Flows(self._services)
        self._housekeeper = Housekeeper(self._clock, *flows.sweeps, silence_sweeps=flows.client_limits)
        self.draining = flows.draining
        self._overview = Overview(self._services, flows.media, self._mcu, self._nextcloud.problem)
        operator = operator_routes(
            self._services,
            flows.media.quality,
            flows.draining,
            VERSION,
            SnapshotApi(self._services, self._overview, self._mcu, VERSION),
        )
        self._admin = AdminSocket(operator)
        self._body_reader = BodyReader(self._read_timeout, self._count_read_timeout)
        self._admin_page = AdminPage(
            config.admin.secret,
            operator,
            self._proxies,
            throttling,
            refusals,
            self._body_reader,
            self._clock,
            examine,
        )
        self._body_budget = BodyBudget(self._clock)
        self._polling = PollingEndpoint(
            flows.dispatch, self._counters, self._proxies, self._body_reader, self._body_budget
        )
        self._websocket = WebSocketEndpoint(
            flows.dispatch, self._counters, self._wall_clock, self._proxies, self._headers()
        )
        self._janus_events = JanusEvents(event_receiver(self._mcu), self._proxies, self._clock)
        self._reserve = DescriptorReserve(LimitedLog(logging.getLogger("portunus.http"), self._clock))
        self._runner: web.AppRunner | None = None

    @property
    def _config(self) -> Config:
        return self._settings.config

    @property
    def hub(self) -> Hub:
        """The sessions and rooms, for reading."""
        return self._services.hub

    @property
    def mcu(self) -> Mcu | None:
        """The SFU, for reading."""
        return self._mcu

    @property
    def drain_deadline(self) -> float:
        """The seconds that calls go on after a request to end the process."""
        return self._config.drain.deadline

    async def start(self) -> list[str]:
        """Start SFU, timers and endpoints; return the addresses that are listened on.

        Addresses are URLs; a unix socket is ``unix:`` and its path.

        Raises:
            OSError: an address is in use or not one of this machine; the gateway listens on no address then.
        """
        _warn_if_any_backend_is_allowed(self._config)
        if self._mcu is not None:
            await self._mcu.start(self._flows.media.sfu_changed)
        self._flows.start()
        self._housekeeper.start()
        await self._geoip.start()
        self._runner = HttpRunner(
            self.application(),
            ConnectionRules(
                headers=self._headers(),
                timeout=self._read_timeout,
                on_timeout=self._count_read_timeout,
                idle=IdleConnections(self._max_idle_connections, self._services.count_excess),
                reserve=self._reserve,
                upgrade=self._upgrade_at_once,
                tls=None if self._tls is None else self._tls.context,
                proxies=self._proxies,
            ),
            access_log=None,
            shutdown_timeout=5.0,
            auto_decompress=False,  # clients send no compressed bodies, and a malformed one would be logged
        )
        try:
            await self._admin.start(self._config.admin.socket)
            await self._runner.setup()
            return await self._listen(self._runner)
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Stop listening, close all connections and end all streams on the SFU. Idempotent.

        A part that does not end in time is named in the log.
        """
        shutdown = Shutdown(self._clock)
        await shutdown.end("the admin socket's connections", self._admin.stop())
        await shutdown.end("the timers", self._housekeeper.stop())
        await shutdown.end("the GeoIP downloads", self._geoip.stop())
        self._websocket.close()
        self._polling.close()
        await shutdown.end("the event connections of Janus", self._janus_events.close())
        runner, self._runner = self._runner, None
        if runner is not None:
            await shutdown.end("the HTTP connections", runner.cleanup())
        await shutdown.end("the WebSockets of clients", self._websocket.wait_closed())
        await shutdown.end("the requests of clients", self._flows.close())
        if self._mcu is not None:
            await shutdown.end("the streams on the SFU", self._mcu.stop())
        await shutdown.end("the connections to Nextcloud", self._nextcloud.close())
        await shutdown.end("the connections to other servers", self._remote_servers.close())
        if self._tracer is not None:
            await shutdown.end("the traces", self._tracer.close())

    async def stop_listening(self) -> None:
        """Refuse new connections; open connections stay open (2.5). Idempotent."""
        if self._runner is not None:
            for site in list(self._runner.sites):
                await site.stop()

    async def reload(self, config: Config) -> list[str]:
        """Apply a changed configuration except the keys that need a restart, and return these keys.

        Sessions and streams go on, except the sessions whose backend id belongs to another Nextcloud now (3.6).

        Raises:
            ValueError: the SFU refuses its settings; nothing has changed.
            OSError: a file of certificates or keys cannot be used; nothing has changed.
        """
        before = self._config
        self._exchange(prepare(config, self._sfu_timeout))
        _warn_if_any_backend_is_allowed(config)
        await self._geoip.wait_for_first_read()
        return keys_that_need_restart(before, config)

    def _exchange(self, settings: GatewaySettings) -> None:
        """Replace the settings in one step: no request is handled with some of the old ones and some of the new ones.

        Raises:
            ValueError: the SFU refuses its settings; nothing has changed.
        """
        config = settings.config
        if self._mcu is not None and config.mcu.type == self._config.mcu.type:
            self._mcu.reconfigure(config.mcu.settings)  # first: only this may fail
        self._settings = settings
        self._flows.apply(settings.flows)
        self._remote_servers.apply(settings.flows.federation, settings.remote_authorities)
        if self._tls is not None and settings.tls is not None:
            self._tls.replace(settings.tls)
        self._turn.apply(config.turn)
        self._admin_page.apply(config.admin.secret)
        self._untrusted_proxies.configuration_changed()
        self._proxies.replace_with(settings.trusted_proxies)
        self._stats_allowed.replace_with(settings.stats_allowed)
        self._geoip.apply(settings.locations)

    # -- parts

    def _create_nextcloud_client(self) -> NextcloudClient:
        section = self._config.nextcloud
        return NextcloudClient(
            SERVER_HEADER,
            self._features,
            timeout=section.timeout,
            connections_per_host=section.places,
            counters=self._counters,
            clock=self._clock,
            on_warning=self._record_refusal,
        )

    def _record_refusal(self, at: float, line: str) -> None:
        self._services.refusals.record_line(at, line)

    def _create_mcu(self) -> Mcu | None:
        section = self._config.mcu
        if section.type == NO_MCU:
            return None
        return factory.create(
            section.type,
            section.settings,
            timeout=section.timeout,
            clock=self._clock,
            wall_clock=self._wall_clock,
            instance=self._config.instance,
        )

    def _create_services(self) -> Services:
        config = self._config
        return Services(
            settings=self._settings.flows,
            nextcloud=self._nextcloud,
            mcu=self._mcu,
            counters=self._counters,
            ids=SessionIds(config.sessions.secret),
            server=ServerInfo(SERVER_VERSION, self._features),
            server_internal=ServerInfo(SERVER_VERSION, features.internal(config.mcu.type)),
            server_welcome=ServerInfo(SERVER_VERSION, features.welcome(config.mcu.type)),
            outbox_bytes=config.sessions.outbox_bytes,
            remote_servers=self._remote_servers,
            nextcloud_places=config.nextcloud.places,
            nextcloud_timeout=config.nextcloud.timeout,
            clock=self._clock,
            wall_clock=self._wall_clock,
            entropy=secrets.token_bytes,
            locate=self._geoip.locate,
            tracer=self._tracer,
        )

    # -- HTTP

    def application(self) -> web.Application:
        """Build the web application with the routes of all endpoints."""
        flows, services = self._flows, self._services
        rooms_api = RoomsApi(
            services,
            flows.backend_requests.handle,
            flows.dialouts.start,
            self._proxies,
            services.throttling,
            services.refusals,
            self._clock,
            self._body_reader,
            lambda: services.settings.limits.backend_request_bytes,
            lambda: services.count_excess("backend_request_bytes"),
            self._body_budget,
        )
        status = self._status()
        app = web.Application(client_max_size=0)
        for prefix in PATH_PREFIXES:
            app.router.add_get(f"{prefix}{WEBSOCKET_PATH}", self._upgrade, allow_head=False)
            app.router.add_post(f"{prefix}/spreed/poll", self._polling.handle)
            app.router.add_options(f"{prefix}/spreed/poll", self._polling.preflight)
            app.router.add_post(f"{prefix}/api/v1/room/{{roomid}}", rooms_api.handle)
            app.router.add_get(f"{prefix}/turn/credentials", self._turn.handle, allow_head=False)
            app.router.add_routes(status.routes(prefix))
            app.router.add_routes(self._admin_page.routes(prefix))
        if self._config.test_controls and isinstance(self._mcu, MediaTestControls):
            app.router.add_routes(MediaControlsApi(self._mcu).routes())
        app.router.add_routes(self._extra_routes)
        app.on_response_prepare.append(self._add_headers)
        return app

    def _status(self) -> Status:
        overview = self._overview
        return Status(
            SERVER_VERSION,
            self._proxies,
            self._stats_allowed,
            self._services.refusals,
            stats=overview.stats,
            metrics=Metrics(self._counters, overview.gauges(self._nextcloud.connections)).render,
            readiness=overview.readiness,
            server_info=lambda: serverinfo.describe(
                self._services, SERVER_VERSION, self._features, overview.sfu_status()
            ),
        )

    async def _upgrade(self, request: web.Request) -> web.StreamResponse:
        """Serve a WebSocket of a client, or of Janus' event handler (2.1)."""
        if self._reserve.is_used_by(request.transport):
            self._services.count_excess("descriptors")
            raise web.HTTPServiceUnavailable(text="Too many connections\n", headers={"Connection": "close"})
        return await (self._janus_events if self._janus_events.is_event_request(request) else self._websocket).handle(
            request
        )

    def _upgrade_at_once(self, request: UpgradeRequest) -> bool:
        """Open the WebSocket of a client; ``False``: ``_upgrade`` or another handler has to answer, through aiohttp."""
        return (
            request.path in WEBSOCKET_PATHS
            and not self._janus_events.is_event_request(request)
            and self._websocket.upgrade(request)
        )

    async def _add_headers(self, request: web.BaseRequest, response: web.StreamResponse) -> None:
        """Add to each response, upgrades included, the headers that Nextcloud's admin page reads (1.2)."""
        response.headers.update(self._headers())
        if "Transfer-Encoding" in request.headers:  # its body is not read to the end
            response.force_close()
            response.headers["Connection"] = "close"

    def _read_timeout(self) -> float:
        return self._services.settings.limits.http_read_timeout

    def _max_idle_connections(self) -> int:
        return self._services.settings.limits.idle_connections_per_address

    def _count_read_timeout(self) -> None:
        self._services.count_excess("http_read_timeout")

    def _headers(self) -> dict[str, str]:
        return {"Server": SERVER_HEADER, "X-Spreed-Signaling-Features": ", ".join(self._features)}

    async def _listen(self, runner: web.AppRunner) -> list[str]:
        entries = {entry: listen_address(entry) for entry in self._config.http.listen}
        return await listen(runner, entries, self._passed_sockets, tls=self._tls is not None)


def _warn_if_any_backend_is_allowed(config: Config) -> None:
    if config.nextcloud.allow_any:
        log.warning(
            "nextcloud.allow_any is on: anyone with nextcloud.secret can act as any user in any room, and clients"
            " choose the URLs that this server requests; it is for tests and benchmarks only"
        )
