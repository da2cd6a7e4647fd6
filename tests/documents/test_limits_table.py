"""The table of limits in operations.md: it has all limits and nothing else, with their defaults."""

from __future__ import annotations

from gateway.config.sections import NextcloudSection, SessionsSection
from gateway.core.limits import FederationRules, Limits
from gateway.edge import janus_events
from gateway.edge.clients import frame_input, websocket_connection
from gateway.edge.http import body_budget, idle_connections, tls_handshake, tls_overhead, write_limit
from gateway.edge.nextcloud import answer_turns, backend_http
from gateway.flows import dispatch
from gateway.flows.media import description_turns
from mcu.inprocess.settings import InprocessSettings
from tests.documents.tables import code, read, rows, section

ELSEWHERE, FIXED = " (not under `[limits]`)", " (fixed)"

CONFIGURED = {
    "`sessions.outbox_bytes`": SessionsSection(secret="").outbox_bytes,
    "`nextcloud.connections_per_host`": NextcloudSection().connections_per_host,
    "`federation.message_bytes`": FederationRules().message_bytes,
    "`mcu.inprocess.peer_connections`": InprocessSettings().peer_connections,
}
CONSTANTS: dict[str, tuple[float, ...]] = {
    "bytes of a message of a client": (websocket_connection.MESSAGE_LIMIT,),
    "seconds until a hello": (dispatch.HELLO_TIME,),
    "messages, and characters, that wait behind one whose handling takes long": (
        dispatch.PAUSE_AT,
        dispatch.PAUSE_AT_SIZE,
    ),
    "frames of one connection handled at once, and in each later loop iteration": (
        frame_input.FRAMES,
        frame_input.FRAMES_IN_TURN,
    ),
    "frames of all connections without a session in a loop iteration": (frame_input.FRAMES_WITHOUT_SESSION,),
    "TLS handshakes continued in a loop iteration": (tls_handshake.STEPS_PER_ITERATION,),
    "bytes of TLS records besides their content in a minute": (tls_overhead.ALLOWANCE,),
    "bytes of descriptions in a loop iteration": (description_turns.ITERATION_BYTES,),
    "bytes of the answers of Nextclouds in a loop iteration": (answer_turns.TURN_BYTES,),
    "bytes of an answer of a Nextcloud": (backend_http.MAX_BODY,),
    "bytes of the bodies of strangers, of one address and in all": (
        body_budget.ADDRESS_LIMIT,
        body_budget.TOTAL_LIMIT,
    ),
    "idle connections that are kept while descriptors run out": (idle_connections.KEPT,),
    "event connections of Janus": (janus_events.MAX_FEEDS,),
    "seconds to read an answer over HTTP": (write_limit.WRITE_TIMEOUT,),
}


def defaults() -> dict[str, str]:
    """Return the defaults in the table, by the text of the first column."""
    return {row[0]: row[1] for row in rows(section(read("operations.md"), "Limits"))}


def test_each_limit_is_in_the_table_with_its_default() -> None:
    documented: dict[str, str] = {}
    for key, default in defaults().items():
        if not key.endswith((ELSEWHERE, FIXED)):
            documented |= dict(zip(code(key), default.split(", "), strict=True))
    assert documented == {name: str(getattr(Limits(), name)) for name in Limits.__struct_fields__}


def test_limits_of_other_sections_are_in_the_table_with_their_defaults() -> None:
    documented = {
        key.removesuffix(ELSEWHERE): default for key, default in defaults().items() if key.endswith(ELSEWHERE)
    }
    assert documented == {key: str(default) for key, default in CONFIGURED.items()}


def test_fixed_limits_are_in_the_table_with_their_values() -> None:
    documented = {key.removesuffix(FIXED): default for key, default in defaults().items() if key.endswith(FIXED)}
    assert documented == {key: ", ".join(map(str, values)) for key, values in CONSTANTS.items()}
