"""Faults of a site of real programs, one at a time: the first finding is that of the fault, and its remedy mends it.

A remedy is taken from the doctor's output and applied as it is written; then the doctor finds nothing.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp.connector
import pytest
from aiohttp import web

from gateway.tools.doctor import media, turn
from gateway.tools.talk_check import FEATURES_HEADER
from gateway.tools.talk_client import TalkClient
from gateway.tools.talk_rooms import nextcloud_session
from tests.gateway.certificates import make_certificate, make_signed_certificate
from tests.gateway.tools.doctor.site import API_KEY, INTERNAL, PATH, DoctorSite, is_old_janus
from tests.janus_process import ADMIN_KEY, API_SECRET, INSTALLATIONS, select_janus
from tests.media.loopback import loopback

__all__ = ["loopback"]

pytestmark = [pytest.mark.full, pytest.mark.timeout(120)]

OTHER = "ffeeddccbbaa99887766554433221100"
PROXY = "path through the reverse proxy"
CLOUD = "Nextcloud cloud: "
Act = Callable[[DoctorSite], Awaitable[None]]
Remedy = Callable[[DoctorSite, str], Awaitable[None]]


class RunningSite:
    """A site and the event loop in which it runs."""

    def __init__(self, folder: Path, authority: tuple[Path, Path]) -> None:
        self._runner = asyncio.Runner()
        self._stack = AsyncExitStack()
        self.site = self.run(self._stack.enter_async_context(DoctorSite(folder, authority)))

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine in the loop of the site, and return its result."""
        return self._runner.run(work)

    def close(self) -> None:
        """Stop the site."""
        self.run(self._stack.aclose())
        self._runner.close()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path]]:
    """Make an authority that the doctor trusts; aiohttp has loaded the system's at its import."""
    made = make_certificate(tmp_path_factory.mktemp("authority"), days=(-100, 100))
    aiohttp.connector._SSL_CONTEXT_VERIFIED.load_verify_locations(made[0])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", str(made[0]))
        yield made


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, authority: tuple[Path, Path]) -> Iterator[RunningSite]:
    made = RunningSite(tmp_path_factory.mktemp("site"), authority)
    yield made
    made.close()


# --- injections and remedies


def replace_nginx(old: str, new: str) -> Act:
    async def act(site: DoctorSite) -> None:
        assert old in site.nginx
        site.nginx = site.nginx.replace(old, new)
        await site.start_nginx()

    return act


def replace_text(old: str, new: str) -> Act:
    async def act(site: DoctorSite) -> None:
        assert old in site.text
        site.text = site.text.replace(old, new)

    return act


def replace_url(old: str, new: str) -> Act:
    async def act(site: DoctorSite) -> None:
        site.url = site.url.replace(old, new)

    return act


async def add_nginx_lines(site: DoctorSite, change: str) -> None:
    """Write the lines that are given for nginx into its location, in place of those that set the same."""
    lines = re.findall(r"`(proxy_[^`]*;)`", change.partition("; Apache")[0])
    assert lines
    for line in lines:
        name = " ".join(line.split()[: 2 if line.startswith("proxy_set_header") else 1])
        site.nginx = re.sub(rf"\n *{re.escape(name)} [^\n]*", "", site.nginx)
        site.nginx = site.nginx.replace(f"location {PATH}/ {{", f"location {PATH}/ {{\n        {line}")
    await site.start_nginx()


async def reload_gateway(site: DoctorSite, change: str) -> None:
    assert "reload the gateway" in change
    await site.reload_gateway()


async def restart_nginx(site: DoctorSite, change: str) -> None:
    await site.start_nginx()


def issue(days: tuple[float, float] = (-1, 80), name: str = "127.0.0.1") -> Act:
    async def act(site: DoctorSite) -> None:
        site.issue_certificate(days, name)
        await site.start_nginx()

    return act


async def renew(site: DoctorSite, change: str) -> None:
    assert "renew it" in change
    await issue()(site)


async def issue_another(site: DoctorSite, change: str) -> None:
    (name,) = re.findall(r"^issue one that names (\S+), or", change)
    await issue(name=name)(site)


