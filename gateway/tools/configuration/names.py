"""Checks that the names of hosts in a configuration have addresses."""

from __future__ import annotations

import queue
import re
import socket
import threading
import time
from collections.abc import Iterable
from ipaddress import ip_address
from urllib.parse import urlsplit

from gateway.config import Config
from gateway.tools.configuration.findings import Findings

RESOLUTION_TIMEOUT = 15.0  # seconds for all names together; resolvers give up on a dead name server after 10

_turn_host = re.compile(r"(?:turn|stun)s?:(?P<host>\[[0-9A-Fa-f:.]+\]|[^:?]+)")


def check_names(config: Config, findings: Findings, timeout: float = RESOLUTION_TIMEOUT) -> None:
    """Add a finding for each host name without an address; ``timeout``: seconds for all names together."""
    hosts = {key: host for key, host in named_hosts(config).items() if not _is_address(host)}
    failed = unresolvable(set(hosts.values()), timeout)
    for key, host in hosts.items():
        if host in failed:
            problem = f"the name {host} has no address ({failed[host]})"
            findings.add(
                "error", "world", key, problem, f"correct the name, or mend name resolution: getent hosts {host}"
            )


def named_hosts(config: Config) -> dict[str, str]:
    """Return the hosts that the gateway, its clients or Nextcloud connect to, by key."""
    urls = {
        f"backend[{index}].urls[{number}]": url
        for index, backend in enumerate(config.backends)
        for number, url in enumerate(backend.urls)
    }
    urls["geoip.database"] = config.geoip.database if config.geoip.database.startswith("http") else ""
    hosts = {}
    if config.mcu.type == "janus":
        for index, server in enumerate(config.mcu.settings):
            urls[f"mcu.janus[{index}].url"] = server.url
            urls[f"mcu.janus[{index}].admin_url"] = server.admin_url
            hosts[f"mcu.janus[{index}].address"] = server.address
    for index, server in enumerate(config.turn.servers):
        match = _turn_host.match(server)
        hosts[f"turn.servers[{index}]"] = match["host"].strip("[]") if match else ""
    hosts |= {key: urlsplit(url).hostname or "" for key, url in urls.items()}
    return {key: host for key, host in hosts.items() if host}


def unresolvable(names: Iterable[str], timeout: float) -> dict[str, str]:
    """Return the names without an address, each with the resolver's error, or with the time limit that it exceeded."""
    answers: queue.Queue[tuple[str, str]] = queue.Queue()
    pending = set(names)
    for name in pending:  # a thread for each, since the resolver blocks; daemon threads do not delay the exit
        threading.Thread(target=lambda name=name: answers.put((name, _resolution_problem(name))), daemon=True).start()
    failed: dict[str, str] = {}
    deadline = time.monotonic() + timeout
    while pending:
        try:
            name, problem = answers.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            return failed | dict.fromkeys(pending, f"no answer within {timeout:g} s")
        pending.discard(name)
        if problem:
            failed[name] = problem
    return failed


def _resolution_problem(name: str) -> str:
    try:
        socket.getaddrinfo(name, None)
    except OSError as error:
        return error.strerror or type(error).__name__
    except UnicodeError:
        return "not the name of a host"
    return ""


def _is_address(host: str) -> bool:
    try:
        ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True
