"""The commonest mistakes of administrators: each has its line in the log, its readiness, and its step of the doctor.

Source: docs/troubleshooting.md, "Refusals"; docs/operations.md, "Readiness"; docs/doctor.md. Gateway, Janus and doctor
are real processes; Nextcloud is the shipped fake. In the texts CLOUD is the URL of Nextcloud, and HOST its host and
port.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from gateway.tools.fake_nextcloud import FakeNextcloud
from tests.gateway.mistake import (
    IN_PROCESS,
    TURN,
    TURN_KEY,
    WRONG_SECRET,
    Installation,
    Trigger,
    ask_for_credentials,
    correct_configuration,
    do_nothing,
    forward,
    hello,
    hello_of_recorder,
    notify_and_hello,
    redirect_to_https,
    without_data_channels,
)
from tests.gateway.served import FILE, INTERNAL_SECRET, LOG, serve
from tests.gateway.tools.doctor.deployment import doctor
from tests.janus_process import ADMIN_KEY, API_SECRET, JanusProcess

pytestmark = pytest.mark.full

COMPARE = (
    "compare the secret of [[backend]] cloud in this server's configuration with the shared secret in Nextcloud"
    " (Administration settings, Talk, High-performance backend)"
)
NOT_ACCEPTED = f"ended with HTTP status 200: error invalid_request: Nextcloud does not accept the signature; {COMPARE}"
NO_SFU = (
    'no SFU is configured (mcu.type is "none"): clients send audio and video directly to each other, which fails'
    " between many networks and in large calls"
)
UNUSABLE_JANUS = "Janus cannot be used yet: {}; media requests wait, we keep trying"
OTHER_KEY = (
    "VideoRoom of this Janus has another admin_key than this gateway's configuration: compare mcu.janus.admin_key with"
    " the admin_key in janus.plugin.videoroom.jcfg"
)
OTHER_SECRET = (
    "it refuses this gateway, its secret or token is wrong: compare mcu.janus.api_secret with the api_secret in"
    " janus.jcfg (mcu.janus.token, if Janus uses token_auth)"
)
ADMIN_PORT = "Janus' admin port answered, this is not its API port (`url` needs the port of the WebSocket API)"
STRING_IDS = "VideoRoom of this Janus has string_ids = true; this gateway needs numbers (string_ids = false)"
NO_CHANNELS = "this Janus was built without data channels"
REDIRECTED = "the backend redirects to https://cloud.example.com/: put that URL into backend.urls"
UNKNOWN = "hellos of clients are refused: no backend is configured for "
DEPENDENCIES = ("sfu", "backend cloud")


@dataclass(frozen=True)
class Mistake:
    """One mistake; ``make`` changes the configuration or a server before the start, ``trigger`` reveals it."""

    name: str
    make: Callable[[Installation], None]
    lines: tuple[str, ...]  # all warnings of the log
    step: str = ""  # the doctor's first step that is not ok; empty: the doctor cannot find the mistake
    found: tuple[str, str] = ("", "")  # parts of the cause and of the change in its result
    trigger: Trigger = do_nothing
    readiness: tuple[int, str, str, str] = (200, "ok", "", "")  # status, state, dependency that is not ok, its reason
    after: Callable[[Installation], None] = lambda installation: None  # changes the file that the doctor reads
    janus: bool = False
    edits: dict[str, str] = field(default_factory=dict)  # replaced in the settings of VideoRoom
    channels: bool = True  # Janus has data channels
    warns: bool = False  # the doctor only warns


def refused_by_cloud(subject: str) -> tuple[int, str, str, str]:
    return 200, "degraded", "backend cloud", f"the last request, of type {subject}, to CLOUD {NOT_ACCEPTED}"


def replace(old: str, new: str) -> Callable[[Installation], None]:
    return lambda installation: installation.replace(old, new)


def away(reason: str) -> tuple[int, str, str, str]:
    return 503, "away", "sfu", reason


def change_secret_in_nextcloud(installation: Installation) -> None:
    installation.cloud.secret = WRONG_SECRET


def change_backend_url(new: str) -> Callable[[Installation], None]:
    return lambda installation: installation.replace(
        installation.cloud.url, new.replace("CLOUD", installation.cloud.url)
    )


def name_the_admin_port(installation: Installation) -> None:
    assert installation.janus is not None
    installation.replace(installation.janus.url, installation.janus.admin_url)


def remove_the_sfu(installation: Installation) -> None:
    installation.text = installation.text.replace(IN_PROCESS, "")


def trust_another_proxy(installation: Installation) -> None:
    installation.text = installation.text.replace("[http]\n", '[http]\ntrusted_proxies = ["192.0.2.1"]\n')


def add_turn(installation: Installation) -> None:
    installation.text += TURN


def change_nothing(installation: Installation) -> None:
    """Leave everything as it is: the mistake is on the other side, or is made elsewhere."""


MISTAKES = [
    Mistake(
        "secret of the gateway",
        lambda installation: installation.replace(installation.cloud.secret, WRONG_SECRET),
        (f"a request of type auth to backend cloud at CLOUD {NOT_ACCEPTED}",),
        "Nextcloud cloud: requests of the gateway",
        ("Nextcloud does not accept the gateway's signature", "use one secret for backend.secret and in Nextcloud"),
        hello(lambda installation: installation.cloud.url, "invalid_request"),
        refused_by_cloud("auth"),
    ),
    Mistake(
        "secret of Nextcloud",
        change_secret_in_nextcloud,
        (
            "requests to the rooms API for backend cloud at CLOUD are refused, their signature is wrong: " + COMPARE,
            f"a request of type auth to backend cloud at CLOUD {NOT_ACCEPTED}",
        ),
        "Nextcloud cloud: requests of the gateway",
        ("Nextcloud does not accept the gateway's signature", "use one secret for backend.secret and in Nextcloud"),
        notify_and_hello,
        refused_by_cloud("auth"),
    ),
    Mistake(
        "http for https, refused",
        redirect_to_https,
        (
            f"{UNKNOWN}https://HOST/; the nearest URL is CLOUD of backend cloud, the scheme differs: correct urls of"
            " [[backend]] cloud, or overwriteprotocol in Nextcloud's config.php, which a reverse proxy with TLS"
            " requires",
        ),
        "Nextcloud cloud: capabilities",
        ("it redirects", "write https://cloud.example.com/ in backend.urls"),
        hello(lambda installation: installation.cloud.url.replace("http:", "https:"), "invalid_backend"),
    ),
    Mistake(
        "http for https, redirected",
        redirect_to_https,
        (
            f"the capabilities of CLOUD could not be fetched: {REDIRECTED}",
            f"a request of type auth to backend cloud at CLOUD ended with HTTP status 301: {REDIRECTED}",
        ),
        "Nextcloud cloud: capabilities",
        ("it redirects", "write https://cloud.example.com/ in backend.urls"),
        hello(lambda installation: installation.cloud.url, "internal_error"),
        (
            200,
            "degraded",
            "backend cloud",
            f"the last request, of type auth, to CLOUD ended with HTTP status 301: {REDIRECTED}",
        ),
    ),
    Mistake(
        "index.php",
        change_backend_url("CLOUDindex.php"),
        (
            f"{UNKNOWN}CLOUD; the nearest URL is CLOUDindex.php/ of backend cloud, the path differs: urls of"
            " [[backend]] cloud must end with the folder in which Nextcloud is installed, without index.php",
        ),
        "configuration",
        ("ends with /index.php", "write CLOUD"),
        hello(lambda installation: installation.cloud.url, "invalid_backend"),
    ),
    Mistake(
        "another host",
        change_backend_url("http://cloud.invalid/"),
        (
            f"{UNKNOWN}CLOUD; the nearest URL is http://cloud.invalid/ of backend cloud, the host differs: if both are"
            " one Nextcloud, add the refused URL to urls of [[backend]] cloud, or correct overwritehost and"
            " overwrite.cli.url in Nextcloud's config.php",
        ),
        "Nextcloud cloud: capabilities",
        ("this Nextcloud cannot be reached from here", "correct backend.urls"),
        hello(lambda installation: installation.cloud.url, "invalid_backend"),
    ),
    Mistake(
        "no mcu",
        remove_the_sfu,
        (NO_SFU,),
        "configuration",
        ("no SFU is chosen", "mcu"),
        readiness=(200, "degraded", "sfu", NO_SFU),
        warns=True,
    ),
    Mistake(
        "admin_key",
        replace(ADMIN_KEY, WRONG_SECRET),
        (UNUSABLE_JANUS.format(OTHER_KEY),),
        "Janus",
        ("another admin_key", "compare mcu.janus.admin_key"),
        readiness=away(OTHER_KEY),
        janus=True,
    ),
    Mistake(
        "api_secret",
        replace(API_SECRET, WRONG_SECRET),
        (UNUSABLE_JANUS.format(OTHER_SECRET),),
        "Janus",
        ("Janus refuses the gateway's requests", "give mcu.janus.api_secret the api_secret of janus.jcfg"),
        readiness=away(OTHER_SECRET),
        janus=True,
    ),
    Mistake(
        "admin port",
        name_the_admin_port,
        (UNUSABLE_JANUS.format(ADMIN_PORT),),
        "Janus",
        ("Janus' admin port answered", "give mcu.janus.url the ws_port"),
        readiness=away(ADMIN_PORT),
        janus=True,
    ),
    Mistake(
        "string_ids",
        change_nothing,
        (UNUSABLE_JANUS.format(STRING_IDS),),
        "Janus",
        ("string_ids = true", "string_ids = false"),
        readiness=away(STRING_IDS),
        janus=True,
        edits={"string_ids = false": "string_ids = true"},
    ),
    Mistake(
        "no data channels",
        change_nothing,
        (UNUSABLE_JANUS.format(NO_CHANNELS),),
        "Janus",
        (NO_CHANNELS, "built with usrsctp"),
        readiness=away(NO_CHANNELS),
        janus=True,
        channels=False,
    ),
    Mistake(
        "untrusted proxy",
        trust_another_proxy,
        (
            "a peer that is not in http.trusted_proxies forwards requests: all clients behind it count as one address,"
            " and it gets no statistics; if it is your reverse proxy, write under [http]: trusted_proxies ="
            ' ["192.0.2.1/32", "127.0.0.1"]',
        ),
        trigger=forward,
    ),
    Mistake(
        "internal secret",
        change_nothing,
        (
            "internal clients are refused: compare internal.secret with the internalsecret of the SIP bridge or the"
            " recorder",
        ),
        "hello",
        ("refuses a hello with this internal.secret", "reload the gateway"),
        hello_of_recorder,
        after=replace(INTERNAL_SECRET, WRONG_SECRET),
    ),
    Mistake(
        "turn.api_key",
        add_turn,
        (
            "requests for TURN credentials are refused: compare turn.api_key with turn_rest_api_key in janus.jcfg"
            " (section nat), or the key of another program that sends them",
        ),
        "TURN credentials",
        ("the running gateway grants no credentials", "[turn] api_key"),
        ask_for_credentials,
        after=replace(TURN_KEY, WRONG_SECRET),
    ),
]


@pytest.mark.parametrize("mistake", MISTAKES, ids=[mistake.name for mistake in MISTAKES])
async def test_mistake_is_named_by_log_readiness_and_doctor(tmp_path: Path, mistake: Mistake) -> None:
    async with contextlib.AsyncExitStack() as stack:
        cloud = await stack.enter_async_context(FakeNextcloud())
        janus = JanusProcess() if mistake.janus else None
        if janus is not None:
            janus.edits.update(mistake.edits)
            await stack.enter_async_context(janus)
        installation = Installation(cloud, janus, tmp_path)
        installation.text = correct_configuration(installation)
        if janus is not None and not mistake.channels:
            front = await stack.enter_async_context(without_data_channels(janus))
            installation.replace(janus.url, front)
        mistake.make(installation)

        def filled(text: str) -> str:
            return text.replace("CLOUD", cloud.url).replace("HOST", cloud.url.split("/")[2])

        installation.url = await stack.enter_async_context(serve(tmp_path, installation.text))
        await mistake.trigger(installation)
        lines = await installation.warnings(len(mistake.lines))
        ready = await installation.get("/readyz")
        mistake.after(installation)
        (tmp_path / FILE).write_text(installation.text)
        (tmp_path / FILE).chmod(0o600)
        written = (tmp_path / LOG).read_text()
        status, report, _ = await doctor(installation.url, "-c", tmp_path / FILE, "--json")

    assert sorted(lines) == sorted(map(filled, mistake.lines))
    assert [text for text in installation.private if text in written or text in report] == []
    check_readiness(ready, *map(filled, map(str, mistake.readiness)))
    check_report(json.loads(report), mistake, filled(mistake.found[0]), filled(mistake.found[1]))
    assert status == (1 if mistake.step and not mistake.warns else 0)


def check_readiness(ready: tuple[int, str], status: str, state: str, name: str, reason: str) -> None:
    document = json.loads(ready[1])
    assert (str(ready[0]), document["state"]) == (status, state)
    assert tuple(it["name"] for it in document["dependencies"]) == DEPENDENCIES
    bad = [(it["name"], it["reason"]) for it in document["dependencies"] if it["state"] != "ok"]
    assert [it[0] for it in bad] == ([name] if name else [])
    assert not bad or bad[0][1].startswith(reason), bad


def check_report(report: list[dict[str, str]], mistake: Mistake, cause: str, change: str) -> None:
    states = ("failed", "warning") if mistake.warns else ("failed",)
    bad = [result for result in report if result["state"] in states]
    first = bad[0] if bad else {"step": "", "cause": "", "change": ""}
    assert first["step"] == mistake.step, report
    assert cause in first["cause"]
    assert change in first["change"]
