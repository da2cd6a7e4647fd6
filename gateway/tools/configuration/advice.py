"""Settings that are valid but probably mistakes."""

from __future__ import annotations

from ipaddress import ip_network
from urllib.parse import urlsplit

from gateway.config import NO_MCU, Config
from gateway.config.source import ConfigSource
from gateway.tools.configuration.findings import Findings
from mcu import factory

FOR_TESTS_ONLY = {  # setting for tests only -> its effect
    "nextcloud.allow_any": "every Nextcloud, and every client that claims one, is accepted",
    "mcu.allow_subscribe_any": "clients receive streams of calls in which they do not take part",
    "federation.allow_insecure": "messages to other servers may go over connections without encryption",
}


def advise(config: Config, source: ConfigSource, findings: Findings) -> None:
    """Add a finding for each setting that is probably a mistake."""
    _advise_on_sfu(config, source, findings)
    _advise_on_backends(config, findings)
    values = {
        "nextcloud.allow_any": config.nextcloud.allow_any,
        "mcu.allow_subscribe_any": config.mcu.allow_subscribe_any,
        "federation.allow_insecure": config.federation.allow_insecure,
    }
    for key, effect in FOR_TESTS_ONLY.items():
        if values[key]:
            findings.add("warning", "file", key, f"is true, for tests only: {effect}", "remove it, or set it to false")
    for index, network in enumerate(config.http.trusted_proxies):
        if ip_network(network).prefixlen == 0:
            problem = "trusts every address: each client can pretend to have any address"
            findings.add("warning", "file", f"http.trusted_proxies[{index}]", problem, "name the proxies only")


def _advise_on_sfu(config: Config, source: ConfigSource, findings: Findings) -> None:
    if config.mcu.type == NO_MCU:
        problem = (
            "no SFU is chosen: clients connect to each other, which fails in larger calls and behind many firewalls"
        )
        findings.add("warning", "file", "mcu.type", problem, 'set type = "janus" in [mcu], and url in [[mcu.janus]]')
    for name in factory.names():
        if name != config.mcu.type and ("mcu", name) in {at[:2] for at in source.lines}:
            remedy = f'set mcu.type = "{name}", or remove the section'
            findings.add("warning", "file", f"mcu.{name}", f'has no effect, mcu.type is "{config.mcu.type}"', remedy)


def _advise_on_backends(config: Config, findings: Findings) -> None:
    for index, backend in enumerate(config.backends):
        for number, url in enumerate(backend.urls):
            key = f"backend[{index}].urls[{number}]"
            parts = urlsplit(url)
            if parts.path.rstrip("/").endswith("/index.php"):
                problem = "ends with /index.php, which is no part of the URL that Talk sends: no client will match it"
                findings.add("error", "file", key, problem, f"write {url[: url.rindex('/index.php')]}/")
            if parts.scheme.lower() == "http" and parts.hostname not in ("localhost", "127.0.0.1", "::1"):
                problem = "requests to this Nextcloud are not encrypted, and clients that use https do not match it"
                findings.add("warning", "file", key, problem, f"write https:{url.partition(':')[2]}")
