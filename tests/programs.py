"""Programs of Debian packages that tests start: their paths, their ports, and nginx' main configuration."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest

_NGINX = """
daemon off;
pid {folder}/nginx.pid;
error_log stderr;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    {servers}
}}
"""


def find_program(name: str, package: str) -> str:
    """Return the path of a program.

    Raises:
        pytest.UsageError: it is not installed; the text names the command that installs it.
    """
    found = shutil.which(name, path="/usr/sbin:/usr/bin")
    if found is None:
        raise pytest.UsageError(f"{name} is missing: apt-get install {package}")
    return found


async def wait_until_listening(host: str, port: int) -> None:
    """Wait until a TCP port accepts connections."""
    async with asyncio.timeout(60):
        while True:
            try:
                _, writer = await asyncio.open_connection(host, port)
            except OSError:
                await asyncio.sleep(0.05)
            else:
                writer.close()
                return


def nginx_command(folder: Path, servers: str) -> tuple[str, ...]:
    """Write nginx' configuration with the given servers into a folder, and return the command that runs nginx."""
    configuration = folder / "nginx.conf"
    configuration.write_text(_NGINX.format(folder=folder, servers=servers))
    return find_program("nginx", "nginx-light"), "-c", str(configuration), "-p", str(folder)
