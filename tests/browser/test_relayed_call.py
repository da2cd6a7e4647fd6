"""A call of two Chromium pages that reach only nginx, over TLS, and coturn: the SFU is behind both.

The pages are in a network namespace without a route to the SFU. Chromium trusts an authority of the test, which signed
nginx' certificate. nginx and coturn have the files that ``portunus config init`` writes.
"""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from playwright.async_api import Browser

from gateway.app import Gateway
from gateway.config import Config, HttpSection, McuSection, SessionsSection, TurnSection
from gateway.tools.configuration.init import Site, write_set
from gateway.tools.demo_backend import DemoBackend
from gateway.tools.demo_page import page_routes
from mcu import factory
from mcu.janus.settings import JanusServerSettings
from tests.browser.call_page import CallPage
from tests.browser.chromium import CAMERA_GRANTED, FAKE_DEVICES, chromium
from tests.gateway.certificates import make_certificate, make_signed_certificate
from tests.janus_process import ADMIN_KEY, API_SECRET, JanusProcess
from tests.netns import SERVER_ADDRESS, TwoHosts, two_hosts
from tests.programs import find_program, nginx_command, wait_until_listening

pytestmark = pytest.mark.full

DOMAIN = "signal.example.com"
RELAY_ADDRESS, SFU_ADDRESS = "198.51.100.1", "198.51.100.7"  # the client has no route to them
GATEWAY_PORT, HTTPS_PORT, TURN_PORT = 8080, 8443, 3478
SECRET = "6f1b0c7d9ae24835b6cf01d27e9a4488"
API_KEY = "key-of-the-page"
STOP_TIMEOUT = 60.0  # seconds until a program has ended
# Gives each PeerConnection the TURN servers and credentials that the gateway has for its clients.
USE_RELAY = """async url => {
  const { uris, username, password } = await (await fetch(url)).json();
  globalThis.RTCPeerConnection = class extends RTCPeerConnection {
    constructor(configuration) {
      super({...configuration, iceServers: [{urls: uris, username, credential: password}]});
    }
  };
}"""
# The local candidate's type and the remote one's address of the pair in use, of each PeerConnection of the page.
CANDIDATE_TYPES = """(async () => {
  const member = portunus.call.others()[0].sessionId;
  const { publishing, receiving } = portunus.call;
  const connections = [publishing.connection("video"), receiving.connection(member, "video")];
  return Promise.all(connections.map(async connection => {
    const report = await connection.getStats();
    const transport = [...report.values()].find(entry => entry.type === "transport");
    const pair = report.get(transport.selectedCandidatePairId);
    return [report.get(pair.localCandidateId).candidateType, report.get(pair.remoteCandidateId).address];
  }));
})()"""


@asynccontextmanager
async def sfu(name: str) -> AsyncIterator[McuSection]:
    """Run an SFU that offers candidates of ``SFU_ADDRESS`` only; yield its settings."""
    if name == "inprocess":
        yield McuSection(type="inprocess", settings=factory.settings_type("inprocess")(address=SFU_ADDRESS))
        return
    async with JanusProcess(ICE_INTERFACES=SFU_ADDRESS) as janus:
        server = JanusServerSettings(url=janus.url, api_secret=API_SECRET, admin_key=ADMIN_KEY)
        yield McuSection(type="janus", settings=(server,))


@asynccontextmanager
async def gateway(mcu: McuSection) -> AsyncIterator[str]:
    """Run a gateway with the call page and TURN credentials; yield its base URL."""
    backend = DemoBackend()
    await backend.start()
    try:
        config = Config(
            sessions=SessionsSection(secret=SECRET),
            http=HttpSection(listen=(f"127.0.0.1:{GATEWAY_PORT}",)),
            backends=(backend.backend,),
            mcu=mcu,
            turn=TurnSection(api_key=API_KEY, secret=SECRET, servers=(f"turn:{SERVER_ADDRESS}:{TURN_PORT}",)),
        )
        running = Gateway(config, routes=page_routes(backend))
        (url,) = await running.start()
        backend.attach(url)
        try:
            yield url
        finally:
            await running.stop()
    finally:
        await backend.stop()


