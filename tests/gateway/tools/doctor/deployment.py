"""Deployment that the doctor examines: a gateway behind a reverse proxy, and a Nextcloud, all in this process."""

from __future__ import annotations

import asyncio
import os
import pwd
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from gateway import config
from gateway.app import Gateway
from gateway.tools.configuration.account import service_account
from gateway.tools.doctor import examination
from gateway.tools.doctor.steps import Result, run_steps
from gateway.tools.doctor.target import parse_target
from gateway.tools.fake_nextcloud import FakeNextcloud
from gateway.tools.talk_client import Json
from tests.gateway.served import INTERNAL_SECRET, WITH_INTERNAL_CLIENTS
from tests.gateway.tools.doctor.proxy import PREFIX, FaultyProxy

TEXT = WITH_INTERNAL_CLIENTS + '[mcu]\ntype = "inprocess"\n[mcu.inprocess]\naddress = "127.0.0.1"\n'


@dataclass
class Deployment:
    """Servers of a deployment, and the arguments of the doctor: ``url``, and ``text`` of the configuration file."""

    cloud: FakeNextcloud
    proxy: FaultyProxy
    gateway: Gateway
    file: Path
    text: str
    url: str
    account: pwd.struct_passwd = field(default_factory=lambda: service_account(""))

    async def examine(self, *, media: bool = False, ticket: tuple[str, Json] | None = None) -> list[Result]:
        """Run all steps of the doctor and return the results; for the arguments see ``examination.steps``."""
        self.file.write_text(self.text)
        self.file.chmod(0o600)
        loaded, read = examination.read_configuration(self.file, {}, self.account)
        backends, relays = (loaded.backends, loaded.turn) if loaded is not None else ((), config.TurnSection())
        return await run_steps(
            examination.steps(
                parse_target(self.url), loaded, read, backends, relays, url_given=True, media=media, ticket=ticket
            )
        )


@asynccontextmanager
async def deployment(folder: Path, sections: str = "", base: str = TEXT) -> AsyncIterator[Deployment]:
    """Run a deployment without a fault; ``sections`` are appended to its configuration ``base``."""
    file, proxy = folder / "portunus.toml", FaultyProxy()
    async with FakeNextcloud() as cloud:
        text = base.format(internal=INTERNAL_SECRET, url=cloud.url, secret=cloud.secret) + sections
        file.write_text(text)
        gateway = Gateway(config.load(file, {}))
        (proxy.upstream,) = await gateway.start()
        await proxy.start()
        try:
            yield Deployment(cloud, proxy, gateway, file, text, f"http://127.0.0.1:{proxy.port}{PREFIX}/")
        finally:
            await proxy.close()
            await gateway.stop()


def failed_steps(results: list[Result]) -> list[str]:
    """Return the names of the failed steps."""
    return [result.step for result in results if result.state == "failed"]


async def doctor(*arguments: object, environ: dict[str, str] | None = None) -> tuple[int | None, str, str]:
    """Run ``portunus doctor`` as a process; return exit status, standard output and standard error."""
    command = str(Path(sys.executable).with_name("portunus"))
    process = await asyncio.create_subprocess_exec(
        command, "doctor", *map(str, arguments), stdout=PIPE, stderr=PIPE, env=os.environ | (environ or {})
    )
    out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()
