"""Transactions: the request that a message answers, without a loop."""

from __future__ import annotations

import json

import pytest

from mcu.janus.connection.messages import JanusMessage, parse
from mcu.janus.connection.transactions import ROUTES, STEPS, Expect, Route, Step, Transactions

ACK, SUCCESS, EVENT = Expect.ACK, Expect.SUCCESS, Expect.EVENT
MESSAGE_TYPES = ("ack", "success", "server_info", "event", "error", "webrtcup", "keepalive", "claimed")


def message(janus: str, **members: object) -> JanusMessage:
    return parse(json.dumps({"janus": janus, **members}))


@pytest.mark.parametrize("expect", list(Expect))
@pytest.mark.parametrize("janus", MESSAGE_TYPES)
def test_each_message_settles_a_request_as_the_table_says(expect: Expect, janus: str) -> None:
    transactions = Transactions()
    transaction = transactions.begin(expect)
    settled = transactions.settle(message(janus, transaction=transaction))
    step = STEPS.get((expect, janus), Step.WAIT)
    if step is Step.WAIT:
        assert settled is None
        assert len(transactions) == 1
    else:
        assert settled is not None
        assert (settled.transaction, settled.step, settled.undo) == (transaction, step, False)
        assert len(transactions) == 0


def test_an_acknowledged_request_is_still_answered_by_its_event() -> None:
    transactions = Transactions()
    transaction = transactions.begin(EVENT)
    assert transactions.settle(message("ack", transaction=transaction)) is None
    assert transactions.settle(message("event", transaction=transaction)) is not None


@pytest.mark.parametrize(("janus", "route"), [*ROUTES.items(), ("ack", Route.IGNORED), ("keepalive", Route.IGNORED)])
def test_a_message_without_transaction_is_routed_as_the_table_says(janus: str, route: Route) -> None:
    assert Transactions().route(message(janus, sender=1)) is route


def test_a_timeout_has_no_sender_and_ends_the_session() -> None:
    assert Transactions().route(message("timeout", session_id=5)) is Route.SESSION_ENDED


def test_an_answer_is_routed_to_the_request_that_it_names() -> None:
    transactions = Transactions()
    transaction = transactions.begin(EVENT)
    assert transactions.route(message("event", transaction=transaction, sender=9)) is Route.REQUEST
    assert transactions.route(message("event", transaction="999", sender=9)) is Route.HANDLE


def test_an_error_without_a_sender_settles_the_request_of_its_handle() -> None:
    transactions = Transactions()
    transaction = transactions.begin(EVENT, handle=9)
    settled = transactions.settle(message("error", transaction=transaction, error={"code": 462, "reason": ""}))
    assert settled is not None
    assert (settled.step, settled.handle) == (Step.FAILED, 9)


def test_transactions_differ() -> None:
    transactions = Transactions()
    assert len({transactions.begin(ACK), transactions.begin(ACK), transactions.begin(EVENT)}) == 3


def test_the_late_success_of_an_abandoned_request_is_to_be_undone() -> None:
    transactions = Transactions()
    transaction = transactions.begin(SUCCESS, creates=True)
    transactions.abandon(transaction)
    settled = transactions.settle(message("success", transaction=transaction, data={"id": 5}))
    assert settled is not None
    assert settled.undo


@pytest.mark.parametrize(
    "answer",
    [
        {"janus": "error", "error": {"code": 460, "reason": "No such plugin"}},
        {"janus": "success", "plugindata": {"plugin": "p", "data": {"error_code": 427, "error": "exists"}}},
    ],
)
def test_the_late_failure_of_an_abandoned_request_has_nothing_to_undo(answer: dict[str, object]) -> None:
    transactions = Transactions()
    transaction = transactions.begin(SUCCESS, creates=True)
    transactions.abandon(transaction)
    settled = transactions.settle(parse(json.dumps({**answer, "transaction": transaction})))
    assert settled is not None
    assert not settled.undo


def test_an_abandoned_request_that_creates_nothing_is_forgotten() -> None:
    transactions = Transactions()
    transaction = transactions.begin(EVENT)
    transactions.abandon(transaction)
    transactions.abandon("never begun")
    assert len(transactions) == 0
    assert transactions.route(message("event", transaction=transaction, sender=3)) is Route.HANDLE


def test_a_request_that_was_never_sent_is_forgotten() -> None:
    transactions = Transactions()
    transaction = transactions.begin(SUCCESS, creates=True)
    transactions.forget(transaction)
    transactions.forget(transaction)
    assert len(transactions) == 0
    assert transactions.route(message("success", transaction=transaction)) is Route.IGNORED
