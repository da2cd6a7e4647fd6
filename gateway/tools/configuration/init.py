"""``portunus config init``: writes a matching set of configurations with new secrets.

The templates are in ``templates/`` beside this file; those of Janus are the files of ``janus-config/``.
"""

from __future__ import annotations

import importlib.metadata
import re
import secrets
import sys
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from msgspec import Struct

from gateway.core.backends import canonical
from gateway.tools.configuration.new_file import write_new

TEMPLATES = Path(__file__).parent / "templates"
SECRET_FILES = {"portunus.toml", "janus.env", "turnserver.conf", "NEXT-STEPS.md"}
PLACEHOLDER = re.compile(r"@([A-Z0-9_]+)@")
SECRETS = (
    "SESSION_SECRET",
    "BACKEND_SECRET",
    "INTERNAL_SECRET",
    "JANUS_API_SECRET",
    "JANUS_ADMIN_KEY",
    "JANUS_ADMIN_SECRET",
    "TURN_SECRET",
)

_domain = re.compile(r"(?=.{1,253}$)(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?")
_path = re.compile(r"/[A-Za-z0-9._/@+-]*")


class InitError(Exception):
    """The set cannot be written; the text is one sentence."""


class InvalidValue(InitError):
    """A value of the site is invalid."""


class Site(Struct, frozen=True):
    """The values that the files of one set share."""

    nextcloud: str  # base URL
    domain: str  # name at which clients and Nextcloud reach the gateway and coturn
    public_address: str = ""  # of this machine, behind 1:1 NAT
    certificate: str = ""  # paths of PEM files; empty: those of certbot
    key: str = ""
    program: str = ""  # path of the command ``portunus``; empty: of the environment in which this process runs
    runtime: str = "/run/portunus"  # folder of the admin socket
    gateway_port: int = 8080
    janus_port: int = 8188
    janus_admin_port: int = 7188
    rtp_ports: str = "20000-29999"
    turn_port: int = 3478
    https_port: int = 443


def write_set(folder: Path, site: Site) -> list[str]:
    """Write the files into a folder that is new or empty, and return their names.

    Raises:
        InvalidValue: a value of ``site`` is invalid.
        InitError: the folder is not empty, or ``janus-config`` is not installed.
        OSError: a file cannot be written.
    """
    values = _values(site)
    texts = {path.name: _render(path.read_text(encoding="utf-8"), values) for path in sorted(TEMPLATES.iterdir())}
    if folder.exists() and any(folder.iterdir()):
        raise InitError(f"{folder} is not empty")
    janus = {f"janus/{path.name}": path.read_bytes() for path in sorted(janus_templates().iterdir()) if path.is_file()}
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    (folder / "janus").mkdir(mode=0o755)
    for name, text in texts.items():
        write_new(folder / name, text, 0o600 if name in SECRET_FILES else 0o644)
    for name, content in janus.items():
        (folder / name).write_bytes(content)
    return sorted([*texts, *janus])


def janus_templates() -> Path:
    """Return the folder ``janus-config``: that of the sources, or the one installed with the package.

    Raises:
        InitError: there is none.
    """
    folder = Path(__file__).parents[3] / "janus-config"
    if (folder / "fill.py").is_file():
        return folder
    try:
        files = importlib.metadata.files("portunus") or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.parts[-2:] == ("janus-config", "fill.py"):
            return Path(str(file.locate())).resolve().parent
    raise InitError("the files of janus-config were not installed with this package")


def _values(site: Site) -> dict[str, str]:
    """Return the values of the placeholders, by name; secrets are new ones."""
    try:
        nextcloud = canonical(site.nextcloud)
    except ValueError as error:
        raise InvalidValue(f"the URL of Nextcloud cannot be used: {error}") from None
    if urlsplit(nextcloud).path.rstrip("/").endswith("/index.php"):
        raise InvalidValue("the URL of Nextcloud must not end with /index.php")
    if not _domain.fullmatch(site.domain.lower()):
        raise InvalidValue("the domain is not the full name of a host, like signal.example.com")
    certbot = f"/etc/letsencrypt/live/{site.domain.lower()}"
    paths = {
        "CERTIFICATE": site.certificate or f"{certbot}/fullchain.pem",
        "KEY": site.key or f"{certbot}/privkey.pem",
        "PROGRAM": site.program or str(Path(sys.prefix) / "bin" / "portunus"),
        "RUNTIME": site.runtime,
    }
    for path in paths.values():
        if not _path.fullmatch(path):
            raise InvalidValue(f"{path} is not an absolute path without blanks and special characters")
    if site.public_address:
        try:
            ip_address(site.public_address)
        except ValueError:
            raise InvalidValue("the public address is not an IP address") from None
    return {
        "NEXTCLOUD": nextcloud,
        "DOMAIN": site.domain.lower(),
        "PUBLIC_ADDRESS": site.public_address,
        "EXTERNAL_ADDRESS": f"external-ip={site.public_address}" if site.public_address else "#external-ip=ADDRESS",
        "GATEWAY_PORT": str(site.gateway_port),
        "JANUS_PORT": str(site.janus_port),
        "JANUS_ADMIN_PORT": str(site.janus_admin_port),
        "RTP_PORTS": site.rtp_ports,
        "TURN_PORT": str(site.turn_port),
        "HTTPS_PORT": str(site.https_port),
        **paths,
        **{name: secrets.token_hex(32) for name in SECRETS},
    }


def _render(text: str, values: dict[str, str]) -> str:
    return PLACEHOLDER.sub(lambda match: values[match[1]], text)
