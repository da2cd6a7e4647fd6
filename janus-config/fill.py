#!/usr/bin/env python3
"""Write a directory from which Janus runs: the files beside this script with their placeholders filled in.

    fill.py DIRECTORY [NAME=VALUE ...]

A value comes from the command line, else from the environment (``JANUS_`` before the name), else from the table
``DEFAULTS``. Start Janus with ``janus -F DIRECTORY/conf -C DIRECTORY/conf/janus.jcfg``. Needs Python 3.9 and nothing
else; can be imported (``fill``).
"""

from __future__ import annotations

import os
import re
import socket
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent

DEFAULTS = {
    "LISTEN": "127.0.0.1",  # address of the WebSocket and Admin APIs
    "WS_PORT": "8188",  # Janus' API
    "ADMIN_PORT": "7188",  # Admin API; served when ADMIN_SECRET is set
    "API_SECRET": "",  # [[mcu.janus]] api_secret
    "TOKEN_AUTH": "false",  # "true": the gateway's `token` is checked
    "TOKEN_SECRET": "",  # key of signed tokens; empty: tokens are added with the Admin API
    "ADMIN_SECRET": "",  # [[mcu.janus]] admin_secret
    "ADMIN_KEY": "",  # [[mcu.janus]] admin_key
    "SERVER_NAME": "portunus",
    "SESSION_TIMEOUT": "60",  # seconds without a keepalive; the gateway sends one every 3
    "RECLAIM_TIMEOUT": "10",  # seconds for which calls outlive the gateway's connection; 0: they end with it
    "EVENT_LOOPS": "4",  # threads that carry the media
    "RTP_PORTS": "20000-29999",  # UDP, one port for each PeerConnection; to be open from outside
    "IPV6": "false",
    "ICE_INTERFACES": "",  # for example "eth0" or "192.0.2."; empty: all but loopback
    "PUBLIC_ADDRESS": "",  # the address that clients reach, if Janus is behind 1:1 NAT
    "STUN_SERVER": "",
    "STUN_PORT": "",
    "EVENTS_URL": "",  # where Janus sends events: the gateway's "ws://127.0.0.1:8080/spreed"; empty: none are sent
    "SLOW_LINK": "4",  # packets lost in a second, on one m-line in one direction, that cause an event; "0": none
    "MODULES": "",  # folder of Janus' modules; empty: that of the distribution
    "PLUGINS": "libjanus_videoroom.so",  # several are separated by commas
    "DATACHANNELS": "",  # path of the library compiled from datachannels.c; empty: VideoRoom unchanged
}
MODULE_FOLDERS = (
    "/usr/lib/x86_64-linux-gnu/janus",
    "/usr/lib/aarch64-linux-gnu/janus",
    "/usr/lib/janus",
    "/usr/local/lib/janus",
    "/opt/janus/lib/janus",
)
PLACEHOLDER = re.compile(r"@([A-Z0-9_]+)@")
UNSAFE = re.compile(r'["\\\x00-\x1f\x7f]')


class FillError(Exception):
    """A value that cannot be used; the text is one sentence."""


def fill(directory: Path, values: dict[str, str]) -> None:
    """Write ``conf/`` and the folders of module links into ``directory``, which is created if it is missing.

    Raises:
        FillError: a name is unknown, a value does not fit into a file, Janus' modules are not installed, or no
            interface of this machine has the address ``LISTEN``.
    """
    settings = {**DEFAULTS, **values}
    for name, value in settings.items():
        if name not in DEFAULTS:
            raise FillError(f"there is no value {name}")
        if UNSAFE.search(value):
            raise FillError(f"the value of {name} holds a quote, a backslash or a control character")
    check_listen_address(settings["LISTEN"])
    events = bool(settings["EVENTS_URL"])
    settings |= {
        "DIRECTORY": str(directory.resolve()),
        "EVENTS": "true" if events else "false",
        "ADMIN": "true" if settings["ADMIN_SECRET"] else "false",
        "LOCK_RTP_FORWARD": "true" if settings["ADMIN_KEY"] else "false",
    }
    link_modules(directory, settings, events)
    configuration = directory / "conf"
    configuration.mkdir(parents=True, exist_ok=True)
    for source in sorted(HERE.glob("*.jcfg")):
        target = configuration / source.name
        target.touch()
        target.chmod(0o600)  # secrets are inside
        target.write_text(fill_text(source.read_text(encoding="utf-8"), settings), encoding="utf-8")


def check_listen_address(address: str) -> None:
    """Refuse an address that no interface has: Janus 1.1.2 would listen on all interfaces instead."""
    try:
        family, kind, protocol, _, target = socket.getaddrinfo(address, 0, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.bind(target)
    except (OSError, UnicodeError):
        raise FillError("no interface of this machine has the address LISTEN: Janus might listen on all") from None


def fill_text(text: str, settings: dict[str, str]) -> str:
    """Replace the placeholders of one file; a line with a placeholder that has no value is left out."""
    lines = []
    for line in text.splitlines(keepends=True):
        names = [] if line.lstrip().startswith("#") else PLACEHOLDER.findall(line)
        if all(settings[name] for name in names):
            lines.append(PLACEHOLDER.sub(lambda match: settings[match[1]], line) if names else line)
    return "".join(lines)


def link_modules(directory: Path, settings: dict[str, str], events: bool) -> None:
    """Create the folders of links to the modules that Janus loads."""
    folders = [settings["MODULES"]] if settings["MODULES"] else MODULE_FOLDERS
    modules = next((Path(folder) for folder in folders if Path(folder).is_dir()), None)
    if modules is None:
        raise FillError("Janus' modules are not in " + " or ".join(folders) + ": install Janus (apt-get install janus)")
    plugins = [modules / "plugins" / name for name in settings["PLUGINS"].split(",") if name]
    wrapped = []
    if settings["DATACHANNELS"]:
        wrapped = [plugin for plugin in plugins if plugin.name == "libjanus_videoroom.so"]
        plugins = [plugin for plugin in plugins if plugin not in wrapped] + [Path(settings["DATACHANNELS"]).resolve()]
    link(directory / "plugins", plugins)
    link(directory / "wrapped", wrapped)
    link(directory / "transports", [modules / "transports" / "libjanus_websockets.so"])
    link(directory / "events", [modules / "events" / "libjanus_wsevh.so"] if events else [])
    link(directory / "loggers", [])


def link(folder: Path, modules: list[Path]) -> None:
    """Create a folder that holds links to these modules and nothing else."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    for module in modules:
        if not module.exists():
            raise FillError(f"this Janus has no {module.name}")
        (folder / module.name).symlink_to(module)


def main(arguments: list[str]) -> int:
    """Write the directory named on the command line and return the exit status."""
    if not arguments or arguments[0].startswith("-") or not all("=" in pair for pair in arguments[1:]):
        sys.stderr.write("usage: fill.py DIRECTORY [NAME=VALUE ...]\n")
        return 2
    values = {name: os.environ[f"JANUS_{name}"] for name in DEFAULTS if f"JANUS_{name}" in os.environ}
    for pair in arguments[1:]:
        name, _, value = pair.partition("=")
        values[name] = value
    try:
        fill(Path(arguments[0]), values)
    except FillError as error:
        sys.stderr.write(f"fill.py: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
