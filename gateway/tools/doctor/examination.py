"""All steps of the doctor in order, and the check of the gateway's configuration."""

from __future__ import annotations

import pwd
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

from gateway import config as configuration
from gateway.config import NO_MCU, Config, TurnSection
from gateway.core.limits import Backend
from gateway.tools.configuration.advice import advise
from gateway.tools.configuration.file_access import check_files
from gateway.tools.configuration.findings import Finding, Findings, loading_failure
from gateway.tools.doctor import client_address, connection, janus, nextcloud, session, signaling, turn
from gateway.tools.doctor.steps import DoctorStep, Outcome, failed, not_tried, ok, warning
from gateway.tools.doctor.target import Target
from gateway.tools.talk_client import Json

CONFIGURATION = "configuration"
GATEWAY_MEDIA = "media through the gateway"
PATH = "path through the reverse proxy"
TURN_OPTIONS = "the TURN servers of Talk's settings: --turn URI --turn-secret FILE (with the secret of these settings)"
NO_CONFIGURATION = not_tried("the gateway's configuration: -c FILE")


def steps(
    target: Target,
    config: Config | None,
    config_outcome: Outcome,
    backends: tuple[Backend, ...],
    turn_settings: TurnSection,
    *,
    url_given: bool,
    media: bool = False,
    ticket: tuple[str, Json] | None = None,
) -> Iterator[DoctorStep]:
    """Yield the steps for a server; ``config`` and ``config_outcome`` are the result of ``read_configuration``.

    ``url_given``: the URL of the target was an argument, not taken from the configuration. ``backends`` and
    ``turn_settings`` are those of the configuration, or those of the command's options instead; ``turn_settings`` of
    options have no ``api_key``. ``media``: add the steps that send media. ``ticket``: see ``session.read_ticket``.
    """
    yield DoctorStep(CONFIGURATION, partial(_known_outcome, config_outcome))
    needs_config = () if config_outcome is NO_CONFIGURATION else (CONFIGURATION,)
    yield DoctorStep("name resolution", partial(connection.resolve_name, target), () if url_given else needs_config)
    yield DoctorStep("TCP", partial(connection.connect_tcp, target), ("name resolution",))
    yield DoctorStep("TLS", partial(connection.check_tls, target), ("TCP",))
    yield DoctorStep(PATH, partial(signaling.fetch_welcome, target), ("TLS",))
    yield DoctorStep("WebSocket upgrade", partial(signaling.open_websocket, target), (PATH,))
    yield DoctorStep("features", partial(signaling.check_features, target), (PATH,))
    yield from _nextcloud_steps(target, backends, config, needs_config)
    secret = config.internal.secret if config else ""
    url = next((url for backend in backends for url in backend.urls), "")
    yield DoctorStep("hello", partial(session.open_session, target, secret, url), ("WebSocket upgrade", *needs_config))
    user = partial(session.open_user_session, target, ticket, url)
    yield DoctorStep("hello of a user", user, ("WebSocket upgrade", *needs_config))
    yield from _janus_steps(target, config, needs_config, media=media)
    if media:
        yield _gateway_media_step(target, config, secret, url)
    else:
        yield DoctorStep(GATEWAY_MEDIA, partial(_known_outcome, not_tried("--media")), needs_config)
    yield from _turn_steps(target, turn_settings, needs_config)
    yield DoctorStep("readiness", partial(signaling.read_readiness, target), (PATH,))


def _nextcloud_steps(
    target: Target, backends: tuple[Backend, ...], config: Config | None, needs: tuple[str, ...]
) -> Iterator[DoctorStep]:
    mcu, trusted = (config.mcu.type, config.http.trusted_proxies) if config else (NO_MCU, ())
    for backend in backends:
        for url in backend.urls:
            name = f"Nextcloud {backend.id if len(backend.urls) == 1 else url}"
            examined = nextcloud.ExaminedNextcloud(backend, url if url.endswith("/") else f"{url}/")
            yield DoctorStep(f"{name}: capabilities", partial(nextcloud.fetch_capabilities, examined), needs)
            needs_capabilities = (f"{name}: capabilities",)
            yield DoctorStep(
                f"{name}: clock", partial(nextcloud.compare_clocks, examined, target), (PATH, *needs_capabilities)
            )
            yield DoctorStep(
                f"{name}: key of hello 2.0", partial(nextcloud.check_token_key, examined), needs_capabilities
            )
            yield DoctorStep(
                f"{name}: requests of the gateway", partial(nextcloud.ask_nextcloud, examined, mcu), needs_capabilities
            )
            sent = partial(nextcloud.send_as_nextcloud, examined, target)
            yield DoctorStep(f"{name}: requests to the gateway", sent, (PATH, *needs))
            if (backend, url) == (backends[0], backends[0].urls[0]):
                arrives = partial(client_address.check_client_address, examined, target, trusted)
                yield DoctorStep("client address", arrives, (f"{name}: requests to the gateway",))
    if not backends:
        yield DoctorStep(
            "Nextcloud",
            partial(_known_outcome, not_tried("the URL of a Nextcloud: --nextcloud URL, or -c FILE")),
            needs,
        )


