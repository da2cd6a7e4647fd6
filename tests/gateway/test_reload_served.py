"""SIGHUP to a process of ``portunus serve`` during a call: several sections are reloaded, and the call goes on."""

from __future__ import annotations

import asyncio
import socket
import ssl
from pathlib import Path

import aiohttp
import pytest

from gateway.tools import explain
from gateway.tools.fake_nextcloud import FakeNextcloud
from gateway.tools.talk_client import RequestRefused, TalkClient
from tests.gateway.certificates import make_certificate
from tests.gateway.flows.media import descriptions
from tests.gateway.served import ServedGateway, served_process
from tests.interop.member import ROOM, Member

LONG_ROOM = "r" * 400


class TlsMember(Member):
    """A member whose gateway has the certificate ``trust``."""

    def __init__(self, gateway: str, cloud: FakeNextcloud, name: str, number: int, trust: ssl.SSLContext) -> None:
        super().__init__(gateway, cloud, name, number)
        self.client = TalkClient(gateway, cloud.url, tls=trust)


def trust_of(certificate: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cadata=certificate.read_text())


def configuration(
    folder: Path, certificate: tuple[Path, Path], *clouds: FakeNextcloud, http: str, mcu: str, more: str
) -> str:
    backends = "".join(
        f'[[backend]]\nid = "cloud{number}"\nurls = ["{cloud.url}"]\nsecret = "{cloud.secret}"\n'
        for number, cloud in enumerate(clouds)
    )
    return (
        f'[http]\nlisten = ["127.0.0.1:0"]\ncertificate = "{certificate[0]}"\nkey = "{certificate[1]}"\n{http}'
        f'[sessions]\nsecret = "{clouds[0].secret}"\n[admin]\nsocket = "{folder}/admin.sock"\n'
        f'[mcu]\ntype = "inprocess"\n{mcu}[mcu.inprocess]\naddress = "127.0.0.1"\n{more}{backends}'
    )


class Probe:
    """Finds out which settings a gateway follows."""

    def __init__(
        self, gateway: ServedGateway, publisher: TlsMember, other: FakeNextcloud, trust: ssl.SSLContext
    ) -> None:
        self._gateway = gateway
        self._publisher = publisher
        self._other = other
        self._trust = trust

    async def metrics(self, forwarded_for: str) -> int:
        """Return the status of a request for metrics that a proxy on loopback forwards."""
        headers = {"X-Forwarded-For": forwarded_for}
        url = f"{self._gateway.url}/metrics"
        async with aiohttp.ClientSession() as http, http.get(url, headers=headers, ssl=self._trust) as response:
            return response.status

    async def hello_to_other_backend(self) -> str:
        """Return the error of a hello of a user of the second Nextcloud, empty if there is none."""
        async with TalkClient(self._gateway.url, self._other.url, tls=self._trust) as client:
            try:
                await client.hello(self._other.ticket("carol"))
            except RequestRefused as error:
                return str(error)
            return ""

    async def join_of_long_room(self, cloud: FakeNextcloud) -> str:
        """Return the error of a join of a room with a long id, empty if there is none."""
        async with TalkClient(self._gateway.url, cloud.url, tls=self._trust) as client:
            await client.hello(cloud.ticket("dave"))
            try:
                await client.join(LONG_ROOM)
            except RequestRefused as error:
                return str(error)
            return ""

    async def policy(self) -> str:
        """Return what the gateway says about the bitrate of the publisher's camera."""
        path = self._gateway.folder / "admin.sock"
        return "\n".join(explain.lines(await asyncio.to_thread(explain.ask, path, ROOM)))

    async def publish_with_candidate(self, port: int) -> None:
        """Publish a screen of a client without a network, whose only candidate is a port on loopback."""
        candidate = f"candidate:1 1 udp 2130706431 127.0.0.1 {port} typ host"
        sdp = descriptions.offer(f"screen {port}", ("video",), (candidate,))
        await self._publisher.send_offer("screen", sdp, sid=f"screen{port}")
        await self._publisher.client.wait_for(
            lambda message: message["type"] == "message" and message["message"]["data"].get("sid") == f"screen{port}"
        )


async def received_datagram(peer: socket.socket) -> bytes:
    async with asyncio.timeout(20):
        return await asyncio.get_running_loop().sock_recv(peer, 2048)


@pytest.mark.full
async def test_sighup_reloads_settings_of_several_sections_and_the_call_goes_on(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "new").mkdir()
    old, new = make_certificate(tmp_path / "old"), make_certificate(tmp_path / "new")
    async with FakeNextcloud() as cloud, FakeNextcloud() as other:
        before = configuration(
            tmp_path,
            old,
            cloud,
            http='trusted_proxies = ["127.0.0.1"]\n',
            mcu='blocked_candidates = ["127.0.0.0/8"]\n',
            more='[stats]\nallowed = ["127.0.0.1"]\n[limits]\nid_length = 300\n',
        )
        after = configuration(
            tmp_path,
            new,
            cloud,
            other,
            http="trusted_proxies = []\n",
            mcu="",
            more='[stats]\nallowed = ["127.0.0.1"]\n[quality]\nceiling = 333000\n',
        )
        async with served_process(tmp_path, before) as gateway:
            cloud.notifier.tls = trust = trust_of(old[0])
            alice, bob = (
                TlsMember(gateway.url, cloud, name, number, trust) for number, name in enumerate(("alice", "bob"), 1)
            )
            with (
                socket.socket(type=socket.SOCK_DGRAM) as blocked,
                socket.socket(type=socket.SOCK_DGRAM) as passed,
            ):
                for peer in (blocked, passed):
                    peer.bind(("127.0.0.1", 0))
                    peer.setblocking(False)
                async with alice, bob:
                    for member in (alice, bob):
                        await member.set_in_call()
                    await alice.publish()
                    await bob.request_offer(alice)
                    received = await bob.wait_for_picture(alice)
                    probe = Probe(gateway, alice, other, trust)
                    assert [await probe.metrics(it) for it in ("127.0.0.1", "192.0.2.1")] == [200, 403]
                    assert "invalid_backend" in await probe.hello_to_other_backend()
                    assert "limit_exceeded" in await probe.join_of_long_room(cloud)
                    assert "333 kbit/s" not in await probe.policy()
                    await probe.publish_with_candidate(blocked.getsockname()[1])

                    assert "the configuration was reloaded" in await gateway.reload(after)

                    with pytest.raises(aiohttp.ClientConnectorCertificateError):
                        await probe.metrics("127.0.0.1")
                    probe = Probe(gateway, alice, other, trust_of(new[0]))
                    assert [await probe.metrics(it) for it in ("127.0.0.1", "192.0.2.1")] == [403, 403]
                    assert await probe.hello_to_other_backend() == ""
                    assert await probe.join_of_long_room(cloud) == ""
                    assert "333 kbit/s" in await probe.policy()
                    await probe.publish_with_candidate(passed.getsockname()[1])
                    assert await received_datagram(passed)
                    with pytest.raises(BlockingIOError):
                        blocked.recv(2048)
                    assert await bob.wait_for_picture(alice) is received
                    assert received.offers == 1
