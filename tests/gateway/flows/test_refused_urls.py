"""The sentence about a refused backend URL: its shown part, and the difference from the nearest configured URL."""

from __future__ import annotations

import sys
from types import FrameType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.backends import Backends
from gateway.core.limits import Backend
from gateway.flows.refused_urls import LONGEST_SHOWN, UnknownUrl, origin, shown

BACKENDS = Backends(
    [
        Backend("cloud", ("https://cloud.example.com/", "https://intranet.example.com/"), "s"),
        Backend("school", ("https://www.school.example/nextcloud/",), "s"),
        Backend("php", ("https://php.example/index.php/",), "s"),
    ]
)


@pytest.mark.parametrize(
    ("url", "nearest", "backend", "differs"),
    [
        ("http://cloud.example.com/", "https://cloud.example.com/", "cloud", "the scheme differs"),
        ("http://cloud.example.com:8080/", "https://cloud.example.com/", "cloud", "the port and scheme differ"),
        ("https://cloud.example.com:8443/", "https://cloud.example.com/", "cloud", "the port differs"),
        ("https://cloud2.example.com/", "https://cloud.example.com/", "cloud", "the host differs"),
        ("https://www.school.example/", "https://www.school.example/nextcloud/", "school", "the path differs"),
        ("https://php.example/", "https://php.example/index.php/", "php", "the path differs"),
        ("http://localhost", "https://", "", "the host and scheme differ"),
    ],
)
def test_nearest_configured_url_and_the_difference_are_named(
    url: str, nearest: str, backend: str, differs: str
) -> None:
    sentence = str(UnknownUrl(url, BACKENDS))
    assert sentence.startswith(f"no backend is configured for {shown(url)}; the nearest URL is {nearest}")
    assert f"of backend {backend}" in sentence
    assert differs in sentence
    assert "[[backend]]" in sentence.split(differs)[1]


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("", "no URL"),
        ("HTTPS://Cloud.Example:443/a/?token=1#x", "HTTPS://Cloud.Example:443/a/"),
        ("https://cloud.example:443/ocs/v2.php/apps/spreed/api", "https://cloud.example/"),
        ("https://user:pass/word@cloud.example/", "a URL with user information"),
        ("junk", "a text that is no http or https URL"),
        ("https://h/" + "x" * 41 + "/y", "https://h/…/y/"),
    ],
)
def test_shown_url_has_neither_credentials_nor_query_nor_long_parts(url: str, expected: str) -> None:
    assert shown(url) == expected


def test_origin_is_the_part_before_the_path() -> None:
    assert origin("https://h:8443/a/b") == "https://h:8443"
    assert origin("junk") == shown("junk")


def test_cost_of_an_invented_url_does_not_grow_with_its_likeness_to_the_configured_ones() -> None:
    many = Backends([Backend(f"b{n}", (f"https://cloud-{n}.example.com/nextcloud/",), "s") for n in range(200)])
    calls = {"https://cloud-7.example.com:8443/": 0, "https://cloud-" + "e" * 180: 0}
    for url in calls:
        sentence = UnknownUrl(url, many)
        str(sentence)  # stores the canonical forms of the configured URLs, so that both measurements find them

        def count(frame: FrameType, event: str, function: object, url: str = url) -> None:
            calls[url] += event in ("call", "c_call")

        sys.setprofile(count)
        try:
            str(sentence)
        finally:
            sys.setprofile(None)
    plain, alike = calls.values()
    assert alike < 2 * plain


def test_no_nearest_url_is_named_without_backends_and_for_a_url_that_is_no_base_url() -> None:
    assert str(UnknownUrl("https://h/", Backends([]))) == "no backend is configured for https://h/"
    assert "not the base URL" in str(UnknownUrl("https://h/?a=b", BACKENDS))


secrets = st.text("abcdefghijklmnopqrstuvwxyzABCDEF0123456789-_", min_size=48)
urls = st.one_of(
    st.text(),
    st.builds("https://{}@h/".format, st.text()),
    st.builds("https://h/?{}".format, st.text()),
    st.builds("https://h/{}".format, st.text()),
    st.builds("https://{}/".format, st.text()),
)


@given(urls, secrets)
def test_no_url_makes_the_sentence_fail_or_long_or_show_a_secret(url: str, secret: str) -> None:
    for text in (
        url,
        f"https://{secret}:{secret}@h/",
        f"https://h/?{secret}",
        f"https://h/{secret}",
        url + "@" + secret,
    ):
        sentence = str(UnknownUrl(text, BACKENDS))
        assert len(shown(text)) <= LONGEST_SHOWN + 1
        assert secret not in sentence
        assert not any(character in sentence for character in "\r\n\x00?#@")