def _janus_steps(target: Target, config: Config | None, needs: tuple[str, ...], *, media: bool) -> Iterator[DoctorStep]:
    if config is None:
        yield DoctorStep("Janus", partial(_known_outcome, NO_CONFIGURATION), needs)
    elif config.mcu.type == "janus":
        servers = config.mcu.settings
        for number, settings in enumerate(servers, 1):
            name = "Janus" if len(servers) == 1 else f"Janus {settings.name or number}"
            examined = janus.ExaminedJanus(settings)
            yield DoctorStep(name, partial(janus.connect_janus, examined, config.mcu.timeout), needs)
            yield DoctorStep(f"{name}: version", partial(janus.check_version, examined), (name,))
            yield DoctorStep(f"{name}: broken connections", partial(janus.check_reclaim, examined), (name,))
            yield DoctorStep(f"{name}: events", partial(janus.check_events, examined), (name,))
            yield from _media_steps(name, examined, target, config.mcu.timeout, media=media)


def _gateway_media_step(target: Target, config: Config | None, secret: str, url: str) -> DoctorStep:
    from gateway.tools.doctor.gateway_media import send_through_gateway  # loads libraries of codecs

    one_janus = config is not None and config.mcu.type == "janus" and len(config.mcu.settings) == 1
    needs = ("hello", "features", *(("Janus",) if one_janus else ()))
    return DoctorStep(GATEWAY_MEDIA, partial(send_through_gateway, target, secret, url), needs)


def _media_steps(
    name: str, examined: janus.ExaminedJanus, target: Target, request_timeout: float, *, media: bool
) -> Iterator[DoctorStep]:
    if not media:
        yield DoctorStep(f"{name}: media", partial(_known_outcome, not_tried("--media")))
        return
    from gateway.tools.doctor.media import check_candidates, send_and_receive  # loads libraries of codecs

    yield DoctorStep(f"{name}: candidates", partial(check_candidates, examined, target, request_timeout), (name,))
    yield DoctorStep(f"{name}: media", partial(send_and_receive, examined, request_timeout), (name,))


def _turn_steps(target: Target, turn_settings: TurnSection, needs: tuple[str, ...]) -> Iterator[DoctorStep]:
    if not turn_settings.servers:
        yield DoctorStep("TURN", partial(_known_outcome, not_tried(TURN_OPTIONS)))
        return
    credentials, credentials_step = turn.ExaminedTurnCredentials(), "TURN credentials"
    yield DoctorStep(
        credentials_step,
        partial(turn.obtain_credentials, credentials, target, turn_settings),
        (PATH, *needs) if turn_settings.api_key else (),
    )
    for uri in turn_settings.servers:
        name = f"TURN {uri.partition(':')[2]}"
        yield DoctorStep(name, partial(turn.allocate, credentials, uri), (credentials_step,))
        yield DoctorStep(f"{name}: forbidden peers", partial(turn.check_forbidden_peers, credentials, uri), (name,))


def read_configuration(
    path: Path | None, environ: Mapping[str, str], account: pwd.struct_passwd
) -> tuple[Config | None, Outcome]:
    """Load a configuration, and check its settings and files as ``portunus config check`` does.

    ``account`` is the gateway's user. The configuration is ``None`` if there is none, or it cannot be loaded.
    """
    if path is None:
        return None, NO_CONFIGURATION
    try:
        config, source = configuration.load_with_source(path, environ)
    except configuration.ConfigError as error:
        finding = loading_failure(error, str(path))
        return None, failed(f"{_where(finding)}: {finding.problem}", finding.remedy)
    findings = Findings(source)
    advise(config, source, findings)
    check_files(config, source, account, findings)
    for level, outcome in (("error", failed), ("warning", warning)):
        found = [finding for finding in findings.found if finding.level == level]
        if found:
            more = f"{len(found) - 1} more: portunus config check {path}" if len(found) > 1 else ""
            first = found[0]
            return config, outcome(f"{_where(first)}: {first.problem}", first.remedy, more)
    return config, ok(f"{path} is valid")


def _where(finding: Finding) -> str:
    return f"{finding.place}: {finding.key}" if finding.key else finding.place


async def _known_outcome(outcome: Outcome) -> Outcome:
    """Return an outcome that is known before its step runs."""
    return outcome
