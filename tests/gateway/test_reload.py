"""Settings that a reload changes while the gateway listens: certificate, trusted proxies, access to statistics."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from gateway.config import AdminSection, Config, HttpSection, SessionsSection, load
from gateway.config.sections import InternalSection, McuSection, NextcloudSection, StatsSection, TurnSection
from gateway.core.limits import Backend, FederationRules
from gateway.core.throttle import ThrottledAction
from gateway.flows.ports import NOT_ALLOWED, RemoteUnavailable
from gateway.flows.settings import MediaLimits
from gateway.tools.serve import reload
from tests.gateway.certificates import make_certificate
from tests.gateway.edge.federation.servers import OtherServer
from tests.gateway.flows.fakes import DisconnectedCaller
from tests.gateway.running import SECRET, started_gateway

LOOPBACK = ("127.0.0.1/32",)
PROXY_HEADERS = ("X-Forwarded-For", "X-Real-IP", "X-Forwarded-Host", "X-Forwarded-Proto", "Forwarded", "Via")


def config(certificate: Path | str = "", key: Path | str = "", proxies: tuple[str, ...] = LOOPBACK) -> Config:
    return Config(
        sessions=SessionsSection(secret=SECRET),
        http=HttpSection(listen=("127.0.0.1:0",), certificate=str(certificate), key=str(key), trusted_proxies=proxies),
        stats=StatsSection(LOOPBACK),
    )


async def is_trusted(url: str, certificate: bytes) -> bool:
    """Return whether a new connection is offered this certificate, which is also its own authority."""
    trust = ssl.create_default_context(cadata=certificate.decode())
    async with aiohttp.ClientSession() as http:
        try:
            async with http.get(url + "/healthz", ssl=trust) as response:
                return response.status == 200
        except aiohttp.ClientConnectorCertificateError:
            return False


def folder(parent: Path, name: str) -> Path:
    (parent / name).mkdir()
    return parent / name


# reference 1.1-f
@pytest.mark.parametrize("same_paths", [True, False])
async def test_reload_changes_the_certificate_of_new_connections(tmp_path: Path, same_paths: bool) -> None:
    paths = make_certificate(folder(tmp_path, "old"), rsa_key=True)
    old = paths[0].read_bytes()
    async with started_gateway(config(*paths)) as (gateway, url), aiohttp.ClientSession() as http:
        trust = ssl.create_default_context(cadata=old.decode())
        async with http.ws_connect(url + "/spreed", ssl=trust) as client:
            assert (await client.receive_json())["type"] == "welcome"
            renewed = make_certificate(paths[0].parent if same_paths else folder(tmp_path, "new"))
            new = renewed[0].read_bytes()
            assert await gateway.reload(config(*renewed)) == []
            assert (await is_trusted(url, new), await is_trusted(url, old)) == (True, False)
            await client.send_str("x")
            assert (await client.receive_json())["error"]["code"] == "invalid_format"


# reference 1.1-f
async def test_reload_with_an_unusable_certificate_changes_nothing(tmp_path: Path) -> None:
    paths = make_certificate(folder(tmp_path, "one"))
    old = paths[0].read_bytes()
    other_key = make_certificate(folder(tmp_path, "two"))[1]
    async with started_gateway(config(*paths)) as (gateway, url), aiohttp.ClientSession() as http:
        for certificate, key in ((paths[0], other_key), (tmp_path / "none", paths[1])):
            changed = msgspec.structs.replace(config(certificate, key), stats=StatsSection(("192.0.2.1/32",)))
            with pytest.raises(OSError):  # noqa: PT011 - the text is OpenSSL's or the system's
                await gateway.reload(changed)
        assert await is_trusted(url, old)
        async with http.get(url + "/metrics", ssl=ssl.create_default_context(cadata=old.decode())) as response:
            assert response.status == 200


# reference 1.1-f
async def test_reload_with_unusable_authorities_of_other_servers_changes_nothing(tmp_path: Path) -> None:
    rules = FederationRules(certificate_authorities=str(tmp_path / "none.pem"))
    async with started_gateway(config()) as (gateway, url), aiohttp.ClientSession() as http:
        changed = msgspec.structs.replace(config(proxies=()), stats=StatsSection(()), federation=rules)
        with pytest.raises(OSError, match="No such file"):
            await gateway.reload(changed)
        async with http.get(url + "/metrics", headers={"X-Forwarded-For": "127.0.0.1"}) as response:
            assert response.status == 200


async def test_authorities_of_other_servers_are_read_at_the_start_only(tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    async with OtherServer(tls=context) as other:
        rules = other.rules(authorities=certificate)
        async with started_gateway(msgspec.structs.replace(config(), federation=rules)) as (gateway, _):
            certificate.unlink()  # a connection that read it would block the event loop
            connection = await gateway._remote_servers.connect(f"https://127.0.0.1:{other.port}/")
            connection.abort()


async def test_reload_that_turns_tls_on_or_off_needs_a_restart(tmp_path: Path) -> None:
    paths = make_certificate(tmp_path)
    async with started_gateway(config()) as (gateway, _):
        assert await gateway.reload(config(*paths)) == ["http.certificate"]
    async with started_gateway(config(*paths)) as (gateway, url):
        assert await gateway.reload(config()) == ["http.certificate"]
        assert await is_trusted(url, paths[0].read_bytes())
        assert await gateway.reload(config(*paths)) == ["http.certificate"]


async def test_reload_changes_trusted_proxies_and_addresses_that_may_read_statistics() -> None:
    async with started_gateway(config()) as (gateway, url), aiohttp.ClientSession() as http:

        async def status(forwarded_for: str) -> int:
            async with http.get(url + "/metrics", headers={"X-Forwarded-For": forwarded_for}) as response:
                return response.status

        assert (await status("127.0.0.1"), await status("192.0.2.1")) == (200, 403)
        await gateway.reload(msgspec.structs.replace(config(), stats=StatsSection(("192.0.2.1/32",))))
        assert (await status("127.0.0.1"), await status("192.0.2.1")) == (403, 200)


@pytest.mark.parametrize("path", ["/metrics", "/api/v1/stats", "/api/v1/serverinfo"])
async def test_reload_that_trusts_no_proxy_closes_statistics_to_each_forwarded_request(path: str) -> None:
    """A request from loopback is answered still; with any header of a proxy its client may be anybody."""
    async with started_gateway(config()) as (gateway, url), aiohttp.ClientSession() as http:

        async def status(*headers: str) -> int:
            async with http.get(url + path, headers=dict.fromkeys(headers, "127.0.0.1")) as response:
                return response.status

        assert [await status(header) for header in PROXY_HEADERS] == [200] * len(PROXY_HEADERS)
        await gateway.reload(config(proxies=()))
        assert {header: await status(header) for header in PROXY_HEADERS} == dict.fromkeys(PROXY_HEADERS, 403)
        assert await status(*PROXY_HEADERS) == 403
        assert (await status(), await status("X-Other")) == (200, 200)  # of this machine, or of a proxy without headers


async def test_reload_changes_the_servers_whose_rooms_may_be_joined() -> None:
    async with OtherServer() as server, started_gateway(config()) as (gateway, _):
        url = f"http://127.0.0.1:{server.port}/"
        with pytest.raises(RemoteUnavailable) as refused:
            await gateway._remote_servers.connect(url)
        assert refused.value.code == NOT_ALLOWED
        await gateway.reload(msgspec.structs.replace(config(), federation=server.rules()))
        (await gateway._remote_servers.connect(url)).abort()


# reference 1.1-f
async def test_timeout_of_the_sfu_stays_the_same_everywhere_until_a_restart() -> None:
    before = msgspec.structs.replace(config(), mcu=McuSection(timeout=7.0))
    after = msgspec.structs.replace(config(), mcu=McuSection(timeout=3.0, max_stream_bitrate=500_000))
    async with started_gateway(before) as (gateway, _):
        assert await gateway.reload(after) == ["mcu.timeout"]
        assert gateway._services.settings.media_limits == MediaLimits(500_000, after.mcu.max_screen_bitrate, 7.0)


# reference 1.1-f
@pytest.mark.parametrize(
    ("change", "needs_restart"),
    [
        ({"timeout": 3.0}, ["nextcloud.timeout"]),
        ({"connections_per_host": 4}, ["nextcloud.connections_per_host"]),
        ({"allow_any": False, "secret": ""}, []),
    ],
)
async def test_only_keys_of_nextcloud_that_a_reload_does_not_apply_need_a_restart(
    change: dict[str, Any], needs_restart: list[str]
) -> None:
    section = NextcloudSection(allow_any=True, secret=SECRET)
    async with started_gateway(msgspec.structs.replace(config(), nextcloud=section)) as (gateway, _):
        after = msgspec.structs.replace(config(), nextcloud=msgspec.structs.replace(section, **change))
        assert await gateway.reload(after) == needs_restart
        found = gateway._services.backends.find_with_base_url("https://cloud.example/")
        assert (found is not None) is after.nextcloud.allow_any


VALID = f"""\
[http]
listen = ["127.0.0.1:0"]
[sessions]
secret = "{SECRET}"
[[backend]]
id = "cloud"
urls = ["https://cloud.example/"]
secret = "3b8f6a0d1c9e47528a6d0f1e2b3c4d5e"
"""


@pytest.mark.parametrize(
    ("text", "reasons"),
    [
        ("listen = ", ["not TOML"]),
        (VALID.replace('["127.0.0.1:0"]', "[]"), ["http.listen", "needs at least one address"]),
        (
            VALID.replace("[http]", '[http]\ncertificate = "/none.pem"\nkey = "/none.pem"'),
            ["http.certificate", "cannot be read"],
        ),
        (VALID.replace("[http]", '[http]\ntrusted_proxies = ["proxy"]'), ["http.trusted_proxies[0]", '"proxy"']),
        (VALID + '[stats]\nallowed = ["all"]\n', ["stats.allowed[0]", '"all"']),
        (VALID + '[mcu]\nblocked_candidates = ["10.0.0.0/40"]\n', ["mcu.blocked_candidates[0]", '"10.0.0.0/40"']),
        (VALID + '[mcu]\nallowed_candidates = ["here"]\n', ["mcu.allowed_candidates[0]", '"here"']),
        (VALID.replace(SECRET, "short"), ["sessions.secret", "needs"]),
        (VALID + "[limits]\nid_length = -1\n", ["limits.id_length"]),
        (VALID + "[limit]\nid_length = 1\n", ["limit"]),
        (VALID + '[geoip.overrides]\nhome = "DE"\n', ["geoip.overrides"]),
        (
            VALID + '[federation]\ncertificate_authorities = "/none.pem"\n',
            ["federation.certificate_authorities", "/none.pem"],
        ),
    ],
)
async def test_invalid_file_changes_nothing_and_the_log_says_why(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, text: str, reasons: list[str]
) -> None:
    file = tmp_path / "portunus.toml"
    file.write_text(VALID)
    async with started_gateway(load(file, {})) as (gateway, _):
        before = gateway._settings
        file.write_text(text)
        await reload(gateway, lambda: load(file, {}))
        assert gateway._settings is before
    (line,) = [record.getMessage() for record in caplog.records if "configuration" in record.getMessage()]
    assert line.startswith(f"the configuration was not changed: {file}")
    assert all(reason in line for reason in reasons)
    assert not any(secret in line for secret in (SECRET, "3b8f6a0d1c9e47528a6d0f1e2b3c4d5e"))


NEW_SECRET = "d0c1b2a3948576655a4b3c2d1e0f9a8b"


@pytest.mark.parametrize(
    ("action", "changed"),
    [
        (ThrottledAction.ROOM_AUTH, {"backends": (Backend("cloud", ("https://cloud.example/",), NEW_SECRET),)}),
        (ThrottledAction.HELLO_INTERNAL, {"internal": InternalSection(NEW_SECRET)}),
        (ThrottledAction.TURN_KEY, {"turn": TurnSection(api_key=NEW_SECRET)}),
        (ThrottledAction.ADMIN_SECRET, {"admin": AdminSection(secret=NEW_SECRET)}),
    ],
)
async def test_reload_with_a_changed_secret_ends_the_blocks_of_addresses_that_used_the_old_one(
    action: ThrottledAction, changed: dict[str, Any]
) -> None:
    before = msgspec.structs.replace(config(), backends=(Backend("cloud", ("https://cloud.example/",), SECRET),))
    caller = DisconnectedCaller("192.0.2.1")
    async with started_gateway(before) as (gateway, _):
        throttling = gateway._services.throttling
        for each in ThrottledAction:
            while not throttling.blocks(caller.address, each):
                await throttling.record_failure(caller, each)
        await gateway.reload(before)
        assert all(throttling.blocks(caller.address, each) for each in ThrottledAction)
        await gateway.reload(msgspec.structs.replace(before, **changed))
        assert [each for each in ThrottledAction if not throttling.blocks(caller.address, each)] == [action]
