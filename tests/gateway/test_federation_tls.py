"""Two processes of ``portunus serve``, one with TLS: its certificate is signed by an authority of the test.

Source: reference 12.1; docs/threat-model.md, "Federation".
"""

from __future__ import annotations

import ssl
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from gateway.tools.fake_nextcloud import FakeNextcloud
from gateway.tools.talk_answers import NextcloudRoom
from gateway.tools.talk_client import RequestRefused, TalkClient
from gateway.tools.talk_rooms import nextcloud_session
from tests.gateway.certificates import make_certificate, make_signed_certificate
from tests.gateway.federated import REMOTE_ROOM, ROOM, SECRETS, Json
from tests.gateway.served import serve
from tests.gateway.test_federation import entries, has_data, is_federated, joined


def folder(path: Path, name: str) -> Path:
    (path / name).mkdir()
    return path / name


def configuration(name: str, cloud: FakeNextcloud, http: str = "", more: str = "") -> str:
    return (
        f'[http]\nlisten = ["127.0.0.1:0"]\n{http}[sessions]\nsecret = "{SECRETS[name]}"\n'
        f'[[backend]]\nid = "{name}"\nurls = ["{cloud.url}"]\nsecret = "{cloud.secret}"\n{more}'
    )


def tls(certificate: Path, key: Path) -> str:
    return f'certificate = "{certificate}"\nkey = "{key}"\n'


async def join(client: TalkClient, cloud: FakeNextcloud, signaling: str, home: FakeNextcloud) -> Json:
    """Let a user of ``home`` join the room of ``cloud``, by a URL of its signaling server."""
    session = nextcloud_session("alice", f"alice@{home.url.rstrip('/')}")
    target = cloud.federation(signaling, REMOTE_ROOM, "alice")
    return await client.request("room", {"roomid": ROOM, "sessionid": session, "federation": target})


# reference 12.1-a, 12.1-f
# attack: a man in the middle
@pytest.mark.full
async def test_host_with_tls_is_joined_if_its_certificate_is_valid_for_its_name(tmp_path: Path) -> None:
    authority = make_certificate(folder(tmp_path, "authority"))
    stranger = make_certificate(folder(tmp_path, "stranger"))
    certificate, key = make_signed_certificate(folder(tmp_path, "host"), "localhost", authority)
    forged = make_signed_certificate(folder(tmp_path, "forged"), "localhost", stranger)
    async with (
        FakeNextcloud(secret=SECRETS["home"]) as home_cloud,
        FakeNextcloud(secret=SECRETS["host"]) as host_cloud,
        serve(tmp_path / "host", configuration("host", host_cloud, tls(certificate, key))) as host_url,
        serve(tmp_path / "forged", configuration("host", host_cloud, tls(*forged))) as forged_url,
    ):
        host_cloud.features.append("federation-v2")
        host_cloud.rooms[REMOTE_ROOM] = NextcloudRoom({"name": "remote"})
        host_port, forged_port = urlsplit(host_url).port, urlsplit(forged_url).port
        rules = (
            f'[federation]\nports = [{host_port}, {forged_port}]\nallowed = ["127.0.0.0/8", "::1"]\n'
            f'certificate_authorities = "{authority[0]}"\n'
        )
        trusted = ssl.create_default_context(cafile=authority[0])
        host_name = f"https://localhost:{host_port}/"
        async with (
            serve(folder(tmp_path, "home"), configuration("home", home_cloud, more=rules)) as home_url,
            TalkClient(home_url, home_cloud.url) as alice,
            TalkClient(host_name, host_cloud.url, tls=trusted) as bob,
        ):
            assert host_url.startswith("https://")
            await bob.hello(host_cloud.ticket("bob"))
            await bob.join(REMOTE_ROOM, nextcloud_session("bob"))
            await alice.hello(home_cloud.ticket("alice"))
            await alice.join("here", nextcloud_session("alice"))
            for signaling, code in (
                (f"wss://localhost:{forged_port}/", "certificate_verification_error"),
                (
                    f"wss://127.0.0.1:{host_port}/",
                    "certificate_verification_error",
                ),  # a name that the certificate does not have
                (f"ws://localhost:{host_port}/", "not_allowed"),
            ):
                with pytest.raises(RequestRefused) as refused:
                    await join(alice, host_cloud, signaling, home_cloud)
                assert (refused.value.code, refused.value.error["details"]["code"]) == ("federation_error", code)
            await join(alice, host_cloud, f"wss://localhost:{host_port}/", home_cloud)
            await alice.wait_for(joined(bob.session_id))
            event = await bob.wait_for(is_federated)
            await alice.send_message(bob.session_id, {"n": 1})
            await bob.wait_for(has_data({"n": 1}))
            await bob.send_message(entries(event)[0]["sessionid"], {"n": 2})
            await alice.wait_for(has_data({"n": 2}))
