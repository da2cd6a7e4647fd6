"""Faults of a deployment, injected one at a time: the first failed step is that of the fault, and names its remedy."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest
from aiohttp import web

from gateway.edge.http.address import Networks
from gateway.edge.nextcloud.capabilities import PATH as OCS_PATH
from gateway.tools.doctor.steps import Result
from gateway.tools.talk_check import FEATURES_HEADER
from tests.gateway.served import INTERNAL_SECRET
from tests.gateway.tools.doctor.deployment import Deployment, deployment, failed_steps
from tests.ports import free_ports

OTHER_SECRET = "ffeeddccbbaa99887766554433221100"
CLOUD = "Nextcloud cloud: "
PATH = "path through the reverse proxy"


@pytest.fixture
async def healthy(tmp_path: Path) -> AsyncIterator[Deployment]:
    async with deployment(tmp_path) as made:
        yield made


def break_file(deployment: Deployment) -> None:
    deployment.text = deployment.text.replace("[mcu]", "[mcuu]")


def write_index_php(deployment: Deployment) -> None:
    deployment.text = deployment.text.replace(deployment.cloud.url, "https://cloud.example.com/index.php")


def misspell_the_host(deployment: Deployment) -> None:
    deployment.url = deployment.url.replace("127.0.0.1", "signal.invalid")


def name_a_closed_port(deployment: Deployment) -> None:
    deployment.url = deployment.url.replace(str(deployment.proxy.port), str(free_ports(1)[0]))


def write_https_for_http(deployment: Deployment) -> None:
    deployment.url = deployment.url.replace("http:", "https:")


def keep_the_prefix(deployment: Deployment) -> None:
    deployment.proxy.strips_prefix = False


def stop_the_gateway(deployment: Deployment) -> None:
    deployment.proxy.upstream = ""


def redirect(deployment: Deployment) -> None:
    location = "https://signal.example.com/api/v1/welcome"
    deployment.proxy.answer = web.Response(status=301, headers={"Location": location})


def serve_another_program(deployment: Deployment) -> None:
    deployment.proxy.answer = web.Response(text="<html>It works!</html>", content_type="text/html")


def forget_the_upgrade(deployment: Deployment) -> None:
    deployment.proxy.upgrades = False


def remove_the_features(deployment: Deployment) -> None:
    deployment.proxy.answer_headers = {FEATURES_HEADER: ""}


def serve_an_old_server(deployment: Deployment) -> None:
    deployment.proxy.answer_headers = {FEATURES_HEADER: "audio-video-permissions, hello-v2"}


def change_the_internal_secret(deployment: Deployment) -> None:
    deployment.text = deployment.text.replace(INTERNAL_SECRET, OTHER_SECRET)


def name_a_missing_nextcloud(deployment: Deployment) -> None:
    deployment.text = deployment.text.replace(deployment.cloud.url, "https://cloud.invalid/")


def answer_of_nextcloud(response: Callable[[], web.Response]) -> Callable[[Deployment], None]:
    def inject(deployment: Deployment) -> None:
        deployment.cloud.hook = lambda request: response() if request.type == "capabilities" else None

    return inject


def without_talk() -> web.Response:
    document = {"ocs": {"meta": {"statuscode": 200}, "data": {"capabilities": {"files": {"undelete": True}}}}}
    return web.Response(text=json.dumps(document), content_type="application/json")


def turn_the_clock_back(deployment: Deployment) -> None:
    late = format_datetime(datetime.now(UTC) - timedelta(minutes=10), usegmt=True)
    deployment.proxy.answer_headers = {"Date": late}


def take_the_key_away(deployment: Deployment) -> None:
    deployment.cloud.signaling = {"session-ping-limit": 200}


def spoil_the_key(deployment: Deployment) -> None:
    deployment.cloud.signaling = {"hello-v2-token-key": "a" * 12}


def change_the_secret_in_nextcloud(deployment: Deployment) -> None:
    deployment.cloud.secret = OTHER_SECRET


def change_both_secrets_without_a_reload(deployment: Deployment) -> None:
    deployment.text = deployment.text.replace(deployment.cloud.secret, OTHER_SECRET)
    deployment.cloud.secret = OTHER_SECRET


def send_chunks(deployment: Deployment) -> None:
    deployment.proxy.chunks_bodies = True


def lose_the_signature(deployment: Deployment) -> None:
    deployment.proxy.lost_request_headers = ("Spreed-Signaling-Checksum",)


def hide_the_client(deployment: Deployment) -> None:
    deployment.proxy.names_client = False


def let_clients_choose_their_address(deployment: Deployment) -> None:
    deployment.proxy.passes_forged_names = True


def distrust_the_proxy(deployment: Deployment) -> None:
    deployment.text = deployment.text.replace("[sessions]", 'trusted_proxies = ["192.0.2.9"]\n[sessions]')
    trust_the_proxy_without_a_reload(deployment)


def trust_the_proxy_without_a_reload(deployment: Deployment) -> None:
    deployment.gateway._proxies.replace_with(Networks(["192.0.2.9"]))


def drain(deployment: Deployment) -> None:
    deployment.gateway.draining.begin(600.0)


Fault = tuple[Callable[[Deployment], None], str, str, str]  # injection, step, words of its cause, words of the remedy
FAULTS: list[Fault] = [
    (break_file, "configuration", "mcuu", "mcu"),
    (write_index_php, "configuration", "index.php", "write https://cloud.example.com/"),
    (misspell_the_host, "name resolution", "signal.invalid has no address", "correct the name"),
    (name_a_closed_port, "TCP", "nothing accepts connections", "start the program"),
    (write_https_for_http, "TLS", "TLS", "turn TLS on"),
    (keep_the_prefix, PATH, "does not strip the prefix /signal", "location /signal/ { proxy_pass"),
    (stop_the_gateway, PATH, "does not reach the gateway", "start the gateway"),
    (redirect, PATH, "redirects", "https://signal.example.com"),
    (serve_another_program, PATH, "another program", "forward /signal/"),
    (forget_the_upgrade, "WebSocket upgrade", "does not forward the upgrade", "proxy_set_header Upgrade"),
    (remove_the_features, "features", "removed on the way", FEATURES_HEADER),
    (serve_an_old_server, "features", "federation, incall-all, switchto", "update"),
    (hide_the_client, "client address", "does not name the address", "proxy_set_header X-Real-IP $remote_addr"),
    (let_clients_choose_their_address, "client address", "choose the address", "proxy_set_header X-Real-IP"),
    (distrust_the_proxy, "client address", "does not trust", 'trusted_proxies = ["192.0.2.9/32", "127.0.0.1"]'),
    (trust_the_proxy_without_a_reload, "client address", "does not trust", "the file names the proxy"),
    (change_the_internal_secret, "hello", "internal.secret", "reload"),
    (drain, "hello", "is being drained", "portunus drain --cancel"),
    (name_a_missing_nextcloud, f"{CLOUD}capabilities", "cannot be reached", "backend.urls"),
    (
        answer_of_nextcloud(lambda: web.Response(status=302, headers={"Location": "https://b.example/login"})),
        f"{CLOUD}capabilities",
        "redirects",
        "curl -I",
    ),
    (
        answer_of_nextcloud(lambda: web.Response(status=301, headers={"Location": f"https://b.example/{OCS_PATH}"})),
        f"{CLOUD}capabilities",
        "redirects",
        "write https://b.example/ in backend.urls",
    ),
    (answer_of_nextcloud(lambda: web.Response(status=503)), f"{CLOUD}capabilities", "maintenance", "occ maintenance"),
    (answer_of_nextcloud(lambda: web.Response(status=404)), f"{CLOUD}capabilities", "another program", "backend.urls"),
    (answer_of_nextcloud(without_talk), f"{CLOUD}capabilities", "Talk is not enabled", "occ app:enable spreed"),
    (turn_the_clock_back, f"{CLOUD}clock", "differ by more than 45 s", "NTP"),
    (take_the_key_away, f"{CLOUD}key of hello 2.0", "no hello-v2-token-key", "update"),
    (spoil_the_key, f"{CLOUD}key of hello 2.0", "not a public key", "curl"),
    (change_the_secret_in_nextcloud, f"{CLOUD}requests of the gateway", "signature", "use one secret"),
    (change_both_secrets_without_a_reload, f"{CLOUD}requests to the gateway", "running gateway", "reload"),
    (send_chunks, f"{CLOUD}requests to the gateway", "in chunks", "proxy_request_buffering"),
    (lose_the_signature, f"{CLOUD}requests to the gateway", "refuses", "Spreed-Signaling-"),
]


async def test_drain_is_named_without_a_hello(healthy: Deployment) -> None:
    drain(healthy)
    healthy.text = healthy.text.replace(f'[internal]\nsecret = "{INTERNAL_SECRET}"\n', "")
    results = {result.step: result for result in await healthy.examine()}
    assert results["hello"].state == "not tried"
    assert results["readiness"].state == "failed"
    assert "being drained" in results["readiness"].cause


async def test_deployment_without_a_fault_has_no_finding(healthy: Deployment) -> None:
    results = await healthy.examine()
    assert [(result.step, result.cause) for result in results if result.state not in ("ok", "not tried")] == []
    assert [result.step for result in results] == [
        *("configuration", "name resolution", "TCP", "TLS", PATH, "WebSocket upgrade", "features"),
        *(f"{CLOUD}{step}" for step in ("capabilities", "clock", "key of hello 2.0", "requests of the gateway")),
        *(f"{CLOUD}requests to the gateway", "client address", "hello", "hello of a user", "media through the gateway"),
        *("TURN", "readiness"),
    ]


@pytest.mark.parametrize(
    ("inject", "step", "cause", "change"), FAULTS, ids=[f"{number}-{fault[1]}" for number, fault in enumerate(FAULTS)]
)
async def test_first_failed_step_is_that_of_the_fault(
    healthy: Deployment, inject: Callable[[Deployment], None], step: str, cause: str, change: str
) -> None:
    inject(healthy)
    results = await healthy.examine()
    assert failed_steps(results)[:1] == [step], results
    (found,) = (result for result in results if result.step == step)
    assert cause in found.cause
    assert change in found.change
    assert_explained(results)


def assert_explained(results: list[Result]) -> None:
    """Assert that each unreached step names a failed step before it, and that all others have evidence or a change."""
    for at, result in enumerate(results):
        if result.state == "not reached":
            assert result.cause.removeprefix("because of: ") in failed_steps(results[:at])
        else:
            assert result.evidence or result.change
