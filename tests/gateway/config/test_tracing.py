"""The section ``[tracing]``: the extra that it needs, the collector's URL, and the restart after a change."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

from gateway.config import TracingSection
from gateway.config.restart import keys_that_need_restart
from gateway.config.tracing import PACKAGES
from tests.gateway.config.loading import MINIMAL, read, refusal


def hide_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make OpenTelemetry appear not to be installed, whichever of its modules are already imported."""
    for name in [name for name in sys.modules if name.startswith("opentelemetry.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "opentelemetry", None)


@pytest.mark.parametrize("imported", [(), ("opentelemetry.sdk",), PACKAGES])
def test_missing_packages_are_named_with_the_command_that_installs_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, imported: tuple[str, ...]
) -> None:
    for package in imported:
        importlib.import_module(package)
    hide_packages(monkeypatch)
    sentence = refusal(tmp_path / "p.toml", MINIMAL + "[tracing]\nenabled = true\n")
    assert "tracing.enabled: needs the packages of the extra tracing" in sentence
    assert f"{sys.executable} -m pip install " in sentence
    assert sentence.endswith(" --require-hashes -r constraints-tracing.txt")
    assert not read(tmp_path / "p.toml", MINIMAL + "[tracing]\nsample_ratio = 0.5\n").tracing.enabled


@pytest.mark.parametrize(
    ("endpoint", "problem"),
    [
        ("collector:4318", "is not an http or https URL"),
        ("http://", "is not an http or https URL"),
        ("http://[::1", "is not a URL"),
        ("http://collector:port", "is not a URL"),
        ("https://operator:hidden@collector:4318", "OTEL_EXPORTER_OTLP_HEADERS"),
        ("https://collector:4318/?key=hidden", "must have neither a query nor a fragment"),
    ],
)
def test_url_that_is_none_of_a_collector_is_refused(tmp_path: Path, endpoint: str, problem: str) -> None:
    sentence = refusal(tmp_path / "p.toml", f'{MINIMAL}[tracing]\nendpoint = "{endpoint}"\n')
    assert "tracing.endpoint" in sentence
    assert problem in sentence
    assert "hidden" not in sentence


@pytest.mark.parametrize("ratio", ["-0.1", "1.1", "nan"])
def test_sample_ratio_is_a_part_of_one(tmp_path: Path, ratio: str) -> None:
    assert "tracing.sample_ratio" in refusal(tmp_path / "p.toml", f"{MINIMAL}[tracing]\nsample_ratio = {ratio}\n")


def test_values_come_from_the_environment_too_and_need_a_restart(tmp_path: Path) -> None:
    before = read(tmp_path / "p.toml")
    after = read(
        tmp_path / "p.toml",
        PORTUNUS_TRACING__ENABLED="true",
        PORTUNUS_TRACING__ENDPOINT="https://collector.example.com",
        PORTUNUS_TRACING__SERVICE_NAME="gateway-1",
        PORTUNUS_TRACING__SAMPLE_RATIO="0.25",
    )
    assert after.tracing == TracingSection(True, "https://collector.example.com", "gateway-1", 0.25)
    assert keys_that_need_restart(before, after) == ["tracing"]
