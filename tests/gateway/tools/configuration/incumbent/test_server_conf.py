"""Reading ``server.conf``: case, comments, references, variables."""

from __future__ import annotations

import pytest

from gateway.tools.configuration.incumbent.server_conf import ServerConf, ServerConfError


def conf(text: str, **environ: str) -> ServerConf:
    return ServerConf(text, environ)


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("timeout = 10", "10"),
        ("TimeOut=10", "10"),
        ("timeout: 10", "10"),
        ("  timeout = 10 # seconds", "10"),
        ("timeout = 10 ; seconds", "10"),
        ("timeout = a#b;c", "a#b;c"),
        ("timeout =", ""),
        ("timeout = a:b=c", "a:b=c"),
        ("# timeout = 10", ""),
        (";timeout = 10", ""),
        ("timeout = 1\ntimeout = 2", "2"),
        ("timeout = a\n  b", "a\nb"),
    ],
)
def test_option_is_read(line: str, value: str) -> None:
    file = conf(f"\ufeff[Backend] # comment\r\n{line}\n[other]\ntimeout = 3\n")
    assert file.text("backend", "timeout") == value


def test_name_of_an_override_may_contain_colons() -> None:
    assert conf("[geoip-overrides]\n2001:db8::/32 = DE\n10.0.0.1: FR").options("geoip-overrides") == [
        "2001:db8::/32",
        "10.0.0.1",
    ]


def test_reference_is_resolved_in_the_section_and_in_the_default_section() -> None:
    file = conf("[DEFAULT]\na = 1\nb = 2\n[x]\nb = 3\nc = %(a)s%(B)s%(d)s\nd = (%(b)s)")
    assert file.text("x", "c") == "13(3)"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[x]\na = %(a)s", "[x] a refers to itself"),
        ("[x]\na = %(b)s", "[x] a refers to the option b, which does not exist"),
        ("[http]\nlisten = $(HOST):1", "[http] listen names the variable HOST, which is not set"),
    ],
)
def test_unresolvable_reference_is_named(text: str, sentence: str) -> None:
    file = conf(text)
    section, option = ("x", "a") if "[x]" in text else ("http", "listen")
    with pytest.raises(ServerConfError) as caught:
        file.text(section, option)
    assert str(caught.value).startswith(sentence)


def test_variables_are_expanded_in_some_options_only() -> None:
    file = conf(
        "[http]\nlisten = $(A)$(B)\nreadtimeout = $(A)\n[backend]\nbackends = c\n[c]\nurls = $(A)\n", A="1", B="$(A)"
    )
    assert file.text("http", "listen") == "1$(A)"
    assert file.text("http", "readtimeout") == "$(A)"
    assert file.text("c", "urls") == "1"


@pytest.mark.parametrize("text", ["a = 1", "words", "[x]\nwords", "[x]\n= 1"])
def test_line_that_is_no_section_option_or_comment_is_named(text: str) -> None:
    with pytest.raises(ServerConfError, match=rf"line {len(text.splitlines())} is neither"):
        conf(text)


@pytest.mark.parametrize(
    ("value", "number", "flag"),
    [
        ("1", 1, True),
        ("0", 0, False),
        ("-1", 0, False),
        ("x", 0, False),
        ("Yes", 0, True),
        ("off", 0, False),
        ("", 0, False),
    ],
)
def test_text_is_read_as_a_number_and_as_a_flag(value: str, number: int, flag: bool) -> None:
    file = conf(f"[x]\na = {value}")
    assert (file.take_number("x", "a"), file.take_flag("x", "a")) == (number, flag)