async def leave_the_chain_out(site: DoctorSite) -> None:
    folders = [site.folder / name for name in ("intermediate", "leaf")]
    for folder in folders:
        folder.mkdir()
    intermediate = make_signed_certificate(folders[0], "intermediate", site.authority, ca=True, days=(-1, 80))
    leaf = make_signed_certificate(folders[1], "127.0.0.1", intermediate, days=(-1, 80))
    (folders[1] / "fullchain.pem").write_bytes(leaf[0].read_bytes() + intermediate[0].read_bytes())
    for old, new in zip(site.certificate, leaf, strict=True):
        site.nginx = site.nginx.replace(str(old), str(new))
    await site.start_nginx()


async def configure_the_whole_chain(site: DoctorSite, change: str) -> None:
    (name,) = re.findall(r"\((\S+\.pem)\)", change)
    site.nginx = site.nginx.replace("leaf/certificate.pem", f"leaf/{name}")
    await site.start_nginx()


async def listen_with_tls(site: DoctorSite, change: str) -> None:
    (line,) = re.findall(r"`listen (\d+ ssl)`", change)
    site.nginx = re.sub(r"listen 127\.0\.0\.1:\d+;", f"listen 127.0.0.1:{line};", site.nginx)
    await site.start_nginx()


async def write_the_url(site: DoctorSite, change: str) -> None:
    (site.url,) = re.findall(r"^write https in place of http: (\S+)$", change)


async def correct_the_name(site: DoctorSite, change: str) -> None:
    assert change.startswith("correct the name in the URL")
    site.url = site.url.replace("signal.invalid", "127.0.0.1")


async def start_the_program(site: DoctorSite, change: str) -> None:
    (port,) = re.findall(r"^start the program that listens on port (\d+) there", change)
    assert int(port) == site.https_port
    await site.start_nginx()


async def stop_nginx(site: DoctorSite) -> None:
    await site.stop_nginx()


async def keep_the_prefix(site: DoctorSite) -> None:
    site.nginx = re.sub(r"(proxy_pass http://[^/]+)/;", r"\1;", site.nginx)
    await site.start_nginx()


async def end_with_slashes(site: DoctorSite, change: str) -> None:
    ((location, upstream),) = re.findall(r"`location (\S+) \{ proxy_pass (\S+);", change)
    assert location.endswith("/")
    assert upstream.endswith("/")
    site.nginx = re.sub(rf"(location {location} .*?proxy_pass \S+[^/;]);", r"\1/;", site.nginx, flags=re.S)
    await site.start_nginx()


async def name_the_address(site: DoctorSite, change: str) -> None:
    assert "give the proxy the address of http.listen" in change
    (listen,) = re.findall(r'^listen = \["(\S+)"\]$', site.text, re.M)
    site.nginx = re.sub(r"proxy_pass http://[^/]+/;", f"proxy_pass http://{listen}/;", site.nginx)
    await site.start_nginx()


async def pass_all_headers(site: DoctorSite, change: str) -> None:
    assert "have the reverse proxy pass all headers of answers" in change
    site.nginx = re.sub(r"\n *proxy_hide_header [^\n]*", "", site.nginx)
    await site.start_nginx()


async def trust_no_proxy(site: DoctorSite) -> None:
    site.text = site.text.replace("[sessions]", 'trusted_proxies = ["192.0.2.9"]\n[sessions]')
    await site.reload_gateway()


async def write_under_http(site: DoctorSite, change: str) -> None:
    (line,) = re.findall(r"^write under \[http\]: (trusted_proxies = \[.*\]) and reload", change)
    site.text = re.sub(r"^trusted_proxies = .*$", line, site.text, flags=re.M)
    await site.reload_gateway()


def answer_capabilities(response: Callable[[], web.Response]) -> Act:
    async def act(site: DoctorSite) -> None:
        site.cloud.hook = lambda request: response() if request.type == "capabilities" else None

    return act


