"""The tables of docs/protocol.md explain differences of conversations and steps that exist."""

from __future__ import annotations

from tests.compare import federation, requests
from tests.compare.__main__ import explained
from tests.conversations.player import load


def test_each_explained_difference_is_one_of_a_conversation_or_step() -> None:
    steps = {f"{role}-{federation.step_name(step)}" for role in federation.ROLES for step in federation.STEPS}
    names = explained()
    assert len(names) > 10
    assert names <= {it.name for it in load()} | steps | {requests.HTTP_ONLY.name}
