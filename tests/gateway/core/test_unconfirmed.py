"""Messages that are sent again after a resume unless a pong has confirmed them (protocol.md)."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.core.acknowledged import AcknowledgedOutbox
from gateway.core.outbox import Offline, Outbox
from gateway.core.unconfirmed import MAX_KEPT_BYTES, UnconfirmedMessages

ALL_BYTES = 1 << 30


def keep(outbox: Outbox, message: bytes) -> bytes:
    assert outbox.append(message)
    outbox.keep(message)
    return message


def deliver(outbox: Outbox) -> list[bytes]:
    taken = outbox.take(ALL_BYTES)
    outbox.confirm()
    return taken


def test_only_kept_messages_are_repeated_before_the_waiting_ones_and_in_order() -> None:
    outbox = Outbox(1000)
    keep(outbox, b"chat 1")
    assert outbox.append(b"join")
    keep(outbox, b"chat 2")
    deliver(outbox)
    keep(outbox, b"chat 3")
    assert outbox.append(b"leave")
    outbox.repeat()
    assert deliver(outbox) == [b"chat 1", b"chat 2", b"chat 3", b"leave"]
    assert outbox.size == 0


def test_confirmed_messages_are_not_repeated() -> None:
    outbox = Outbox(1000)
    keep(outbox, b"chat 1")
    assert outbox.unconfirmed is not None
    assert outbox.unconfirmed.wants_ping
    deliver(outbox)
    number = outbox.unconfirmed.mark()
    assert not outbox.unconfirmed.wants_ping
    keep(outbox, b"chat 2")
    deliver(outbox)
    outbox.unconfirmed.confirm(number)
    assert outbox.unconfirmed.wants_ping
    outbox.repeat()
    assert deliver(outbox) == [b"chat 2"]


def test_repeated_messages_want_a_ping_of_the_new_connection() -> None:
    outbox = Outbox(1000)
    keep(outbox, b"chat")
    deliver(outbox)
    assert outbox.unconfirmed is not None
    outbox.unconfirmed.mark()
    outbox.repeat()
    assert outbox.unconfirmed.wants_ping
    deliver(outbox)
    outbox.unconfirmed.confirm(outbox.unconfirmed.mark())
    outbox.repeat()
    assert not outbox.waiting


def test_skipped_refresh_and_message_beyond_the_limit_are_not_kept() -> None:
    outbox = Outbox(20)
    for refresh in (b"refresh 1", b"refresh 2"):
        assert outbox.append_offline(refresh, Offline.REFRESH_ONCE)
        outbox.keep(refresh)
    too_much = b"x" * 20
    assert not outbox.append(too_much)
    outbox.keep(too_much)
    deliver(outbox)
    outbox.repeat()
    assert deliver(outbox) == [b"refresh 1"]


def test_repeated_messages_do_not_use_up_the_limit() -> None:
    outbox = Outbox(10)
    keep(outbox, b"0123456789")
    deliver(outbox)
    keep(outbox, b"abcdefghij")
    outbox.repeat()
    assert outbox.size == 20
    assert not outbox.append(b"x")
    deliver(outbox)
    assert not outbox.append(b"x" * 11)
    assert outbox.append(b"x" * 10)


def test_sealed_outbox_repeats_nothing() -> None:
    outbox = Outbox(10)
    keep(outbox, b"chat")
    deliver(outbox)
    outbox.seal()
    outbox.repeat()
    assert not outbox.waiting


def test_acknowledging_client_gets_nothing_twice() -> None:
    outbox = AcknowledgedOutbox(1000)
    keep(outbox, b"chat")
    outbox.take(ALL_BYTES)
    assert outbox.acknowledge(1)
    outbox.repeat()
    assert not outbox.waiting


def test_confirming_delivered_messages_keeps_the_waiting_ones() -> None:
    outbox = Outbox(1000)
    outbox.confirm_delivered()  # nothing was ever kept
    keep(outbox, b"chat 1")
    deliver(outbox)
    keep(outbox, b"chat 2")
    outbox.confirm_delivered()
    outbox.repeat()
    assert deliver(outbox) == [b"chat 2"]
    outbox.repeat()
    assert deliver(outbox) == [b"chat 2"]


def test_oldest_messages_are_dropped_beyond_the_limit() -> None:
    kept = UnconfirmedMessages()
    messages = [b"%06d" % number + bytes(1018) for number in range(MAX_KEPT_BYTES // 1024 + 3)]
    for message in messages:
        kept.add(message)
    assert kept.without(()) == messages[3:]
    kept.confirm(kept.mark())
    assert not kept.without(())


@given(st.lists(st.sampled_from(["append", "keep", "deliver", "ping", "pong", "resume"]), max_size=40))
def test_a_resume_repeats_exactly_the_kept_messages_without_a_pong(steps: list[str]) -> None:
    outbox = Outbox(ALL_BYTES)
    kept: list[bytes] = []  # unconfirmed
    waiting: list[bytes] = []
    pinged: tuple[int, int] | None = None  # number to confirm, and count of the kept messages up to it
    for number, step in enumerate(steps):
        message = b"%d" % number
        if step in ("append", "keep"):
            assert outbox.append(message)
            waiting.append(message)
            if step == "keep":
                outbox.keep(message)
                kept.append(message)
        elif step == "deliver":
            assert deliver(outbox) == waiting
            waiting = []
        elif step == "ping" and not waiting and outbox.unconfirmed is not None and pinged is None:
            pinged = outbox.unconfirmed.mark(), len(kept)
        elif step == "pong" and pinged is not None and outbox.unconfirmed is not None:
            outbox.unconfirmed.confirm(pinged[0])
            kept, pinged = kept[pinged[1] :], None
        elif step == "resume":
            pinged = None
            outbox.repeat()
            waiting = [message for message in kept if message not in waiting] + waiting
    assert deliver(outbox) == waiting
