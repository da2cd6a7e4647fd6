"""The actor of a federated session at Nextcloud (reference 4.1)."""

from __future__ import annotations

import pytest
from msgspec import Raw

from gateway.core.actor import Actor, actor_of


@pytest.mark.parametrize(
    ("user", "actor"),
    [
        (b'{"actorId":"zoe@there","actorType":"federated_users"}', Actor("zoe@there", "federated_users")),
        (b'{"actorId":"zoe@there"}', None),
        (b'{"actorId":5,"actorType":"federated_users"}', None),
        (b"[]", None),
        (b"", None),
    ],
)
def test_actor_needs_both_members_as_strings(user: bytes, actor: Actor | None) -> None:
    assert actor_of(Raw(user)) == actor
