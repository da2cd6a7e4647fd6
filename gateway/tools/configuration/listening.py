"""Checks that the gateway's user can listen on the addresses and sockets of a configuration."""

from __future__ import annotations

import errno
import http.client
import json
import os
import pwd
import socket
import ssl
import stat
from pathlib import Path

from gateway.config import Config, listen_address
from gateway.tools.configuration.account import acting_as, can_act_as
from gateway.tools.configuration.file_access import grant_command
from gateway.tools.configuration.findings import Findings
from gateway.version import SERVER_VERSION

ANSWER_TIMEOUT = 5.0  # seconds for the program that listens on an address already


def check_listening(config: Config, account: pwd.struct_passwd, findings: Findings) -> None:
    """Add a finding for each address of ``http.listen``, and for ``admin.socket``, that cannot be bound."""
    for index, text in enumerate(config.http.listen):
        key, address = f"http.listen[{index}]", listen_address(text)
        if address is None:
            _check_socket(Path(text), key, account, findings)
        else:
            _check_address(*address, key, bool(config.http.certificate), account, findings)
    if config.admin.socket:
        _check_socket(Path(config.admin.socket), "admin.socket", account, findings)


def _check_address(host: str, port: int, key: str, tls: bool, account: pwd.struct_passwd, findings: Findings) -> None:
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError):
        problem = f"the name {host} has no address"
        findings.add("error", "world", key, problem, "write an address of this machine, or correct the name")
        return
    for family, socket_type, protocol, _, target in found:
        error_number = _binding_error(family, socket_type, protocol, target, account)
        if error_number:
            _report(error_number, str(target[0]), port, key, tls, account, findings)
            return


def _binding_error(
    family: int, socket_type: int, protocol: int, target: tuple[object, ...], account: pwd.struct_passwd
) -> int:
    """Bind an address as the gateway does; return the error number, 0 for success."""
    with socket.socket(family, socket_type, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        try:
            if can_act_as(account):
                with acting_as(account):
                    probe.bind(target)
            else:
                probe.bind(target)
        except OSError as error:
            return error.errno or errno.EINVAL
    return 0


def _report(
    error_number: int, host: str, port: int, key: str, tls: bool, account: pwd.struct_passwd, findings: Findings
) -> None:
    if error_number == errno.EADDRINUSE:
        _report_port_in_use(host, port, key, tls, findings)
    elif error_number == errno.EADDRNOTAVAIL:
        remedy = "write an address that `ip address` shows, or 0.0.0.0 and [::] for all"
        findings.add("error", "world", key, f"no interface of this machine has the address {host}", remedy)
    elif error_number == errno.EACCES:
        problem = f"{account.pw_name} may not listen on port {port}"
        remedy = (
            "choose a port from 1024 on, with a reverse proxy in front, or give the unit "
            "AmbientCapabilities=CAP_NET_BIND_SERVICE"
        )
        findings.add("warning", "world", key, problem, remedy)
    else:
        problem = f"the address cannot be bound ({os.strerror(error_number)})"
        findings.add("error", "world", key, problem, "write an address and port of this machine")


def _report_port_in_use(host: str, port: int, key: str, tls: bool, findings: Findings) -> None:
    version = server_version(host, port, tls)
    if version == SERVER_VERSION:
        problem = f"a gateway of this version listens on port {port}"
        findings.add("note", "world", key, problem, "nothing is to do if it runs with this configuration")
        return
    program = f"another signaling server ({version})" if version else "another program"
    remedy = f"choose another port, or end that program: ss -ltnp 'sport = :{port}' names it"
    findings.add("error", "world", key, f"{program} listens on port {port} already", remedy)


def server_version(host: str, port: int, tls: bool) -> str:
    """Return the version of the signaling server on an address; empty if none answers there."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    connection = (
        http.client.HTTPSConnection(host, port, timeout=ANSWER_TIMEOUT, context=context)
        if tls
        else http.client.HTTPConnection(host, port, timeout=ANSWER_TIMEOUT)
    )
    try:
        connection.request("GET", "/api/v1/welcome")
        answer = json.loads(connection.getresponse().read(4096))
        if not isinstance(answer, dict) or "nextcloud-spreed-signaling" not in answer:
            return ""
        return str(answer.get("version", "of unknown version"))
    except (OSError, http.client.HTTPException, ValueError):
        return ""
    finally:
        connection.close()


def _check_socket(path: Path, key: str, account: pwd.struct_passwd, findings: Findings) -> None:
    """Add a finding if the gateway cannot create a Unix socket at a path; a socket that is not in use is replaced."""
    folder = path.parent
    try:
        mode = path.stat().st_mode
    except OSError:
        mode = 0
    if not folder.is_dir():
        remedy = f"create it; under systemd RuntimeDirectory={folder.name} does that for a folder below /run"
        findings.add("warning", "world", key, f"the folder {folder} does not exist", remedy)
        return
    if mode and not stat.S_ISSOCK(mode):
        findings.add(
            "error", "world", key, f"{path} exists and is no socket", "choose another path, or remove the file"
        )
        return
    if mode and _is_in_use(path):
        remedy = "nothing is to do if it is a gateway with this configuration; choose another path otherwise"
        findings.add("note", "world", key, f"a program listens on {path}", remedy)
        return
    if can_act_as(account):
        with acting_as(account):
            writable = os.access(folder, os.W_OK | os.X_OK, effective_ids=True)
        if not writable:
            problem = f"{account.pw_name} may not create a socket in {folder}"
            findings.add("error", "world", key, problem, grant_command(account, folder, "rwx"))


def _is_in_use(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(ANSWER_TIMEOUT)
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True