def without_talk() -> web.Response:
    document = {"ocs": {"meta": {"statuscode": 200}, "data": {"capabilities": {"files": {"undelete": True}}}}}
    return web.Response(text=json.dumps(document), content_type="application/json")


def carry_out(words: str) -> Remedy:
    """Return the remedy that Nextcloud's administrator carries out with a command that contains ``words``."""

    async def remedy(site: DoctorSite, change: str) -> None:
        assert words in change
        site.cloud.hook = None
        site.cloud.signaling = {"hello-v2-token-key": site.cloud.key.published}

    return remedy


async def turn_the_clock_back(site: DoctorSite) -> None:
    answer = site.cloud.hook
    assert answer is None
    late = format_datetime(datetime.now(UTC) - timedelta(minutes=10), usegmt=True)
    key = site.cloud.key.published
    signaling = {"features": ["signaling-v3"], "config": {"signaling": {"hello-v2-token-key": key}}}
    document = {"ocs": {"meta": {"statuscode": 200}, "data": {"capabilities": {"spreed": signaling}}}}
    text = json.dumps(document)
    response = answer_capabilities(
        lambda: web.Response(text=text, content_type="application/json", headers={"Date": late})
    )
    await response(site)


async def take_the_key_away(site: DoctorSite) -> None:
    site.cloud.signaling = {"session-ping-limit": 200}


async def change_the_secret_in_nextcloud(site: DoctorSite) -> None:
    site.cloud.secret = OTHER


async def use_one_secret(site: DoctorSite, change: str) -> None:
    assert change.startswith("use one secret for backend.secret and in Nextcloud")
    (site.cloud.secret,) = re.findall(r'urls = .*\nsecret = "(\w+)"', site.text)


async def write_a_secret_without_a_reload(site: DoctorSite) -> None:
    site.text, site.cloud.secret = site.text.replace(site.cloud.secret, OTHER), OTHER


async def drain_during_a_call(site: DoctorSite) -> None:
    gateway = site.cloud.gateway = f"http://127.0.0.1:{site.gateway_port}"
    site.caller = TalkClient(gateway, site.cloud.url)
    await site.caller.connect()
    await site.caller.hello(site.cloud.ticket("alice"))
    await site.caller.join("r", nextcloud_session("alice"))
    await site.cloud.talk.set_in_call("r", nextcloud_session("alice"), 7)
    site.gateway.draining.begin(600.0)


async def cancel_the_drain(site: DoctorSite, change: str) -> None:
    assert "portunus drain --cancel" in change
    site.gateway.draining.cancel()
    assert site.caller is not None
    await site.caller.bye()
    await site.caller.disconnect()


async def stop_janus(site: DoctorSite) -> None:
    await site.janus.stop()


async def start_janus(site: DoctorSite, change: str) -> None:
    assert change.startswith("start Janus (systemctl status janus)")
    await site.janus.start()
    await ready_again(site)


async def ready_again(site: DoctorSite) -> None:
    """Wait until the running gateway uses Janus again."""
    url = f"http://127.0.0.1:{site.gateway_port}/readyz"
    async with asyncio.timeout(60), aiohttp.ClientSession() as http:
        while True:
            async with http.get(url) as response:
                if (await response.json())["state"] == "ok":
                    return
            await asyncio.sleep(0.05)


async def write_the_named_value(site: DoctorSite, change: str) -> None:
    """Give a key of ``[[mcu.janus]]`` the value that the named file of Janus has."""
    ((ours, theirs, file),) = re.findall(
        r"(?:compare|give) mcu\.janus\.(\w+) (?:with )?the (\w+) (?:in|of) (janus\S*\.jcfg)", change
    )
    value = site.setting(file, theirs)
    value = f"ws://127.0.0.1:{value}" if ours == "url" else value
    head, found, tail = site.text.partition("[[mcu.janus]]")
    site.text = head + found + re.sub(rf'^{ours} = ".*"$', f'{ours} = "{value}"', tail, count=1, flags=re.M)


def set_in_janus(**values: str) -> Act:
    async def act(site: DoctorSite) -> None:
        site.janus.values |= values
        await site.restart_janus()
        await ready_again(site)

    return act


