"""Session ids: authentic, different from each other, without order."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from gateway.core.ids import ENTROPY, SessionIds, has_form_of_an_id

IDS = SessionIds("a secret of the tests that is long enough")


def entropy(seed: int) -> bytes:
    return bytes((seed + n * 7) % 256 for n in range(ENTROPY))


# reference 2.6-a
def test_ids_are_url_safe_and_different() -> None:
    public, private = IDS.make(entropy(1))
    assert str(public) != str(private)
    for made in (public, private):
        assert re.fullmatch(r"[A-Za-z0-9_-]{48}", made)


# reference 2.6-b
def test_ids_do_not_sort_by_age() -> None:
    made = [IDS.make(entropy(seed))[0] for seed in (3, 250, 120)]
    assert made != sorted(made)


def test_public_id_is_recognised() -> None:
    assert IDS.is_session_id(IDS.make(entropy(1))[0])


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(lambda public, private: private, id="the resume id"),
        pytest.param(lambda public, private: public[:-1] + ("A" if public[-1] != "A" else "B"), id="a changed id"),
        pytest.param(lambda public, private: public[:-1], id="a shorter id"),
        pytest.param(lambda public, private: public[:20], id="a part of an id"),
        pytest.param(lambda public, private: public + "AAAA", id="a longer id"),
        pytest.param(lambda public, private: f"{public} ", id="an id with a space"),
        pytest.param(lambda public, private: f"r-{public}", id="an id with a prefix"),
        pytest.param(lambda public, private: "", id="an empty text"),
        pytest.param(lambda public, private: "nc", id="a Nextcloud session id"),
        pytest.param(lambda public, private: "äöü", id="non-ASCII text"),
        pytest.param(lambda public, private: "\ud800", id="a lone surrogate"),
        pytest.param(lambda public, private: "A", id="text that is not base64"),
    ],
)
def test_other_text_is_not_a_public_id(other: Callable[[str, str], str]) -> None:
    assert not IDS.is_session_id(other(*IDS.make(entropy(1))))


# reference 2.6-a
def test_public_id_of_another_secret_is_not_recognised() -> None:
    assert not IDS.is_session_id(SessionIds("another secret").make(entropy(1))[0])


def test_ids_of_any_server_are_recognised_by_their_form() -> None:
    ids = SessionIds("the secret of another server, as long").make(b"r" * ENTROPY)
    assert all(map(has_form_of_an_id, ids))
    assert not any(map(has_form_of_an_id, ("", "guess", "x" * 20 + " y")))


def test_short_room_id_depends_on_secret_backend_and_room() -> None:
    ids, others = SessionIds("one secret of 32 bytes, or longer"), SessionIds("another secret of 32 bytes or more")
    found = {ids.short_room_id("a", "b"), ids.short_room_id("a", "c"), ids.short_room_id("b", "b")}
    found.add(others.short_room_id("a", "b"))
    assert len(found) == 4
    assert all(len(id) == 8 and int(id, 16) >= 0 for id in found)
    assert ids.short_room_id("a", "b") == ids.short_room_id("a", "b")
