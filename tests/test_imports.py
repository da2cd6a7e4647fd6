"""The import rules of each package, and the allow-list of the pure ones (docs/architecture.md, "Import rules")."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
OWN_PACKAGES = ("gateway", "mcu", "sdp")

# The packages of this repository that each part may import. The longest name that fits a module counts; a name
# stands for all modules below it, and each part may import itself.
ALL = OWN_PACKAGES
EDGE = (
    "gateway.wire",
    "gateway.core",
    "gateway.limited_log",
    "gateway.standstill",
    "gateway.flows",
    "gateway.metrics",
    "gateway.tracing",
    "gateway.version",
    "mcu.base",
)
FLOW_SERVICES = (  # every folder of the flows may import these
    "gateway.wire",
    "gateway.core",
    "gateway.limited_log",
    "gateway.standstill",
    "gateway.tracing",
    "gateway.flows.backend_turns",
    "gateway.flows.bye",
    "gateway.flows.call_log",
    "gateway.flows.call_recorder",
    "gateway.flows.call_traces",
    "gateway.flows.client_connection",
    "gateway.flows.delivery",
    "gateway.flows.end_requests",
    "gateway.flows.ports",
    "gateway.flows.postponed",
    "gateway.flows.refusals",
    "gateway.flows.services",
    "gateway.flows.settings",
    "gateway.flows.tasks",
    "gateway.flows.throttling",
    "gateway.flows.traffic",
)
# The parts that each SFU may import.
SFU_SHARED = ("mcu.base", "mcu.listener_gate", "mcu.publisher_registry", "mcu.stream_gauges")
RULES: dict[str, tuple[str, ...]] = {
    "sdp": (),
    "mcu": (),
    "mcu.base": ("sdp",),
    "mcu.request_trace": (),
    "mcu.listener_gate": ("mcu.base",),
    "mcu.publisher_registry": ("mcu.base",),
    "mcu.stream_gauges": ("mcu.base",),
    "mcu.janus": (*SFU_SHARED, "sdp"),
    "mcu.janus.labels": ("mcu.base",),
    "mcu.janus.settings": ("mcu.janus.labels",),
    "mcu.janus.connection": ("mcu.base", "mcu.request_trace", "mcu.janus.labels", "mcu.janus.settings"),
    "mcu.janus.connection.messages": (),
    "mcu.janus.connection.transactions": ("mcu.janus.connection.messages",),
    "mcu.janus.connection.back_off": (),
    "mcu.janus.events": ("mcu.base",),
    "mcu.janus.events.frames": (),
    "mcu.janus.rooms": ("mcu.base", "sdp", "mcu.janus.labels", "mcu.janus.settings", "mcu.janus.connection"),
    "mcu.janus.streams": (
        *SFU_SHARED,
        "sdp",
        "mcu.janus.labels",
        "mcu.janus.connection",
        "mcu.janus.events",
        "mcu.janus.rooms",
    ),
    "mcu.janus.placement": (
        "mcu.base",
        "mcu.janus.settings",
        "mcu.janus.connection",
        "mcu.janus.events",
        "mcu.janus.rooms",
        "mcu.janus.streams",
    ),
    "mcu.janus.placement.ranking": (),
    "mcu.inprocess": (*SFU_SHARED, "sdp"),
    "mcu.inprocess.settings": (),
    "mcu.inprocess.negotiation": ("mcu.base", "sdp"),
    "mcu.inprocess.forwarding": ("mcu.base", "mcu.inprocess.negotiation.parameters"),
    "mcu.inprocess.transport": ("mcu.base", "sdp", "mcu.inprocess.negotiation.parameters", "mcu.inprocess.settings"),
    "mcu.factory": ("mcu.base", "mcu.janus", "mcu.inprocess"),
    "gateway": (),
    "gateway.version": (),
    "gateway.wire": (),
    "gateway.log": (),
    "gateway.limited_log": (),
    "gateway.standstill": (),
    "gateway.metrics": (),
    "gateway.tracing": (),
    "gateway.core": ("gateway.wire",),
    "gateway.flows": ("gateway.wire", "gateway.core", "sdp", "mcu.base"),
    "gateway.flows.tasks": (),
    "gateway.flows.backend_turns": ("gateway.flows.ports", "gateway.limited_log"),
    "gateway.flows.bye": ("gateway.wire",),
    "gateway.flows.client_connection": ("gateway.core", "gateway.flows.ports"),
    "gateway.flows.ports": ("gateway.wire", "gateway.core"),
    "gateway.flows.postponed": ("gateway.wire", "gateway.core", "gateway.flows.tasks"),
    "gateway.flows.settings": ("gateway.core", "sdp"),
    "gateway.flows.end_requests": ("gateway.core",),
    "gateway.flows.delivery": ("gateway.core", "gateway.flows.end_requests", "gateway.flows.ports"),
    "gateway.flows.call_log": ("gateway.wire", "gateway.core", "gateway.flows.call_recorder", "mcu.base"),
    "gateway.flows.call_recorder": (),
    "gateway.flows.call_traces": (
        "gateway.wire",
        "gateway.core",
        "gateway.tracing",
        "gateway.flows.call_log",
        "mcu.base",
        "mcu.request_trace",
    ),
    "gateway.flows.refused_urls": ("gateway.core",),
    "gateway.flows.refusals": (
        "gateway.wire",
        "gateway.core",
        "gateway.limited_log",
        "gateway.flows.ports",
        "gateway.flows.refused_urls",
    ),
    "gateway.flows.throttling": ("gateway.wire", "gateway.core", "gateway.flows.ports"),
    "gateway.flows.services": (*FLOW_SERVICES, "mcu.base"),
    "gateway.flows.traffic": ("gateway.core", "gateway.flows.postponed", "gateway.flows.services"),
    "gateway.flows.media": (*FLOW_SERVICES, "sdp", "mcu.base"),
    "gateway.flows.media.sfu": ("mcu.base",),
    "gateway.flows.media.stream_trace": (
        "gateway.wire",
        "gateway.tracing",
        "gateway.flows.call_traces",
        "gateway.flows.postponed",
        "mcu.base",
        "mcu.request_trace",
    ),
    "gateway.flows.media.validation": ("gateway.wire", "sdp", "mcu.base"),
    "gateway.flows.media.codec_plan": (*FLOW_SERVICES, "sdp"),
    "gateway.flows.media.quality": (*FLOW_SERVICES, "gateway.flows.media.codec_plan", "sdp", "mcu.base"),
    "gateway.flows.rooms": (*FLOW_SERVICES, "gateway.flows.media"),
    "gateway.flows.internal": (*FLOW_SERVICES, "gateway.flows.media", "gateway.flows.rooms"),
    "gateway.flows.sessions": (*FLOW_SERVICES, "gateway.flows.rooms", "gateway.flows.internal"),
    "gateway.flows.federation": (*FLOW_SERVICES, "gateway.flows.rooms", "gateway.flows.media"),
    "gateway.flows.backend": (
        *FLOW_SERVICES,
        "gateway.flows.media",
        "gateway.flows.rooms",
        "gateway.flows.internal",
        "gateway.flows.sessions",
    ),
    "gateway.edge": (*EDGE, "gateway.edge.http"),
    "gateway.edge.http": ("gateway.core", "gateway.limited_log", "gateway.standstill"),
    "gateway.edge.clients": (*EDGE, "gateway.edge.http"),
    "gateway.edge.nextcloud": (*EDGE, "gateway.edge.http"),
    "gateway.edge.operator": (*EDGE, "gateway.edge.http"),
    "gateway.edge.geo": ("gateway.core",),
    "gateway.edge.federation": (*EDGE, "gateway.edge.http"),
    "gateway.edge.federation.addresses": ("gateway.core", "gateway.edge.http"),
    "gateway.config": ("gateway.core.limits", "gateway.core.backends", "mcu.factory"),
    "gateway.settings": ("gateway.config", "gateway.core", "gateway.flows.settings", "gateway.edge", "sdp"),
    "gateway.app": ALL,
    "gateway.tools": ALL,
    "gateway.cli": ALL,
    "gateway.__main__": ALL,
}

# The pure layers: no clock, no entropy, no input and output. They import this much and nothing else.
PURE = (
    "sdp",
    "gateway.wire",
    "gateway.core",
    "mcu.janus.labels",
    "mcu.janus.connection.messages",
    "mcu.janus.connection.transactions",
    "mcu.janus.connection.back_off",
    "mcu.janus.events.frames",
    "mcu.janus.placement.ranking",
    "mcu.janus.streams.descriptions",
    "mcu.janus.streams.offer_lines",
    "mcu.janus.streams.forwarding",
    "mcu.janus.streams.layer_order",
    "mcu.inprocess.negotiation",
)
PURE_MAY = frozenset(
    {"__future__", "typing", "collections", "dataclasses", "enum", "re", "base64", "hashlib", "hmac", "struct"}
    | {"ipaddress", "itertools", "functools", "math", "heapq", "msgspec"}
)
PURE_EXCEPTIONS = {
    "gateway.wire.token": frozenset({"jwt", "cryptography"}),
    "gateway.wire.client": frozenset({"json"}),  # msgspec refuses a lone surrogate escape that has to be relayed
}

# Third-party packages, and the parts that may import them; msgspec is free, and any other package is forbidden.
WEB = ("gateway.edge", "gateway.app", "gateway.tools", "gateway.cli", "mcu.janus")
THIRD_PARTY: dict[str, tuple[str, ...]] = {
    "aiohttp": WEB,
    "aiohappyeyeballs": ("gateway.edge",),
    "yarl": WEB,
    "multidict": WEB,
    "aiortc": ("mcu.inprocess", "gateway.tools"),
    "aioice": ("mcu.inprocess", "gateway.tools"),
    "av": ("mcu.inprocess", "gateway.tools"),
    "pylibsrtp": ("mcu.inprocess",),
    "OpenSSL": ("mcu.inprocess",),
    "prometheus_client": ("gateway.metrics",),
    "maxminddb": ("gateway.edge",),
    "opentelemetry": ("gateway.edge.telemetry",),
    "structlog": ("gateway.log",),
    "click": ("gateway.cli", "gateway.tools"),
    "uvloop": ("gateway.app", "gateway.cli", "gateway.tools"),
    "jwt": ("gateway.wire.token", "gateway.tools"),
    "cryptography": ("gateway.wire.token", "gateway.tools", "mcu.inprocess"),
}


def is_within(module: str, part: str) -> bool:
    return module == part or module.startswith(part + ".")


def imported_modules(source: str, module: str, is_package: bool) -> Iterator[tuple[int, str]]:
    """Yield (line, module) of every import, those inside functions and by literal name included."""
    package = module if is_package else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = package.split(".")
                base = ".".join([*parts[: len(parts) - node.level + 1], *filter(None, [node.module])])
            # ``from gateway import log`` imports gateway.log; ``from gateway.log import ROOT`` a name of it
            yield from (
                (node.lineno, f"{base}.{alias.name}" if is_module(f"{base}.{alias.name}") else base)
                for alias in node.names
            )
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in (
            "importlib.import_module",
            "import_module",
            "__import__",
        ):
            name = node.args[0] if node.args else None
            yield node.lineno, str(name.value) if isinstance(name, ast.Constant) else "(computed at run time)"


def is_module(name: str) -> bool:
    path = ROOT.joinpath(*name.split("."))
    return path.with_suffix(".py").exists() or (path / "__init__.py").exists()


def violations(source: str, module: str, is_package: bool = False) -> list[str]:
    """Return a sentence for each import that a module must not have."""
    found = []
    part = max((name for name in RULES if is_within(module, name)), key=len)
    for line, name in imported_modules(source, module, is_package):
        top = name.partition(".")[0]
        if top in OWN_PACKAGES:
            allowed = any(is_within(name, other) for other in (part, *RULES[part]))
        elif is_pure(module):
            allowed = top in PURE_MAY | exceptions(module)
        elif top in THIRD_PARTY:
            allowed = any(is_within(module, other) for other in THIRD_PARTY[top])
        else:
            allowed = top in sys.stdlib_module_names or top == "msgspec"
        if not allowed:
            found.append(f"line {line}: {module} imports {name}")
    return found


def is_pure(module: str) -> bool:
    return any(is_within(module, part) for part in PURE)


def exceptions(module: str) -> frozenset[str]:
    return PURE_EXCEPTIONS.get(module, frozenset())


def sources() -> list[Path]:
    return [path for top in OWN_PACKAGES for path in sorted((ROOT / top).rglob("*.py"))]


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_module_imports_only_what_its_part_may(path: Path) -> None:
    parts = path.relative_to(ROOT).with_suffix("").parts
    is_package = parts[-1] == "__init__"
    module = ".".join(parts[:-1] if is_package else parts)
    found = violations(path.read_text(encoding="utf-8"), module, is_package)
    assert not found, f"{path.relative_to(ROOT)}: " + "; ".join(found)


@pytest.mark.parametrize(
    ("module", "source", "name"),
    [
        ("sdp.codecs", "import gateway.wire.media", "gateway.wire.media"),
        ("sdp.codecs", "import logging", "logging"),
        ("gateway.wire.client", "from gateway.core import limits", "gateway.core.limits"),
        ("gateway.wire.client", "import time", "time"),
        ("gateway.wire.client", "import jwt", "jwt"),
        ("gateway.core.hub", "import secrets", "secrets"),
        ("gateway.core.hub", "def f():\n    from time import monotonic", "time"),
        ("gateway.core.hub", "import asyncio", "asyncio"),
        ("gateway.core.hub", "from ..flows import ports", "gateway.flows.ports"),
        ("gateway.core.hub", "import gateway", "gateway"),
        ("gateway.flows.media.signaling", "import aiohttp", "aiohttp"),
        ("gateway.flows.media.signaling", "import mcu.janus.backend", "mcu.janus.backend"),
        ("gateway.flows.media.signaling", "from mcu import factory", "mcu.factory"),
        ("gateway.flows.media.signaling", "import importlib\nimportlib.import_module('mcu.janus')", "mcu.janus"),
        ("gateway.flows.media.signaling", "import importlib\nimportlib.import_module(x)", "(computed at run time)"),
        ("gateway.flows.media.signaling", "from gateway import config", "gateway.config"),
        ("gateway.flows.rooms.relay", "from gateway.flows.sessions import hello", "gateway.flows.sessions.hello"),
        (
            "gateway.flows.media.quality",
            "if TYPE_CHECKING:\n    from gateway.flows.media.publication import Publication",
            "gateway.flows.media.publication",
        ),
        ("gateway.flows.internal.dialout", "import gateway.flows.backend.pings", "gateway.flows.backend.pings"),
        ("gateway.edge.clients.websocket", "from mcu.inprocess import backend", "mcu.inprocess.backend"),
        ("gateway.edge.clients.websocket", "from gateway.app import App", "gateway.app"),
        (
            "gateway.edge.clients.websocket",
            "from gateway.edge.nextcloud import client",
            "gateway.edge.nextcloud.client",
        ),
        ("gateway.edge.http.address", "from gateway.flows import ports", "gateway.flows.ports"),
        ("gateway.edge.geo.geoip", "from gateway.edge.http.body import Bodies", "gateway.edge.http.body"),
        ("gateway.config", "from gateway.core.hub import Hub", "gateway.core.hub"),
        ("gateway.log", "from gateway.core.ids import SessionId", "gateway.core.ids"),
        ("mcu.base", "from mcu.janus import labels", "mcu.janus.labels"),
        ("mcu.janus.backend", "from gateway.wire import media", "gateway.wire.media"),
        ("mcu.janus.backend", "import mcu.inprocess", "mcu.inprocess"),
        ("mcu.janus.connection.messages", "import aiohttp", "aiohttp"),
        ("mcu.janus.connection.messages", "import random", "random"),
        ("mcu.janus.connection.session", "from mcu.janus.rooms import sweep", "mcu.janus.rooms.sweep"),
        ("mcu.janus.events.statistics", "from mcu.janus.streams import publisher", "mcu.janus.streams.publisher"),
        ("mcu.janus.streams.publisher", "from mcu.janus.placement.pool import JanusPool", "mcu.janus.placement.pool"),
        ("mcu.inprocess.backend", "import aiohttp", "aiohttp"),
        ("gateway.tools.demo", "import numpy", "numpy"),
    ],
)
def test_violation_is_caught_and_named(module: str, source: str, name: str) -> None:
    (found,) = [sentence for sentence in violations(source, module) if not sentence.endswith(" importlib")]
    assert found.endswith(f"{module} imports {name}")


@pytest.mark.parametrize(
    ("module", "source"),
    [
        (
            "gateway.core.hub",
            "from gateway.wire import backend\nfrom gateway.core.limits import Backend\nimport msgspec",
        ),
        ("gateway.flows.media.signaling", "import asyncio, logging\nfrom mcu.base import Mcu\nimport sdp.codecs"),
        (
            "gateway.edge.operator.status",
            "import aiohttp\nfrom gateway import metrics\nfrom gateway.version import VERSION",
        ),
        ("gateway.wire.token", "import jwt\nfrom cryptography.hazmat.primitives import hashes"),
        ("mcu.janus.connection.connector", "import aiohttp\nfrom mcu.base import McuError\nfrom . import messages"),
        ("gateway.app", "import aiohttp\nimport mcu.janus.backend\nfrom gateway.config import load"),
    ],
)
def test_allowed_imports_are_not_reported(module: str, source: str) -> None:
    assert violations(source, module) == []


def test_every_source_file_is_checked() -> None:
    assert len(sources()) > 20
    assert ROOT / "gateway" / "wire" / "token.py" in sources()
