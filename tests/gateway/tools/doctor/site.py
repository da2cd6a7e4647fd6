"""Site of real programs that the doctor examines: nginx with TLS, Janus, coturn, a gateway, and a fake Nextcloud.

The doctor runs as its command, in a thread of this process.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
from asyncio.subprocess import DEVNULL, Process
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Self

from click.testing import CliRunner

from gateway import config
from gateway.app import Gateway
from gateway.cli import main
from gateway.tools.fake_nextcloud import FakeNextcloud
from gateway.tools.talk_client import TalkClient
from tests.gateway.certificates import make_signed_certificate
from tests.gateway.tools.doctor.coturn import Coturn
from tests.janus_process import ADMIN_KEY, API_SECRET, JanusProcess
from tests.ports import lease_block
from tests.programs import nginx_command, wait_until_listening

SECRET, API_KEY, INTERNAL = "c41f2be6b0d94a6c8f3f7a52e1d06b98", "5d0e7c1f9ab34e72b1", "0f1e2d3c4b5a69788796a5b4c3d2e1f0"
PATH = "/signal"  # the gateway serves /standalone-signaling itself, too
NGINX = """\
server {{
    listen 127.0.0.1:{https} ssl;
    ssl_certificate {certificate};
    ssl_certificate_key {key};
    location {path}/ {{
        proxy_pass http://127.0.0.1:{gateway}/;
        proxy_http_version 1.1;
        proxy_set_header Host $host;
        proxy_set_header Upgrade $http_upgrade;
        proxy_set_header Connection "Upgrade";
        proxy_set_header X-Real-IP $remote_addr;
        proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
    }}
}}
"""
GATEWAY = """\
[http]
listen = ["127.0.0.1:{gateway}"]
[sessions]
secret = "{secret}"
[internal]
secret = "{internal}"
[[backend]]
id = "cloud"
urls = ["{url}"]
secret = "{shared}"
[mcu]
type = "janus"
[[mcu.janus]]
url = "{janus}"
api_secret = "{api_secret}"
admin_key = "{admin_key}"
[turn]
api_key = "{api_key}"
secret = "{turn_secret}"
servers = ["{turn}"]
"""

ReportedResult = dict[str, str]


class DoctorSite:
    """The programs of a site; the files of nginx, gateway, Janus and coturn may be changed.

    ``text`` is the gateway's file, ``nginx`` the servers of nginx, and ``url`` the argument of the doctor.
    ``authority`` signs the certificates.
    """

    def __init__(self, folder: Path, authority: tuple[Path, Path]) -> None:
        self.folder = folder
        self.authority = authority
        self.file = folder / "portunus.toml"
        self.media = False
        self.caller: TalkClient | None = None  # in a call, which keeps the gateway during a drain
        self._stack = AsyncExitStack()
        self._nginx: Process | None = None

    async def __aenter__(self) -> Self:
        ports = self._stack.enter_context(lease_block())
        self.gateway_port, self.https_port = ports.first, ports.first + 1
        self.certificate = self.issue_certificate((-1, 80))
        self.cloud = await self._stack.enter_async_context(FakeNextcloud())
        events = f"ws://127.0.0.1:{self.gateway_port}/spreed"
        self.janus = await self._stack.enter_async_context(JanusProcess(EVENTS_URL=events))
        turn_ports = self._stack.enter_context(lease_block())
        self.coturn = Coturn(self.folder, turn_ports)
        await self._stack.enter_async_context(self.coturn.running())
        self.text = self.healthy_text = GATEWAY.format(
            gateway=self.gateway_port,
            secret=SECRET,
            internal=INTERNAL,
            url=self.cloud.url,
            shared=self.cloud.secret,
            janus=self.janus.url,
            api_secret=API_SECRET,
            admin_key=ADMIN_KEY,
            api_key=API_KEY,
            turn_secret=self.coturn.secret,
            turn=self.coturn.uri,
        )
        self.nginx = NGINX.format(
            https=self.https_port,
            certificate=self.certificate[0],
            key=self.certificate[1],
            path=PATH,
            gateway=self.gateway_port,
        )
        self.url = f"https://127.0.0.1:{self.https_port}{PATH}/"
        self._write()
        self.gateway = Gateway(config.load(self.file, {}))
        await self.gateway.start()
        self._stack.push_async_callback(self._stop_gateway)
        await self.start_nginx()
        self._stack.push_async_callback(self.stop_nginx)
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._stack.aclose()

    async def _stop_gateway(self) -> None:
        await self.gateway.stop()

    def issue_certificate(self, days: tuple[float, float], name: str = "127.0.0.1") -> tuple[Path, Path]:
        """Write a certificate for nginx, and return it with its key."""
        return make_signed_certificate(self.folder, name, self.authority, days=days)

    def _write(self) -> None:
        self.file.write_text(self.text)
        self.file.chmod(0o600)

    # -- what an administrator does

    async def reload_gateway(self) -> None:
        """Have the gateway read its file, as ``systemctl reload portunus`` does."""
        self._write()
        await self.gateway.reload(config.load(self.file, {}))

    async def start_nginx(self) -> None:
        """Start nginx, or restart it with changed servers."""
        await self.stop_nginx()
        command = nginx_command(self.folder, self.nginx)
        self._nginx = await asyncio.create_subprocess_exec(*command, stdout=DEVNULL, stderr=DEVNULL)
        await wait_until_listening("127.0.0.1", self.https_port)

    async def stop_nginx(self) -> None:
        """Stop nginx. Idempotent."""
        process, self._nginx = self._nginx, None
        if process is not None:
            process.terminate()
            await process.wait()

    async def restart_janus(self) -> None:
        """Restart Janus with changed values."""
        await self.janus.stop()
        await self.janus.start()

    async def restart_coturn(self) -> None:
        """Restart coturn with a changed file."""
        await self.coturn.kill()
        await self.coturn.start()

    # -- the doctor

    async def examine(self) -> list[ReportedResult]:
        """Run ``portunus doctor --json`` and return its results."""
        self._write()
        arguments = ["doctor", self.url, "-c", str(self.file), "--json", *(["--media"] if self.media else [])]
        try:
            done = await asyncio.to_thread(CliRunner().invoke, main, arguments)
        finally:
            logging.disable(logging.NOTSET)
        assert done.exit_code in (0, 1), done.output
        results: list[ReportedResult] = json.loads(done.stdout)
        return results

    async def findings(self) -> list[ReportedResult]:
        """Return the results that name a problem, besides the advice to update the Janus of Debian."""
        found = [result for result in await self.examine() if result["state"] in ("failed", "warning")]
        return [result for result in found if not is_old_janus(result)]

    def setting(self, file: str, name: str) -> str:
        """Return a value from a file of Janus' configuration."""
        found = re.search(rf"^\s*{name} = (.*)$", (self.janus.log.parent / "conf" / file).read_text(), re.M)
        assert found is not None
        return found[1].strip('"')


def is_old_janus(result: dict[str, Any]) -> bool:
    """Return whether a result is the advice to update Debian's Janus."""
    return result["state"] == "warning" and "lacks security fixes" in result["cause"]