async def set_the_named_line(site: DoctorSite, change: str) -> None:
    ((value,),) = [re.findall(r"^set reclaim_session_timeout = (\d+) under general in janus\.jcfg", change)]
    await set_in_janus(RECLAIM_TIMEOUT=value)(site)


async def set_up_events(site: DoctorSite, change: str) -> None:
    assert "janus.eventhandler.wsevh.jcfg" in change
    await set_in_janus(EVENTS_URL=f"ws://127.0.0.1:{site.gateway_port}/spreed")(site)


async def use_string_ids(site: DoctorSite) -> None:
    site.janus.edits["string_ids = false"] = "string_ids = true"
    await site.restart_janus()


async def write_the_line_of_videoroom(site: DoctorSite, change: str) -> None:
    ((line, file),) = re.findall(r"^set (.+) in (\S+), and restart Janus$", change)
    assert file == "janus.plugin.videoroom.jcfg"
    site.janus.edits["string_ids = false"] = line
    await site.restart_janus()
    await ready_again(site)


async def disable_videoroom(site: DoctorSite) -> None:
    disabled = "libjanus_datachannels.so,libjanus_videoroom.so"
    site.janus.edits["plugins: { }"] = f'plugins: {{ disable = "{disabled}" }}'
    await site.restart_janus()


async def list_no_plugin(site: DoctorSite, change: str) -> None:
    assert "do not list it in `plugins: { disable = … }` of janus.jcfg" in change
    del site.janus.edits["plugins: { }"]
    await site.restart_janus()
    await ready_again(site)


async def announce_a_container(site: DoctorSite) -> None:
    site.media = True
    await set_in_janus(PUBLIC_ADDRESS="172.17.0.2")(site)


async def announce_the_address(site: DoctorSite, change: str) -> None:
    assert "nat_1_1_mapping in janus.jcfg (PUBLIC_ADDRESS of janus-config/fill.py)" in change
    await set_in_janus(PUBLIC_ADDRESS="127.0.0.1")(site)
    assert await site.findings() == []
    site.media = False


async def stop_coturn(site: DoctorSite) -> None:
    await site.coturn.kill()


async def start_coturn(site: DoctorSite, change: str) -> None:
    assert "start coturn" in change
    await site.coturn.start()


def replace_in_coturn(old: str, new: str) -> Act:
    async def act(site: DoctorSite) -> None:
        text, count = re.subn(old, new, site.coturn.file.read_text(), flags=re.M)
        assert count
        site.coturn.file.write_text(text)
        await site.restart_coturn()

    return act


async def share_the_secret(site: DoctorSite, change: str) -> None:
    assert "static-auth-secret to the value of turn.secret" in change
    (secret,) = re.findall(r'\[turn\][^\[]*^secret = "(\w+)"', site.text, re.M)
    await replace_in_coturn(r"^static-auth-secret=.*$", f"static-auth-secret={secret}")(site)


async def deny_the_peers(site: DoctorSite, change: str) -> None:
    lines = change.partition(": ")[2].split(", ")
    site.coturn.file.write_text("\n".join([site.coturn.file.read_text(), *lines, ""]))
    await site.restart_coturn()


async def correct_the_key(site: DoctorSite, change: str) -> None:
    site.text = site.text.replace("[mcuu]", "[mcu]")


async def remove_index_php(site: DoctorSite, change: str) -> None:
    (url,) = re.findall(r"^write (\S+)$", change)
    site.text = re.sub(r'urls = \["[^"]*"\]', f'urls = ["{url}"]', site.text)


async def write_index_php(site: DoctorSite) -> None:
    site.text = site.text.replace(site.cloud.url, f"{site.cloud.url}index.php")


class Fault(NamedTuple):
    """An injection, the step of the first finding, words of its cause, and its remedy."""

    inject: Act
    step: str
    cause: str
    remedy: Remedy


def on(port: str) -> Act:
    async def act(site: DoctorSite) -> None:
        await replace_nginx(f"127.0.0.1:{site.gateway_port}/;", f"127.0.0.1:{port}/;")(site)

    return act


