"""Lines of the keys of a TOML text, compared with the keys that ``tomllib`` reads."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.toml_lines import KeyPath, find_lines

TEXT = '''\
# a comment with [brackets] and "quotes"
top = 1
[a]
"quoted key" = "x # no comment" # a comment
b.c = 1979-05-27 07:32:00
list = [
  "one", # [
  """two
and ]""", 'three',

  [4]
]
table = { x = 1, y.z = "}" }

[[backend]]
id = 'one'
text = """
a = 1
"""""
after = true
[backend.quality]
floor = 1
[[backend]]
urls = []
[[backend.part]]
[[backend.part]]
n = -1.5
[backend.quality.deep]
k = 1
'''


def test_keys_of_every_form_have_their_lines() -> None:
    assert find_lines(TEXT) == {
        ("top",): 2,
        ("a",): 3,
        ("a", "quoted key"): 4,
        ("a", "b", "c"): 5,
        ("a", "list"): 6,
        ("a", "list", 0): 7,
        ("a", "list", 1): 8,
        ("a", "list", 2): 9,
        ("a", "list", 3): 11,
        ("a", "list", 3, 0): 11,
        ("a", "table"): 13,
        ("a", "table", "x"): 13,
        ("a", "table", "y", "z"): 13,
        ("backend",): 15,
        ("backend", 0): 15,
        ("backend", 0, "id"): 16,
        ("backend", 0, "text"): 17,
        ("backend", 0, "after"): 20,
        ("backend", 0, "quality"): 21,
        ("backend", 0, "quality", "floor"): 22,
        ("backend", 1): 23,
        ("backend", 1, "urls"): 24,
        ("backend", 1, "part"): 25,
        ("backend", 1, "part", 0): 25,
        ("backend", 1, "part", 1): 26,
        ("backend", 1, "part", 1, "n"): 27,
        ("backend", 1, "quality", "deep"): 28,
        ("backend", 1, "quality", "deep", "k"): 29,
    }


@pytest.mark.parametrize("text", ["", "\n\n", "# only this", "a = 1", "[a]", "a = 1\r\nb = 2\r\n", "a = '''\n'''''"])
def test_top_level_keys_of_short_texts_are_found(text: str) -> None:
    assert {path for path in find_lines(text) if len(path) == 1} == {(key,) for key in tomllib.loads(text)}


keys = st.sampled_from(["a", "b-1", "'c d'", '"e.f"', '"g\\u00e9"', "h . 'i j'"])
values = st.sampled_from(
    [
        "1",
        "-1.5e3",
        "inf",
        "true",
        "1979-05-27T07:32:00Z",
        "07:32:00",
        '"#[{"',
        "'\\'",
        '"\\""',
        '"""x\n"y\\""""',
        '""',
        "[]",
        "[ ]",
        "[\n]",
        "['''\n]''', 2,]",
        "[[1,\n2], # ]\n [3]]",
        "{}",
        "{ k = [1, 2], 'l m' = '}' }",
        "[{k = 1}]",
    ]
)
headers = st.sampled_from(["[s]", "[ s . 't u' ]", "[[many]]", "[many.below]", "[[many.more]]", "# [s]", "", '[["x"]]'])
blanks = st.sampled_from(["", "\n", "# note = 1\n", "\n\n  "])


@given(st.lists(st.one_of(headers, st.tuples(keys, values, blanks).map(lambda kvb: f"{kvb[2]}{kvb[0]}= {kvb[1]}"))))
def test_every_value_that_tomllib_reads_has_a_line_that_holds_its_key(parts: list[str]) -> None:
    text = "\n".join(parts)
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return
    lines = find_lines(text)
    rows = text.split("\n")
    for path in paths(document):
        assert path in lines
        key = next(key for key in reversed(path) if isinstance(key, str))
        if isinstance(path[-1], str):
            assert key.encode("ascii", "backslashreplace").decode()[:2].strip("\\") in rows[lines[path] - 1]


def paths(node: object, at: KeyPath = ()) -> Iterator[KeyPath]:
    """Yield the path of each value that is neither a table nor a list of tables."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield from paths(value, (*at, key))
    elif isinstance(node, list) and node and isinstance(node[0], dict):
        for index, value in enumerate(node):
            yield from paths(value, (*at, index))
    else:
        yield at
