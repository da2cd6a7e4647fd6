"""The internals of aiortc and aioice that ``aiortc_internals`` uses: these tests fail when an upgrade changes one."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import inspect
from importlib.metadata import version
from pathlib import Path

import aioice
import pylibsrtp
import pytest
from aioice.ice import CandidatePair, StunProtocol
from aiortc import (
    RTCCertificate,
    RTCDataChannelParameters,
    RTCDtlsTransport,
    RTCIceGatherer,
    RTCIceTransport,
    RTCSctpTransport,
)
from aiortc.rtcdatachannel import RTCDataChannel
from aiortc.rtcdtlstransport import SRTP_PROFILES
from OpenSSL import SSL

import mcu.inprocess
from mcu.inprocess.settings import InprocessSettings
from mcu.inprocess.transport.aiortc_internals.dtls import MAX_PACKET, Certificate, DtlsTransport, enlarge_buffers
from mcu.inprocess.transport.aiortc_internals.ice import IceTransport
from mcu.inprocess.transport.aiortc_internals.sctp import ChannelLabel

SETTINGS = InprocessSettings(address="127.0.0.1")


def parameters(function: object) -> list[str]:
    """Return the names of a function's parameters."""
    assert callable(function)
    return list(inspect.signature(function).parameters)


def test_installed_versions_are_the_documented_ones() -> None:
    assert version("aiortc").startswith("1.16.")
    assert version("aioice").startswith("0.13.")


def test_used_parts_of_aioice_are_unchanged() -> None:
    assert parameters(aioice.Connection.get_component_candidates) == ["self", "component", "addresses", "timeout"]
    assert parameters(aioice.Connection._add_remote_candidate) == ["self", "remote_candidate", "network_host"]
    assert parameters(StunProtocol.__init__) == ["self", "receiver"]
    assert parameters(StunProtocol.datagram_received) == ["self", "data", "addr"]
    assert isinstance(CandidatePair.remote_addr, property)
    connection = aioice.Connection(ice_controlling=True)
    assert connection._nominated == {}
    assert connection._protocols == connection._check_list == connection._remote_candidates == []
    assert isinstance(connection._queue, asyncio.Queue)
    assert parameters(aioice.Connection.check_complete) == ["self", "pair"]
    assert parameters(aioice.Connection.check_start_task) == ["self", "pair"]


def exchange(server: SSL.Connection, client: SSL.Connection) -> None:
    """Carry records between two DTLS connections until neither sends one."""
    moved = True
    while moved:
        moved = False
        for sender, receiver in ((client, server), (server, client)):
            with contextlib.suppress(SSL.WantReadError):
                receiver.bio_write(sender.bio_read(65536))
                moved = True
            with contextlib.suppress(SSL.Error):
                receiver.recv(1500)


def test_request_for_renegotiation_is_refused() -> None:
    server = SSL.Connection(RTCCertificate.generateCertificate()._create_ssl_context(SRTP_PROFILES))
    client = SSL.Connection(Certificate.generateCertificate()._create_ssl_context(SRTP_PROFILES))
    server.set_accept_state()
    client.set_connect_state()
    with pytest.raises(SSL.WantReadError):
        client.do_handshake()
    exchange(server, client)
    client.do_handshake()
    assert server.renegotiate()
    with contextlib.suppress(SSL.Error):
        server.do_handshake()
    exchange(server, client)
    assert client.total_renegotiations() == 0


async def test_used_parts_of_aiortc_are_unchanged() -> None:
    transport = RTCDtlsTransport(RTCIceTransport(RTCIceGatherer([])), [RTCCertificate.generateCertificate()])
    assert {"_rx_srtp", "_tx_srtp", "_task", "_data_receiver"} <= set(vars(transport))
    assert parameters(RTCDtlsTransport._set_role) == ["self", "role"]
    assert parameters(RTCDtlsTransport._setup_srtp) == ["self"]
    assert parameters(RTCDtlsTransport._register_data_receiver) == ["self", "receiver"]
    assert parameters(RTCDtlsTransport._unregister_data_receiver) == ["self", "receiver"]


def test_srtp_sessions_use_the_enlarged_buffer() -> None:
    keys = bytes(30)
    sender = pylibsrtp.Session(pylibsrtp.Policy(keys, pylibsrtp.Policy.SSRC_ANY_OUTBOUND))
    receiver = pylibsrtp.Session(pylibsrtp.Policy(keys, pylibsrtp.Policy.SSRC_ANY_INBOUND))
    assert {"_cdata", "_buffer"} <= set(vars(sender))
    enlarge_buffers(sender, receiver)
    for size in (12, 1357, MAX_PACKET):
        packet = bytes([0x80, 96]) + size.to_bytes(2, "big") + bytes(size - 4)
        assert receiver.unprotect(sender.protect(packet)) == packet


def test_dtls_uses_only_role_recv_and_send_of_its_ice_transport() -> None:
    attributes = [
        node for node in ast.walk(ast.parse(inspect.getsource(RTCDtlsTransport))) if isinstance(node, ast.Attribute)
    ]
    used = {node.attr for node in attributes if ast.unparse(node.value) in ("self.transport", "self._transport")}
    assert used == {"role", "_recv", "_send"}


async def test_label_with_non_ascii_characters_is_announced_whole() -> None:
    dtls = DtlsTransport(IceTransport(SETTINGS, lambda data: None, controlling=True))
    sctp = RTCSctpTransport(dtls)
    RTCDataChannel(sctp, RTCDataChannelParameters(label=ChannelLabel("Zürich")))
    _, _, announced = sctp._data_channel_queue[0]
    assert isinstance(announced, bytes)
    assert int.from_bytes(announced[8:10], "big") == len("Zürich".encode())
    assert announced.endswith("Zürich".encode())
    await sctp.stop()


def test_no_other_module_uses_private_attributes() -> None:
    for path in Path(mcu.inprocess.__path__[0]).rglob("*.py"):
        if path.parent.name == "aiortc_internals":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__"):
                allowed = ast.unparse(node.value) == "self" or node.attr == "_replace"  # a named tuple's
                assert allowed, f"{path.name}:{node.lineno}: {ast.unparse(node)}"
