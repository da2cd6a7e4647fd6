"""The documented installation and migration, command by command, in a booted Debian 12."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.netns import lone_host
from tests.setup.debian_machine import debian_machine
from tests.setup.documented_setup import ADDRESS, install_in_ten_minutes, move_and_return, set_up_without_package
from tests.setup.test_debian_package import GATEWAY, check_installation


@pytest.mark.full
@pytest.mark.timeout(300)
async def test_documented_commands_lead_to_a_gateway_with_janus_and_coturn_and_from_the_go_server_and_back(
    tmp_path: Path, debian_package: Path
) -> None:
    async with AsyncExitStack() as stack:
        network = stack.enter_context(lone_host(ADDRESS))
        machine = await stack.enter_async_context(debian_machine(tmp_path, network))
        await install_in_ten_minutes(machine, debian_package, GATEWAY)
        await check_installation(machine)
        await move_and_return(machine)
        await set_up_without_package(machine)
