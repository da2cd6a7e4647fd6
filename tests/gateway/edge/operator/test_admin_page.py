"""The admin page over HTTP: log-in, cookies, CSRF tokens, and requests that need a log-in."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from gateway.app import Gateway
from gateway.config import AdminSection, Config, ConfigError, HttpSection, SessionsSection
from gateway.config import load as load_config
from gateway.edge.operator import admin_logins, admin_page
from gateway.edge.operator.admin_logins import AdminLogins
from gateway.edge.operator.admin_page import ExaminationError
from gateway.flows import throttling
from gateway.tools.examine import examine
from tests.gateway.certificates import make_certificate

SECRET = "5a0f1d7c3b9e8642"
OTHER_SECRET = "0123456789abcdef0123456789abcdef"


def config(secret: str = SECRET) -> Config:
    http = HttpSection(listen=("127.0.0.1:0",), trusted_proxies=("127.0.0.1/32",))
    return Config(sessions=SessionsSection(secret=OTHER_SECRET), http=http, admin=AdminSection(secret=secret))


@asynccontextmanager
async def browser(
    secret: str = SECRET, examination: admin_page.Examination | None = None
) -> AsyncIterator[tuple[Gateway, aiohttp.ClientSession, str]]:
    """Yield a gateway, a client that keeps cookies, and the URL of the page."""
    gateway = Gateway(config(secret), examine=examination)
    (url,) = await gateway.start()
    jar = aiohttp.CookieJar(unsafe=True)  # of IP addresses, too
    try:
        async with aiohttp.ClientSession(cookie_jar=jar) as client:
            yield gateway, client, f"{url}/standalone-signaling/admin/"
    finally:
        await gateway.stop()


async def log_in(client: aiohttp.ClientSession, page: str, secret: str = SECRET) -> str:
    """Log in and return the CSRF token."""
    async with client.post(f"{page}api/login", json={"secret": secret}) as response:
        assert response.status == 200, await response.text()
        return str((await response.json())["csrf_token"])


async def status(client: aiohttp.ClientSession, method: str, url: str, **options: object) -> int:
    async with client.request(method, url, **options) as response:  # type: ignore[arg-type]
        return response.status


REQUESTS = [
    ("DELETE", "login"),
    ("POST", "doctor"),
    ("GET", "snapshot"),
    ("GET", "explain"),
    ("GET", "timeline"),
    ("GET", "drain"),
    ("POST", "drain"),
    ("DELETE", "drain"),
]


async def test_every_request_needs_a_login() -> None:
    async with browser() as (gateway, client, page):
        for method, path in REQUESTS:
            assert await status(client, method, f"{page}api/{path}") == 401, path
            forged = {"Cookie": f"{admin_page.COOKIE}=guess"}
            assert await status(client, method, f"{page}api/{path}", headers=forged) == 401, path
        assert not gateway._services.drain.active


def test_table_of_requests_is_complete() -> None:
    routes = Gateway(config())._admin_page.routes("")
    served = {(route.method, route.path.removeprefix("/admin/api/")) for route in routes if "/api/" in route.path}
    assert served - {("POST", "login")} == {*REQUESTS, ("GET", "login")}


async def test_without_a_secret_there_is_no_page() -> None:
    async with browser(secret="") as (_, client, page):
        for method, path in [("GET", ""), ("GET", "admin.js"), ("GET", "api/login"), ("POST", "api/login"), *REQUESTS]:
            path = path if path in ("", "admin.js", "api/login") else f"api/{path}"
            assert await status(client, method, page + path, json={"secret": ""}) == 404, path


async def test_changes_need_the_csrf_token_of_the_login() -> None:
    async with browser() as (gateway, client, page):
        token = await log_in(client, page)
        for headers in ({}, {"X-CSRF-Token": ""}, {"X-CSRF-Token": "x"}, {"X-CSRF-Token": "ä"}):
            assert await status(client, "POST", f"{page}api/drain", headers=headers) == 403
        assert not gateway._services.drain.active
        headers = {"X-CSRF-Token": token}
        assert await status(client, "POST", f"{page}api/drain?deadline=60", headers=headers) == 200
        assert gateway._services.drain.active
        assert await status(client, "DELETE", f"{page}api/drain", headers=headers) == 409  # over: there are no calls


async def test_login_shows_the_state_until_it_is_ended() -> None:
    async with browser() as (_, client, page):
        token = await log_in(client, page)
        async with client.get(f"{page}api/snapshot") as response:
            assert response.headers["Cache-Control"] == "no-store"
            assert (await response.json())["sessions"] == 0
        async with client.get(f"{page}api/login") as response:
            assert (await response.json()) == {"csrf_token": token, "doctor": False}
        assert await status(client, "DELETE", f"{page}api/login", headers={"X-CSRF-Token": token}) == 200
        async with client.get(f"{page}api/login") as response:
            assert (await response.json()) == {"csrf_token": "", "doctor": False}
        assert await status(client, "GET", f"{page}api/snapshot") == 401


async def test_cookie_is_sent_by_the_page_only() -> None:
    async with browser() as (_, client, page):
        for origin, secure in (("https://signal.example.com", True), ("http://127.0.0.1", False)):
            body = {"secret": SECRET}
            async with client.post(f"{page}api/login", json=body, headers={"Origin": origin}) as response:
                attributes = response.headers["Set-Cookie"].split("; ")[1:]
            assert {"HttpOnly", "SameSite=Strict"} <= set(attributes)
            assert ("Secure" in attributes) == secure
            assert not any(attribute.startswith(("Path", "Domain", "expires")) for attribute in attributes)


async def test_page_runs_scripts_of_its_own_only() -> None:
    async with browser() as (_, client, page):
        async with client.get(page) as response:
            policy = response.headers["Content-Security-Policy"]
            text = await response.text()
        assert "script-src 'self';" in policy
        assert "unsafe" not in policy
        assert re.search(r"\son\w+=", text) is None  # no handlers in attributes
        assert text.count("<script") == text.count('<script type="module" src=')
        for name in ("admin.js", "requests.js", "tables.js", "admin.css", "base.css", "icon.svg"):
            assert await status(client, "GET", page + name) == 200, name
        for name in ("main.js", "../../app.py", "%2e%2e/index.html", "secret"):
            assert await status(client, "GET", page + name) == 404, name


async def test_path_without_a_slash_leads_to_the_page_below_any_prefix() -> None:
    async with (
        browser() as (_, client, page),
        client.get(page.rstrip("/"), allow_redirects=False) as response,
    ):
        assert (response.status, response.headers["Location"]) == (308, "admin/")


async def test_wrong_secrets_are_throttled_and_a_right_one_is_not(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(throttling, "MAX_DELAY", 0.0)
    monkeypatch.setattr("gateway.core.throttle.FIRST_DELAY", 0.0)
    async with browser() as (gateway, client, page):
        found = [await status(client, "POST", f"{page}api/login", json={"secret": "guess"}) for _ in range(12)]
        assert found == [403] * 10 + [429] * 2
        await log_in(client, page)
        counted = gateway._counters.authentication_failures
        assert counted["", "admin_secret"] == 12
        await gateway.reload(config(OTHER_SECRET))
        assert await status(client, "GET", f"{page}api/snapshot") == 401  # the log-in has ended
        assert await status(client, "POST", f"{page}api/login", json={"secret": SECRET}) == 403  # not blocked
        await log_in(client, page, OTHER_SECRET)
    lines = [record.getMessage() for record in caplog.records if record.name == "portunus.refusals"]
    assert "a log-in on the admin page is refused: the secret is not admin.secret" in lines
    assert not any(secret in line for secret in (SECRET, OTHER_SECRET, "guess") for line in lines)


@pytest.mark.parametrize(
    ("body", "content_type", "expected"),
    [
        (b"", "application/json", 413),
        (b"x" * 4097, "application/json", 413),
        (b'{"secret":"5a0f1d7c3b9e8642"}', "text/plain", 415),
        (b'{"secret":5}', "application/json", 400),
        (b'{"secret":"5a0f1d7c3b9e8642","more":1}', "application/json", 400),
        (b"\xff{", "application/json", 400),
        (b'{"secret":"\\ud800"}', "application/json", 400),
        (b"[" * 4000, "application/json", 400),
    ],
)
async def test_malformed_login_gets_an_error(body: bytes, content_type: str, expected: int) -> None:
    async with browser() as (_, client, page):
        headers = {"Content-Type": content_type}
        assert await status(client, "POST", f"{page}api/login", data=body, headers=headers) == expected
        await log_in(client, page)


def test_logins_expire_and_are_bounded() -> None:
    now = 0.0
    logins = AdminLogins(lambda: now)
    idle, _ = logins.open()
    used, _ = logins.open()
    now = admin_logins.IDLE_LIFETIME - 1
    assert logins.find(used) is not None
    now += 1
    assert logins.find(idle) is None
    while now < admin_logins.LIFETIME:
        assert logins.find(used) is not None
        now += admin_logins.IDLE_LIFETIME / 2
    assert logins.find(used) is None
    tokens = [logins.open()[0] for _ in range(admin_logins.MAX_LOGINS + 1)]
    assert len(logins) == admin_logins.MAX_LOGINS
    assert [logins.find(token) is not None for token in tokens] == [False] + [True] * admin_logins.MAX_LOGINS


async def test_doctor_runs_once_at_a_time_and_its_failure_is_shown() -> None:
    async def examination() -> bytes:
        again = await status(client, "POST", f"{page}api/doctor", headers={"X-CSRF-Token": token})
        if again == 409:
            raise ExaminationError("the doctor cannot begin: it is an example")
        return b"[]"

    async with browser(examination=examination) as (_, client, page):
        token = await log_in(client, page)
        async with client.post(f"{page}api/doctor", headers={"X-CSRF-Token": token}) as response:
            assert response.status == 502
            assert (await response.json())["error"] == "the doctor cannot begin: it is an example"


async def test_gateway_without_a_file_has_no_doctor() -> None:
    async with browser() as (_, client, page):
        headers = {"X-CSRF-Token": await log_in(client, page)}
        assert await status(client, "POST", f"{page}api/doctor", headers=headers) == 404


async def test_examination_returns_the_steps_of_the_doctor(tmp_path: Path) -> None:
    file = tmp_path / "portunus.toml"
    file.write_text(
        f'[http]\nlisten = ["127.0.0.1:9"]\n[sessions]\nsecret = "{OTHER_SECRET}"\n'
        f'[[backend]]\nid = "cloud"\nurls = ["http://127.0.0.1:9"]\nsecret = "{SECRET}"\n'
    )
    results = json.loads(await examine(file))
    assert {"step", "state", "evidence", "cause", "change"} == set(results[0])
    assert {result["step"]: result["state"] for result in results}["TCP"] == "failed"  # nothing listens there


async def test_examination_that_cannot_begin_names_the_reason(tmp_path: Path) -> None:
    file = tmp_path / "portunus.toml"
    certificate, key = make_certificate(tmp_path)
    file.write_text(
        f'[http]\nlisten = ["127.0.0.1:9"]\ncertificate = "{certificate}"\nkey = "{key}"\n'
        f'[sessions]\nsecret = "{OTHER_SECRET}"\n'
        f'[[backend]]\nid = "cloud"\nurls = ["http://127.0.0.1:9"]\nsecret = "{SECRET}"\n'
    )
    with pytest.raises(ExaminationError, match="listens on no TCP address without TLS: give the URL"):
        await examine(file)


@pytest.mark.parametrize("secret", ["short", "change-me-change-me"])
def test_weak_secret_is_refused(secret: str, tmp_path: Path) -> None:
    file = tmp_path / "portunus.toml"
    file.write_text(f'[sessions]\nsecret = "{OTHER_SECRET}"\n[admin]\nsecret = "{secret}"\n')
    with pytest.raises(ConfigError, match=r"admin\.secret"):
        load_config(file, {})
