"""``mcu.factory``: a backend by its name."""

from __future__ import annotations

import subprocess
import sys

import msgspec
import pytest

from mcu import factory
from mcu.inprocess.backend import InprocessMcu
from mcu.inprocess.settings import Settings
from mcu.janus.backend import JanusMcu
from mcu.janus.settings import JanusServer


def test_there_are_two_backends() -> None:
    assert factory.names() == ("janus", "inprocess")


def test_janus_is_configured_by_an_array_of_tables() -> None:
    read = msgspec.convert([{"url": "ws://127.0.0.1:8188", "token": "t"}], factory.settings_type("janus"))
    assert read == (JanusServer("ws://127.0.0.1:8188", token="t"),)


def test_the_settings_of_the_sfu_in_this_process_are_its_own() -> None:
    assert factory.settings_type("inprocess") is Settings


def test_an_unknown_key_of_janus_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError, match="apisecret"):
        msgspec.convert([{"url": "ws://127.0.0.1:8188", "apisecret": "x"}], factory.settings_type("janus"))


def test_a_url_that_is_no_websocket_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError, match="ws://"):
        msgspec.convert([{"url": "http://127.0.0.1:8088/janus"}], factory.settings_type("janus"))


def test_an_unknown_backend_is_named_with_those_there_are() -> None:
    with pytest.raises(ValueError, match="'mediasoup'; there are: janus, inprocess"):
        factory.settings_type("mediasoup")
    with pytest.raises(ValueError, match="'mediasoup'"):
        factory.create("mediasoup", (), timeout=1.0)


async def test_backends_are_made_from_their_settings() -> None:
    assert isinstance(factory.create("janus", (JanusServer("ws://127.0.0.1:1"),), timeout=1.0), JanusMcu)
    assert isinstance(factory.create("inprocess", Settings(), timeout=1.0), InprocessMcu)


@pytest.mark.parametrize("count", [0, 2])
async def test_exactly_one_janus_is_taken(count: int) -> None:
    servers = (JanusServer("ws://127.0.0.1:1"),) * count
    with pytest.raises(ValueError, match=rf"exactly one \[\[mcu.janus\]\] is supported, {count} are configured"):
        factory.create("janus", servers, timeout=1.0)


def test_a_backend_is_imported_when_it_is_chosen() -> None:
    program = "import sys, mcu.factory; print(sorted(name for name in sys.modules if name.startswith('mcu.')))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['mcu.base', 'mcu.factory']"
