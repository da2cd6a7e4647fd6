"""With several Janus each log line begins with the name or number of its Janus, and contains no address."""

from __future__ import annotations

import pytest

from mcu.base import McuStatus
from mcu.janus.backend import JanusMcu
from mcu.janus.settings import JanusServerSettings
from tests.mcu.janus.conftest import RecordedStates
from tests.ports import free_ports


def unreachable(name: str = "") -> JanusServerSettings:
    (port,) = free_ports(1)
    return JanusServerSettings(f"ws://127.0.0.1:{port}", name=name)


def all_refuse(status: McuStatus) -> bool:
    return all("refused" in sfu.reason for sfu in status.sfus)


async def test_each_line_begins_with_the_name_of_its_janus(
    states: RecordedStates, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    servers = (unreachable(), unreachable("paris"), unreachable())
    mcu = JanusMcu(servers, timeout=1.0)
    await mcu.start(states)
    await states.until(all_refuse)
    names = {record.getMessage().split(": Janus cannot be used")[0] for record in caplog.records}
    assert names == {"Janus 1", "Janus paris", "Janus 3"}
    assert [sfu.log_name for sfu in mcu.status().sfus] == ["Janus 1", "Janus paris", "Janus 3"]
    mcu.reconfigure(servers[2:])
    named = ["Janus 1", "Janus 1 of before the reload", "Janus paris of before the reload"]
    assert [sfu.log_name for sfu in mcu.status().sfus] == named
    await states.until(lambda status: len(status.sfus) == 1)
    assert {f"{name}: Janus was drained and disconnected" for name in named[1:]} <= set(caplog.messages)
    assert "127.0.0.1" not in caplog.text
    await mcu.stop()


async def test_a_single_janus_has_no_number(states: RecordedStates, caplog: pytest.LogCaptureFixture) -> None:
    mcu = JanusMcu((unreachable(),), timeout=1.0)
    await mcu.start(states)
    await states.until(all_refuse)
    assert caplog.messages[-1].startswith("Janus cannot be used yet: connection refused")
    assert [sfu.log_name for sfu in mcu.status().sfus] == [""]
    await mcu.stop()


@pytest.mark.parametrize("name", ["12", "10.0.0.1", "fe80::1", "a b", "x" * 33])
def test_a_name_that_is_a_number_or_an_address_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="`name`"):
        JanusServerSettings("ws://x", name=name)


def test_two_janus_with_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="have the name a"):
        JanusMcu((JanusServerSettings("ws://x", name="a"), JanusServerSettings("ws://y", name="a")), timeout=1.0)