@asynccontextmanager
async def running_program(*command: str, port: int) -> AsyncIterator[None]:
    """Run a program until the context ends; wait until it accepts connections."""
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.DEVNULL)
    try:
        await wait_until_listening(SERVER_ADDRESS, port)
        yield
    finally:
        process.terminate()
        await asyncio.wait_for(process.wait(), STOP_TIMEOUT)


@asynccontextmanager
async def proxy_and_relay(folder: Path) -> AsyncIterator[Path]:
    """Run nginx and coturn with their files of one set; yield the certificate of the authority."""
    (folder / "authority").mkdir()
    authority = make_certificate(folder / "authority")
    certificate, key = make_signed_certificate(folder, DOMAIN, authority)
    site = Site(
        "https://cloud.example.com",
        DOMAIN,
        certificate=str(certificate),
        key=str(key),
        runtime=str(folder),
        gateway_port=GATEWAY_PORT,
        turn_port=TURN_PORT,
        https_port=HTTPS_PORT,
    )
    write_set(folder / "set", site)
    nginx = nginx_command(folder, f"include {folder}/set/nginx.conf;")
    addresses = ("--listening-ip", SERVER_ADDRESS, "--relay-ip", RELAY_ADDRESS, "--static-auth-secret", SECRET)
    output = ("--log-file", "stdout", "--userdb", str(folder / "turndb"), "--pidfile", str(folder / "turn.pid"))
    coturn = (find_program("turnserver", "coturn"), "-c", str(folder / "set" / "turnserver.conf"), *addresses, *output)
    async with running_program(*nginx, port=HTTPS_PORT), running_program(*coturn, port=TURN_PORT):
        yield authority[0]


def trust(authority: Path, home: Path) -> None:
    """Add an authority to the certificates that Chromium trusts, in a home directory of its own."""
    store = home / ".pki" / "nssdb"
    store.mkdir(parents=True)
    certutil = find_program("certutil", "libnss3-tools")
    for arguments in (("-N", "--empty-password"), ("-A", "-n", "test", "-t", "C,,", "-i", str(authority))):
        subprocess.run((certutil, "-d", f"sql:{store}", *arguments), check=True, capture_output=True)


@asynccontextmanager
async def browser(hosts: TwoHosts, home: Path) -> AsyncIterator[Browser]:
    """Run Chromium in the client's namespace."""
    names = f"--host-resolver-rules=MAP {DOMAIN} {SERVER_ADDRESS}"
    async with AsyncExitStack() as stack:
        with hosts.in_client():
            running = await stack.enter_async_context(
                chromium(FAKE_DEVICES, CAMERA_GRANTED, names, on_loopback=False, home=home)
            )
        yield running


@pytest.mark.timeout(180)
@pytest.mark.parametrize("name", ["inprocess", "janus"])
async def test_call_over_tls_through_nginx_and_media_through_coturn_only(name: str, tmp_path: Path) -> None:
    with two_hosts() as hosts:
        for address in (RELAY_ADDRESS, SFU_ADDRESS):
            hosts.add_server_address(address)
        async with sfu(name) as mcu, gateway(mcu), proxy_and_relay(tmp_path) as authority:
            trust(authority, tmp_path / "home")
            async with browser(hosts, tmp_path / "home") as chrome:
                url = f"https://{DOMAIN}:{HTTPS_PORT}/standalone-signaling/"
                ada, bob = await CallPage.open(chrome, url), await CallPage.open(chrome, url)
                for page, person in ((ada, "Ada"), (bob, "Bob")):
                    await page.page.evaluate(USE_RELAY, f"{url}turn/credentials?service=turn&api={API_KEY}")
                    await page.join(person)
                await ada.until_advances("Bob")
                await bob.until_advances("Ada")
                for page in (ada, bob):
                    assert await page.page.evaluate(CANDIDATE_TYPES) == [["relay", SFU_ADDRESS]] * 2
                assert ada.problems + bob.problems == []
