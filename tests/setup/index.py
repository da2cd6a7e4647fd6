"""Package index on loopback: the simple API (PEP 503) over a folder of wheels, and wheels made for it."""

from __future__ import annotations

import contextlib
import email.message
import email.parser
import re
import threading
import zipfile
from collections.abc import Iterator, Sequence
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from packaging.utils import parse_wheel_filename

NEWER_VERSION = "9999.0"  # version of the newer releases


def metadata(wheel: Path) -> email.message.Message:
    """Return the core metadata of a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", name))
        return email.parser.Parser().parsestr(archive.read(name).decode())


def make_wheel(folder: Path, name: str, version: str, extras: Sequence[str] = ()) -> Path:
    """Write a wheel that holds nothing but its metadata."""
    stem = f"{name.replace('-', '_')}-{version}"
    file = folder / f"{stem}-py3-none-any.whl"
    provides = "".join(f"Provides-Extra: {extra}\n" for extra in extras)
    parts = {
        "METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{provides}",
        "WHEEL": "Wheel-Version: 1.0\nGenerator: portunus\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{stem}.dist-info/{part},,\n" for part in (*parts, "RECORD"))
    with zipfile.ZipFile(file, "w") as archive:
        for part, text in {**parts, "RECORD": record}.items():
            archive.writestr(f"{stem}.dist-info/{part}", text)
    return file


def write_pages(folder: Path) -> None:
    """Write the page of each project whose wheels lie in ``folder/files``. The links carry no hashes."""
    links: dict[str, list[str]] = {}
    for wheel in sorted((folder / "files").iterdir()):
        links.setdefault(parse_wheel_filename(wheel.name)[0], []).append(
            f'<a href="../../files/{wheel.name}">{wheel.name}</a>'
        )
    for project, anchors in links.items():
        page = folder / "simple" / project / "index.html"
        page.parent.mkdir(parents=True)
        page.write_text(f"<!doctype html><title>{project}</title>{'<br>'.join(anchors)}\n")


class QuietHandler(SimpleHTTPRequestHandler):
    """Serve files and log nothing."""

    def log_message(self, format: str, *args: object) -> None:
        """Log no request."""


@contextlib.contextmanager
def serving_index(folder: Path) -> Iterator[str]:
    """Serve an index and yield its address."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/simple/"
        finally:
            server.shutdown()
            thread.join()