UPGRADE_LINE = 'proxy_set_header Upgrade $http_upgrade;\n        proxy_set_header Connection "Upgrade";\n'
NAMES = (
    "proxy_set_header X-Real-IP $remote_addr;\n        proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;\n"
)
FAULTS = {
    "misspelt section": Fault(replace_text("[mcu]", "[mcuu]"), "configuration", "mcuu", correct_the_key),
    "index.php": Fault(write_index_php, "configuration", "index.php", remove_index_php),
    "DNS": Fault(replace_url("127.0.0.1", "signal.invalid"), "name resolution", "no address", correct_the_name),
    "TCP": Fault(stop_nginx, "TCP", "nothing accepts connections", start_the_program),
    "certificate of another name": Fault(issue(name="signal.invalid"), "TLS", "for other names", issue_another),
    "expired certificate": Fault(issue((-9, -1)), "TLS", "has expired", renew),
    "certificate about to expire": Fault(issue((-80, 5)), "TLS", "expires in", renew),
    "incomplete chain": Fault(leave_the_chain_out, "TLS", "chain of certificates", configure_the_whole_chain),
    "http for https": Fault(replace_url("https:", "http:"), "TLS", "speaks TLS", write_the_url),
    "port without TLS": Fault(replace_nginx(" ssl;", ";"), "TLS", "does not speak TLS", listen_with_tls),
    "upgrade": Fault(replace_nginx(UPGRADE_LINE, ""), "WebSocket upgrade", "does not forward", add_nginx_lines),
    "prefix": Fault(keep_the_prefix, PROXY, "does not strip the prefix", end_with_slashes),
    "port of the gateway": Fault(on("9"), PROXY, "does not reach the gateway", name_the_address),
    "features": Fault(
        replace_nginx("proxy_http", f"proxy_hide_header {FEATURES_HEADER};\n        proxy_http"),
        "features",
        "removed on the way",
        pass_all_headers,
    ),
    "unnamed client": Fault(replace_nginx(NAMES, ""), "client address", "does not name", add_nginx_lines),
    "forged client": Fault(
        replace_nginx(NAMES.partition("\n")[0], ""), "client address", "can choose the address", add_nginx_lines
    ),
    "untrusted proxy": Fault(trust_no_proxy, "client address", "does not trust the proxy", write_under_http),
    "maintenance": Fault(
        answer_capabilities(lambda: web.Response(status=503)),
        f"{CLOUD}capabilities",
        "maintenance",
        carry_out("occ maintenance:mode --off"),
    ),
    "Talk disabled": Fault(
        answer_capabilities(without_talk), f"{CLOUD}capabilities", "not enabled", carry_out("occ app:enable spreed")
    ),
    "clock": Fault(turn_the_clock_back, f"{CLOUD}clock", "differ by more", carry_out("timedatectl set-ntp true")),
    "token key": Fault(take_the_key_away, f"{CLOUD}key of hello 2.0", "no hello-v2-token-key", carry_out("update")),
    "secret in Nextcloud": Fault(
        change_the_secret_in_nextcloud, f"{CLOUD}requests of the gateway", "signature", use_one_secret
    ),
    "secret without a reload": Fault(
        write_a_secret_without_a_reload, f"{CLOUD}requests to the gateway", "running gateway", reload_gateway
    ),
    "internal secret": Fault(replace_text(INTERNAL, OTHER), "hello", "internal.secret", reload_gateway),
    "drain": Fault(drain_during_a_call, "hello", "is being drained", cancel_the_drain),
    "Janus away": Fault(stop_janus, "Janus", "connection refused", start_janus),
    "api_secret": Fault(replace_text(API_SECRET, OTHER), "Janus", "refuses", write_the_named_value),
    "admin_key": Fault(replace_text(ADMIN_KEY, OTHER), "Janus", "another admin_key", write_the_named_value),
    "string_ids": Fault(use_string_ids, "Janus", "string_ids", write_the_line_of_videoroom),
    "VideoRoom": Fault(disable_videoroom, "Janus", "no VideoRoom plugin", list_no_plugin),
    "reclaim": Fault(set_in_janus(RECLAIM_TIMEOUT="0"), "Janus: broken connections", "calls end", set_the_named_line),
    "event handler": Fault(set_in_janus(EVENTS_URL=""), "Janus: events", "no event handler", set_up_events),
    "address of a container": Fault(
        announce_a_container, "Janus: candidates", "those of a container", announce_the_address
    ),
    "coturn away": Fault(stop_coturn, "TURN", "does not answer", start_coturn),
    "static-auth-secret": Fault(
        replace_in_coturn("^static-auth-secret=.*$", f"static-auth-secret={OTHER}"),
        "TURN",
        "does not accept the credentials",
        share_the_secret,
    ),
    "relay to private networks": Fault(
        replace_in_coturn("^denied-peer-ip=(10|169).*\n", ""), "TURN", "private addresses", deny_the_peers
    ),
    "relay to loopback": Fault(
        replace_in_coturn("^(denied-peer-ip=127.*)\n", "allow-loopback-peers\ncli-password=a-password\n"),
        "TURN",
        "loopback",
        deny_the_peers,
    ),
    "TURN key": Fault(replace_text(API_KEY, OTHER), "TURN credentials", "no credentials", reload_gateway),
}


