"""Simulcast layers are read from an offer and ordered by resolution."""

from __future__ import annotations

import pytest

from sdp.document import MediaSection, parse
from sdp.simulcast import lowest_first, sent_layers
from tests.sdp.recorded import FIXTURES


def section(*attributes: str) -> MediaSection:
    lines = ["v=0", "o=- 1 1 IN IP4 0.0.0.0", "s=-", "t=0 0", "m=video 9 UDP/TLS/RTP/SAVPF 96"]
    return parse("\r\n".join((*lines, *(f"a={attribute}" for attribute in attributes), ""))).media[0]


def rid_attributes(*rids: str) -> list[str]:
    return [f"rid:{rid} send" for rid in rids]


@pytest.mark.parametrize("browser", ["chromium", "firefox"])
def test_layers_of_browsers_are_read_in_their_order(browser: str) -> None:
    offer = parse((FIXTURES / browser / "simulcast.offer.sdp").read_text())
    (video,) = [media for media in offer.media if media.kind == "video"]
    layers = sent_layers(video)
    assert list(layers) == ["h", "m", "l"]
    assert lowest_first(layers) == ["l", "m", "h"]


@pytest.mark.parametrize(
    ("attributes", "layers"),
    [
        ([], ()),
        (["simulcast:send q;h;f", *rid_attributes("q", "h", "f")], ("q", "h", "f")),
        (["simulcast:recv a;b send q;f", *rid_attributes("q", "f")], ("q", "f")),
        (["simulcast:recv q;f", *rid_attributes("q", "f")], ()),
        (["simulcast:send ~q;~f", *rid_attributes("q", "f")], ("q", "f")),
        (["simulcast:send q,x;f,y", *rid_attributes("q", "f", "x", "y")], ("q", "f")),
        (["simulcast:send q;h;f", *rid_attributes("q", "f")], ("q", "f")),  # a name without a=rid
        (["simulcast:send q;f", "rid:q recv", "rid:f send"], ()),
        (["simulcast:send q", *rid_attributes("q")], ()),
        (["simulcast:send q;q", *rid_attributes("q")], ()),
        (["simulcast:send a-b;\u00e9;f", *rid_attributes("a-b", "\u00e9", "f")], ()),
        (["simulcast:send", *rid_attributes("q", "f")], ()),
        (["simulcast: ;;", "rid", "rid:q"], ()),
        (["rid:q send pt=96;max-width=320", "rid:f send", "simulcast:send q;f"], ("q", "f")),
    ],
)
def test_sent_layers_are_read(attributes: list[str], layers: tuple[str, ...]) -> None:
    assert sent_layers(section(*attributes)) == layers


@pytest.mark.parametrize(
    ("offered", "ordered"),
    [
        ("q h f", "q h f"),
        ("f h q", "q h f"),
        ("f h", "h f"),
        ("h q f", "q h f"),
        ("h m l", "l m h"),
        ("l m h", "l m h"),
        ("low medium high", "low medium high"),
        ("hi mid lo", "lo mid hi"),
        ("h l", "l h"),
        ("0 1 2", "0 1 2"),
        ("r0 r1 r2", "r0 r1 r2"),
        ("a b", "a b"),
        ("q m", "q m"),
    ],
)
def test_layers_are_ordered_by_their_names(offered: str, ordered: str) -> None:
    assert lowest_first(offered.split()) == ordered.split()
