"""Session ids: authentic, different from each other, without order."""

from __future__ import annotations

import re

import pytest

from gateway.core.ids import ENTROPY, SessionIds

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
def test_leading_characters_follow_the_entropy_not_the_order() -> None:
    made = [IDS.make(entropy(seed))[0] for seed in (3, 250, 120)]
    assert made != sorted(made)


def test_resume_id_is_recognised() -> None:
    assert IDS.is_resume_id(IDS.make(entropy(1))[1])


@pytest.mark.parametrize(
    "forged",
    [
        pytest.param(lambda public, private: public, id="the public id"),
        pytest.param(lambda public, private: private[:-1] + ("A" if private[-1] != "A" else "B"), id="a changed one"),
        pytest.param(lambda public, private: private[:20], id="a part"),
        pytest.param(lambda public, private: private + "AAAA", id="a longer one"),
        pytest.param(lambda public, private: "", id="nothing"),
        pytest.param(lambda public, private: "äöü", id="no ASCII"),
        pytest.param(lambda public, private: "\ud800", id="half a surrogate pair"),
        pytest.param(lambda public, private: "A", id="no base64"),
    ],
)
def test_other_text_is_not_a_resume_id(forged: object) -> None:
    assert callable(forged)
    assert not IDS.is_resume_id(forged(*IDS.make(entropy(1))))


# reference 2.6-a
def test_resume_id_of_another_secret_is_refused() -> None:
    assert not IDS.is_resume_id(SessionIds("another secret").make(entropy(1))[1])


def test_only_public_ids_of_this_secret_are_session_ids() -> None:
    public, private = IDS.make(entropy(1))
    assert IDS.is_session_id(public)
    for text in (
        private,
        public[:-1],
        f"{public} ",
        f"r-{public}",
        "",
        "nc",
        SessionIds("another").make(entropy(1))[0],
    ):
        assert not IDS.is_session_id(text)