def test_matrix_has_faults_of_all_areas() -> None:
    areas = {fault.step.removeprefix(CLOUD) for fault in FAULTS.values()}
    assert len(FAULTS) >= 30
    assert len(areas) >= 18


@pytest.mark.parametrize("name", FAULTS)
def test_fault_is_the_first_finding_and_its_remedy_mends_it(
    running: RunningSite, name: str, loopback: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name == "coturn away":
        monkeypatch.setattr(turn, "ANSWER_LIMIT", 1.0)
    running.run(meet(running.site, FAULTS[name]))


async def meet(site: DoctorSite, fault: Fault) -> None:
    await fault.inject(site)
    results = await site.examine()
    found = [result for result in results if result["state"] in ("failed", "warning") and not is_old_janus(result)]
    assert found, results
    first = found[0]
    assert first["step"].startswith(fault.step), found
    assert fault.cause in first["cause"]
    failed = [result["step"] for result in results if result["state"] == "failed"]
    for result in results:
        if result["state"] == "not reached":
            assert result["cause"].removeprefix("because of: ") in failed
    await fault.remedy(site, first["change"])
    assert await site.findings() == []


def test_old_janus_is_the_finding_and_the_named_version_mends_it(
    running: RunningSite, authority: tuple[Path, Path], loopback: None
) -> None:
    site = running.site
    (old,) = (result for result in running.run(site.examine()) if is_old_janus(result))
    (wanted,) = re.findall(r"^update Janus to (\d+\.\d+)\.\d+ or newer$", old["change"])
    installed = site.janus.installation
    site.janus.installation = INSTALLATIONS[wanted]
    site.janus.values["MODULES"] = INSTALLATIONS[wanted].modules
    running.run(site.restart_janus())
    running.run(ready_again(site))
    assert [result for result in running.run(site.examine()) if result["state"] in ("failed", "warning")] == []
    site.janus.installation, site.janus.values["MODULES"] = installed, installed.modules
    running.run(site.restart_janus())
    running.run(ready_again(site))


def test_current_janus_with_coturn_and_media_is_healthy(
    tmp_path: Path, authority: tuple[Path, Path], loopback: None
) -> None:
    with select_janus("1.4"):
        made = RunningSite(tmp_path, authority)
    try:
        made.site.media = True
        results = made.run(made.site.examine())
    finally:
        made.close()
    assert {result["step"]: result["state"] for result in results if result["state"] != "ok"} == {
        "hello of a user": "not tried"
    }
    steps = {result["step"]: result["evidence"] for result in results}
    for step in ("Janus: media", "media through the gateway"):
        assert f"{media.FRAMES} of {media.FRAMES} frames of audio arrived" in steps[step]
