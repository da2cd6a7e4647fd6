"""Ports that tests give to programs, and a Janus whose port another program has."""

from __future__ import annotations

import socket
import subprocess
import sys

import pytest

from tests.janus_process import ROOT, JanusProcess, listening_ports
from tests.ports import BLOCK_SIZE, EPHEMERAL_RANGE, FIRST_PORT, free_ports, lease_block, lease_if_free

OTHER_PROCESS = """
import sys
from tests.ports import lease_block, lease_if_free
block = lease_block()
print(block.first, lease_if_free(int(sys.argv[1])), flush=True)
sys.stdin.read()
"""


def test_no_port_is_given_twice_and_none_is_ephemeral() -> None:
    with lease_block() as first, lease_block() as second:
        single = free_ports(BLOCK_SIZE + 1)  # more than one block has
        given = [*range(first.first, first.last + 1), *range(second.first, second.last + 1), *single]
        assert len(set(given)) == len(given)
        assert min(given) > FIRST_PORT
        assert max(given) < int(EPHEMERAL_RANGE.read_text().split()[0])


def test_block_is_leased_to_one_process_at_a_time() -> None:
    with lease_block() as block:
        command = [sys.executable, "-c", OTHER_PROCESS, str(block.first - 1)]
        with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
            assert other.stdout is not None
            first_of_other, refused = other.stdout.readline().split()
            assert refused == "None"
            assert lease_if_free(int(first_of_other) - 1) is None
            other.kill()


@pytest.mark.parametrize("socket_type", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
def test_block_with_a_port_that_another_program_uses_is_not_leased(
    monkeypatch: pytest.MonkeyPatch, socket_type: socket.SocketKind
) -> None:
    with lease_block() as block, socket.socket(type=socket_type) as other:
        monkeypatch.setattr("tests.ports.BLOCK_SIZE", 10)  # blocks within block, which no other process touches
        guarded = block.last - 9  # had no TCP connection, which would keep it from being bound for a minute
        inner = lease_if_free(guarded)
        assert inner is not None
        assert (inner.first, inner.last) == (guarded + 1, block.last)
        inner.close()
        other.bind(("127.0.0.1", block.last))
        assert lease_if_free(guarded) is None


async def test_janus_whose_port_another_program_has_does_not_count_as_started() -> None:
    janus = JanusProcess()
    taken = ("127.0.0.1", int(janus.values["WS_PORT"]))
    with socket.create_server(taken), pytest.raises(RuntimeError, match="Janus ended"):
        await janus.start()
    await janus.start()
    assert {int(janus.values["WS_PORT"]), int(janus.values["ADMIN_PORT"])} == listening_ports(janus.pid)
    await janus.stop()
