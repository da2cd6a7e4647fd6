"""Checks of the section ``[tracing]``, without importing OpenTelemetry."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from urllib.parse import urlsplit

from gateway.config.sections import TracingSection
from gateway.config.source import ConfigSource

PACKAGES = ("opentelemetry.sdk.trace", "opentelemetry.exporter.otlp.proto.http")  # of the extra ``tracing``
_INSTALL = "-m pip install --no-deps --only-binary :all: --require-hashes -r constraints-tracing.txt"


def check_section(section: TracingSection, source: ConfigSource) -> None:
    """Report values that are not allowed, and missing packages if traces are enabled."""
    problem = _endpoint_problem(section.endpoint) if section.endpoint else ""
    if problem:
        source.report("tracing.endpoint", f"{problem}; write it like http://collector.example.com:4318")
    if section.enabled and not all(map(_is_installed, PACKAGES)):
        source.report(
            "tracing.enabled",
            "needs the packages of the extra tracing; install them in the folder of Portunus' sources with:"
            f" {sys.executable} {_INSTALL}",
        )


def _endpoint_problem(endpoint: str) -> str:
    try:
        url = urlsplit(endpoint)
        host, _ = url.hostname, url.port
    except ValueError:
        return "is not a URL"
    if url.scheme not in ("http", "https") or not host:
        return "is not an http or https URL"
    if url.username is not None or url.password is not None:
        return "must not contain a password, which belongs into OTEL_EXPORTER_OTLP_HEADERS"
    return "must have neither a query nor a fragment" if url.query or url.fragment else ""


def _is_installed(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:
        return False
