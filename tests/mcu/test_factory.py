"""An SFU is created by its type's name, from its own settings."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from mcu import factory
from mcu.base import Mcu
from mcu.inprocess.backend import InprocessMcu
from mcu.inprocess.settings import InprocessSettings
from mcu.janus.backend import JanusMcu
from mcu.janus.settings import JanusServerSettings


def create(name: str, settings: Any, wall_clock: Callable[[], float] = time.time) -> Mcu:
    return factory.create(name, settings, timeout=1.0, clock=time.monotonic, wall_clock=wall_clock)


def test_there_are_two_sfu_types() -> None:
    assert factory.names() == ("janus", "inprocess")


def test_janus_is_configured_by_an_array_of_tables() -> None:
    settings = msgspec.convert([{"url": "ws://127.0.0.1:8188", "token": "t"}], factory.settings_type("janus"))
    assert settings == (JanusServerSettings("ws://127.0.0.1:8188", token="t"),)


def test_in_process_sfu_has_settings_of_its_own() -> None:
    assert factory.settings_type("inprocess") is InprocessSettings


def test_unknown_key_of_janus_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError, match="apisecret"):
        msgspec.convert([{"url": "ws://127.0.0.1:8188", "apisecret": "x"}], factory.settings_type("janus"))


def test_url_that_is_not_a_websocket_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError, match="ws://"):
        msgspec.convert([{"url": "http://127.0.0.1:8088/janus"}], factory.settings_type("janus"))


def test_error_names_the_unknown_sfu_type_and_the_known_ones() -> None:
    with pytest.raises(ValueError, match="'mediasoup'; there are: janus, inprocess"):
        factory.settings_type("mediasoup")
    with pytest.raises(ValueError, match="'mediasoup'"):
        create("mediasoup", ())


async def test_sfus_are_created_from_their_settings() -> None:
    assert isinstance(create("janus", (JanusServerSettings("ws://127.0.0.1:1"),)), JanusMcu)
    assert isinstance(create("inprocess", InprocessSettings()), InprocessMcu)


@pytest.mark.parametrize(
    ("urls", "sentence"),
    [
        ([], "there is no [[mcu.janus]]"),
        (["ws://a:1", "ws://b:1", "ws://a:1"], "two [[mcu.janus]] have the url ws://a:1"),
    ],
)
async def test_at_least_one_janus_is_required_and_each_only_once(urls: list[str], sentence: str) -> None:
    servers = tuple(JanusServerSettings(url) for url in urls)
    for call in (lambda: factory.check("janus", servers), lambda: create("janus", servers)):
        with pytest.raises(ValueError, match=re.escape(sentence)):
            call()


async def test_several_janus_are_one_mcu() -> None:
    servers = (JanusServerSettings("ws://a:1"), JanusServerSettings("ws://b:1"))
    factory.check("janus", servers)
    status = create("janus", servers).status()
    assert [sfu.url for sfu in status.sfus] == ["ws://a:1", "ws://b:1"]
    assert not status.ready


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ({"weight": 0}, "`weight` must be greater than 0"),
        ({"weight": -1.5}, "`weight` must be greater than 0"),
        ({"weight": float("inf")}, "`weight` must be greater than 0"),
        ({"weight": float("nan")}, "`weight` must be greater than 0"),
        ({"country": "de"}, '`country` must be two capital letters, like "DE"'),
        ({"continents": ["EU", "Europe"]}, "`continents` names 'Europe'; there are AF, AN, AS, EU, NA, OC, SA"),
        ({"url": "ws://"}, "`url` names no host"),
        ({"url": "ws://[::1"}, "`url` names no host"),
    ],
)
def test_invalid_values_of_janus_keys_are_refused(keys: dict[str, object], sentence: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=re.escape(sentence)):
        msgspec.convert([{"url": "ws://a:1"} | keys], factory.settings_type("janus"))


def test_janus_is_reached_by_other_janus_at_its_address_or_the_host_of_its_url() -> None:
    assert JanusServerSettings("ws://[2001:db8::1]:8188").forward_host == "2001:db8::1"
    assert JanusServerSettings("wss://janus.example.com/ws", address="192.0.2.7").forward_host == "192.0.2.7"


@pytest.mark.parametrize("loopback", ["ws://127.0.0.1:8188", "ws://localhost:8188", "ws://[::1]:8188"])
def test_streams_are_not_forwarded_to_a_loopback_address_of_another_host(loopback: str) -> None:
    remote = JanusServerSettings("ws://192.0.2.7:8188", remote_streams=True)
    both_loopback = (
        JanusServerSettings(loopback, remote_streams=True),
        JanusServerSettings("ws://127.0.0.2:8188", remote_streams=True),
    )
    factory.check("janus", both_loopback)
    factory.check("janus", (JanusServerSettings(loopback), remote))
    factory.check("janus", (JanusServerSettings(loopback, remote_streams=True, address="192.0.2.8"), remote))
    with pytest.raises(ValueError, match="`address` must say where other Janus reach that of ws://"):
        factory.check("janus", (JanusServerSettings(loopback, remote_streams=True), remote))


def test_no_sfu_is_imported_before_it_is_chosen() -> None:
    program = "import sys, mcu.factory; print(sorted(name for name in sys.modules if name.startswith('mcu.')))"
    completed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert completed.stdout.strip() == "['mcu.base', 'mcu.factory']"


async def test_sfu_reads_the_clock_that_is_given() -> None:
    sfu = create("inprocess", InprocessSettings(address=("127.0.0.1",)), wall_clock=lambda: 1_700_000_000.0)
    await sfu.start(lambda status: None)
    assert sfu.status().sfus[0].connected_since == 1_700_000_000.0
    await sfu.stop()
