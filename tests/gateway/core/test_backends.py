"""Backends found by URL."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.backends import COMPAT, MAX_HOST_LENGTH, MAX_URL_LENGTH, Backends, base_of, canonical
from gateway.core.limits import Backend


def backend(id: str, *urls: str) -> Backend:
    return Backend(id=id, urls=urls, secret="s" + id)


# reference 3.1-c
@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://h", "https://h/"),
        ("https://h/", "https://h/"),
        ("https://h/foo", "https://h/foo/"),
        ("https://h:443/foo/", "https://h/foo/"),
        ("http://h:80", "http://h/"),
        ("https://h:80", "https://h:80/"),
        ("http://h:443", "http://h:443/"),
        ("http://h:0443", "http://h:443/"),
        ("HTTPS://Host/Foo", "https://host/Foo/"),
        ("https://CLOUD.Example.COM:443", "https://cloud.example.com/"),
        ("https://[2001:DB8::0:1]/", "https://[2001:db8::1]/"),
        ("https://b\u00fccher.example/", "https://xn--bcher-kva.example/"),
        ("https://B\u00dcCHER.example/", "https://xn--bcher-kva.example/"),
        ("https://h/%66oo/%7ebar", "https://h/foo/~bar/"),
        ("https://h/a%2db%2ec", "https://h/a-b.c/"),
        ("https://h/a%20b%c3%a4", "https://h/a%20b%C3%A4/"),
        ('https://h/"[x]', "https://h/%22%5Bx%5D/"),
        ("https://h/\u00e4", "https://h/%C3%A4/"),
        ("https://[::1]:8443/x", "https://[::1]:8443/x/"),
        ("https://h/ocs/v2.php/apps/spreed/api/v1/signaling/backend", "https://h/"),
        ("https://h/foo/ocs/v2.php/apps/spreed/", "https://h/foo/"),
        ("https://h/foo/ocs/v2.php/apps/spreed", "https://h/foo/"),
        ("https://h/ocs/v2.php/apps/spreed/api?format=json", "https://h/"),
        ("https://h/xocs/v2.php/apps/spreed/", "https://h/xocs/v2.php/apps/spreed/"),
        ("https://h/..foo/.bar./", "https://h/..foo/.bar./"),
    ],
)
def test_url_has_one_canonical_form(url: str, expected: str) -> None:
    assert canonical(url) == expected
    assert canonical(expected) == expected


# reference 3.1-d
@pytest.mark.parametrize(
    "url",
    [
        "",
        "/",
        "h",
        "//h/",
        "ftp://h/",
        "ws://h/",
        "https:///foo",
        "https://",
        "https://user@h/",
        "https://user:pw@h/",
        "https://h:port/",
        "https://h:/",
        "https://h:99999/",
        "https://h:123456/",
        "https://h?x",
        "https://h/?x=1",
        "https://h/#f",
        "https://h/a b",
        "https://h\\@evil/",
        "https://h/a\\b",
        "https://h/a\n",
        "https://h/\x00",
        " https://h/",
        "https://h/a/../b",
        "https://h/..",
        "https://h/%2E%2e/b",
        "https://h/./b",
        "https://[::1/",
        "https://[1:2]/",
        "https://h/a/..%2Fb/",
        "https://h/a/..%2fb/",
        "https://h/a%2Fb/",
        "https://h/a%5Cb/",
        "https://h/a/..%5c..%5cb/",
        "https://h/a/%252e%252e/b/",
        "https://h/a/..%252Fb/",
        "https://h/a/.%2e/b",
        "https://h/a/%2e/b",
        "https://h/a/..;/b",
        "https://h/a/..;x=1/b",
        "https://h/a/%c0%ae%c0%ae/b",
        "https://h/a%00",
        "https://h/a%0d%0ab",
        "https://h/a%7f",
        "https://h/a%",
        "https://h/a%2",
        "https://h/a%zz",
        "https://%68/",
        "https://h%2ex/",
        "https://h,x/",
        "https://h;x/",
        "https://.h/",
        "https://h\u3002\u3002x/",
        "https://user%40h/",
        "https://h%40evil/",
        "https://\ud800/",
        "https://h/\ud800",
        "https://h/" + "x" * MAX_URL_LENGTH,
        "https://h/" + "\u00e4" * (MAX_URL_LENGTH // 4),  # six characters each in canonical form
        f"https://{'h' * (MAX_HOST_LENGTH + 1)}/",
    ],
)
def test_text_other_than_an_absolute_url_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        canonical(url)
    assert Backends([], compat=backend(COMPAT)).find(url) is None


# reference 3.1-d
def test_longest_url_and_host_are_accepted() -> None:
    for url in ("https://h/".ljust(MAX_URL_LENGTH - 1, "x") + "/", f"https://{'h' * MAX_HOST_LENGTH}/"):
        assert canonical(url) == url


@given(st.text())
def test_canonical_form_is_a_fixed_point_for_any_text(text: str) -> None:
    for url in (text, "https://" + text):
        try:
            base = canonical(url)
        except ValueError:
            continue
        assert base.endswith("/")
        assert canonical(base) == base


# reference 3.6-a
@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://h/foo", "foo"),
        ("https://h/foo/sub", "foo"),
        ("https://h:443/foo/", "foo"),
        ("https://h/foobar", None),
        ("https://h", None),
        ("http://h/foo", None),
        ("https://H/foo", "foo"),
        ("HTTPS://H:443/%66oo", "foo"),
        ("https://h/foo/..%2Fbar", None),
        ("https://h/%2e%2e/foo/", None),
        ("https://h:8443/foo", None),
        ("https://other/", "root"),
        ("https://other/anything/below", "root"),
        ("http://second/", "root"),
        ("https://plain/", None),
        ("http://plain/", "plain"),
        ("https://sub.other/", None),
    ],
)
def test_url_is_matched_by_prefix_within_its_origin(url: str, expected: str | None) -> None:
    backends = Backends(
        [
            backend("foo", "https://h/foo"),
            backend("root", "https://other", "http://second"),
            backend("plain", "http://plain/"),
        ]
    )
    found = backends.find(url)
    assert (found.id if found else None) == expected


# reference 3.6-a
def test_first_backend_in_the_order_of_the_configuration_wins() -> None:
    wide, narrow = backend("wide", "https://h/"), backend("narrow", "https://h/foo/")
    assert Backends([wide, narrow]).find("https://h/foo/") is wide
    assert Backends([narrow, wide]).find("https://h/foo/") is narrow
    assert Backends([narrow, wide]).find("https://h/bar/") is wide


# reference 3.6-e
@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://h/one", "https://h/one/"),
        ("https://H/one/apps/files/x.json", "https://h/one/"),
        ("https://h/one/two", "https://h/one/two/"),
        ("https://h/one/two/three", "https://h/one/two/"),
        ("https://h/one/twofold", "https://h/one/"),
        ("HTTP://Other/x", "http://other/"),
    ],
)
def test_requests_go_to_the_configured_url_whatever_the_client_appends(url: str, expected: str) -> None:
    own = backend("own", "https://H/one", "http://other", "https://h/one/two")
    assert Backends([own]).find_with_base_url(url) == (own, expected)
    assert base_of(own, canonical(url)) == expected


# reference 3.6-e
def test_base_url_of_a_changed_backend_is_its_first_url() -> None:
    assert base_of(backend("own", "https://New/", "https://other/"), "https://old/") == "https://new/"
    assert base_of(backend(COMPAT), "https://old/") == "https://old/"


# reference 3.6-c
def test_compat_matches_urls_that_no_other_backend_matches() -> None:
    own, compat = backend("own", "https://h/"), backend(COMPAT)
    backends = Backends([own], compat=compat)
    assert backends.find("https://h/") is own
    assert backends.find("http://localhost:1234/x") is compat
    assert backends.find_with_base_url("http://LOCALHOST:1234/x") == (compat, "http://localhost:1234/x/")
    assert backends.find_with_base_url("https://h/x") == (own, "https://h/")
    assert list(backends) == [own, compat]
    assert len(backends) == 2
    assert backends.by_id(COMPAT) is compat


def test_backend_is_found_by_id() -> None:
    one = backend("one", "https://h/")
    assert Backends([one]).by_id("one") is one
    assert Backends([one]).by_id("two") is None


# reference 3.6-d
def test_two_backends_with_the_same_id_are_refused() -> None:
    with pytest.raises(ValueError, match='two backends have the id "a"'):
        Backends([backend("a", "https://h/"), backend("a", "https://i/")])


# reference 3.6-d
def test_two_backends_with_the_same_url_are_refused_and_both_named() -> None:
    with pytest.raises(ValueError, match='"a" and "b" have the same URL https://h/'):
        Backends([backend("a", "https://h:443"), backend("b", "https://h/")])


def test_backend_with_an_invalid_url_is_refused() -> None:
    with pytest.raises(ValueError, match="absolute"):
        Backends([backend("a", "cloud.example.com")])


def test_secrets_are_listed_by_backend() -> None:
    backends = Backends([Backend("a", ("https://a.example/",), "one"), Backend("b", ("https://b.example/",), "two")])
    assert backends.secrets == {"a": "one", "b": "two"}


# reference 3.6-f
def test_session_continues_with_the_settings_of_the_same_nextcloud_only() -> None:
    before, compat = Backend("a", ("https://a.example/",), "one"), Backend(COMPAT, (), "any")
    moved, other = Backend("a", ("https://new.example/",), "one"), Backend("a", ("https://new.example/",), "two")
    swapped = Backend("b", before.urls, "one")
    for backends, continues in (
        (Backends([before]), True),
        (Backends([moved]), True),
        (Backends([moved], compat), True),
        (Backends([other]), False),
        (Backends([other], compat), False),
        (Backends([other, swapped]), False),
        (Backends([swapped]), False),
        (Backends([]), True),
        (Backends([], compat), True),
    ):
        assert backends.may_continue(before, "https://a.example/") is continues
    assert Backends([], Backend(COMPAT, (), "changed")).may_continue(compat, "https://a.example/")
    assert not Backends([before]).may_continue(compat, "https://a.example/")
