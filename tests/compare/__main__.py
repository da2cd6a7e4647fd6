"""``make compare``: play the conversations on the Go server and on this gateway, and print where they differ.

``PORTUNUS_COMPARE_SERVER`` is the path of the Go server's binary; the arguments are names of conversations, or
``federation``; without arguments all are played. The exit status is 1 when a conversation or step differs that
``docs/protocol.md`` does not explain.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import date
from pathlib import Path

from aioice import ice

from gateway.config import McuSection
from gateway.version import VERSION
from mcu.janus.settings import JanusServerSettings
from tests.compare import federation, random_steps, requests
from tests.compare.go_configuration import version
from tests.compare.go_server import go_server
from tests.compare.media import Peers
from tests.compare.player import ComparingPlayer, Difference
from tests.conversations import levels
from tests.conversations.player import Conversation, ConversationPlayer, load
from tests.janus_process import JanusProcess
from tests.media.loopback import only_loopback

AT_ONCE = 4  # conversations that are played at the same time
NEEDS_MEDIA = {"screen", "screen-ended", "subscribe"}  # a real SFU offers a stream once media flow: aiortc sends
FEDERATION = "federation"  # among the arguments
DOCUMENT = Path(__file__).parent.parent.parent / "docs" / "protocol.md"


async def main(binary: Path, names: list[str]) -> int:
    """Play the conversations on both servers, print the differences, and return the exit status."""
    ice.get_host_addresses = only_loopback
    conversations = [it for it in load() if (not names or it.name in names) and is_playable(it)]
    slots = asyncio.Semaphore(AT_ONCE)
    async with JanusProcess(API_SECRET="", ADMIN_KEY="") as janus:
        found = await asyncio.gather(*(_compare(it, binary, janus.url, slots) for it in conversations))
        http_differences = [] if names else await _compare_http(binary)
        found += (
            []
            if names
            else await asyncio.gather(*(_compare_random_steps(it, binary, slots) for it in random_steps.SEEDS))
        )
        federation_differences = await federation.compare(binary, janus.url) if not names or FEDERATION in names else []
    differences = [
        difference for several in (*found, http_differences, federation_differences) for difference in several
    ]
    print_line(f"Portunus {VERSION} and nextcloud-spreed-signaling {version(binary)}, {date.today():%Y-%m-%d}:")
    differing = {it.conversation for it in differences if it not in federation_differences} - {
        requests.HTTP_ONLY.name,
        random_steps.RANDOM_STEPS.name,
    }
    print_line(f"{len(conversations)} conversations, {len(differing)} of them differ.")
    print_line(
        f"{len(requests.BODIES + requests.HEADERS + requests.PATHS) + 1} requests,"
        f" {len(http_differences)} of them differ."
    )
    print_line(
        f"{len(federation.STEPS)} steps of federation in {len(federation.ROLES)} roles,"
        f" {len({it.conversation for it in federation_differences})} of them differ."
    )
    print_line(f"{len(random_steps.SEEDS)} times {random_steps.STEPS} random steps.\n")
    print_line("| Conversation, line | There |\n|---|---|")
    for it in differences:
        print_line(f"| `{it.conversation}`, {it.line} | {it.text.replace('|', chr(92) + '|')} |")
    unexplained = sorted({it.conversation for it in differences} - explained())
    if unexplained:
        print_line(f"\nNot explained in docs/protocol.md: {', '.join(unexplained)}")
    return 1 if unexplained else 0


def is_playable(conversation: Conversation) -> bool:
    """Return whether the Go server can play a conversation: it cannot lose the shared SFU, drain, or be two servers."""
    actors = {actor for _, (actor, *_) in conversation.steps}
    return conversation.levels != ("federated",) and not actors & {"sfu", "operator"}


def explained() -> set[str]:
    """Return the conversations in the table of docs/protocol.md."""
    _, _, section = DOCUMENT.read_text().partition("## Compared with the Go server")
    rows = [line.split("|")[1] for line in section.split("\n## ")[0].splitlines() if line.startswith("| `")]
    return set(re.findall(r"`([\w-]+)`", " ".join(rows)))


def print_line(text: str) -> None:
    """Print a line."""
    sys.stdout.write(text + "\n")


async def _compare(conversation: Conversation, binary: Path, janus: str, slots: asyncio.Semaphore) -> list[Difference]:
    async with slots:
        return [*await _play_on_portunus(conversation, janus), *await _play_on_go_server(conversation, binary, janus)]


async def _compare_http(binary: Path) -> list[Difference]:
    async with go_server(binary, requests.HTTP_ONLY, "") as go, levels.socket_level(requests.HTTP_ONLY) as portunus:
        return await requests.compare(go, portunus)


async def _compare_random_steps(seed: int, binary: Path, slots: asyncio.Semaphore) -> list[Difference]:
    async with (
        slots,
        go_server(binary, random_steps.RANDOM_STEPS, "") as go,
        levels.socket_level(random_steps.RANDOM_STEPS) as portunus,
    ):
        return await random_steps.compare(seed, go, portunus)


async def _play_on_go_server(conversation: Conversation, binary: Path, janus: str) -> list[Difference]:
    async with go_server(binary, conversation, janus) as level, AsyncExitStack() as stack:
        peers = await stack.enter_async_context(Peers()) if conversation.name in NEEDS_MEDIA else None
        player = ComparingPlayer(conversation, level, peers)
        await player.play()
    return player.differences


async def _play_on_portunus(conversation: Conversation, janus: str) -> list[Difference]:
    """Play a conversation on Portunus, with Janus as on the Go server; return the differences from its text."""
    sfu = McuSection(type="janus", settings=(JanusServerSettings(janus),))
    if conversation.name in NEEDS_MEDIA:
        async with levels.socket_level(conversation, sfu) as level, Peers() as peers:
            player = ComparingPlayer(conversation, level, peers)
            await player.play()
        return [replace(it, text=f"(here, with Janus) {it.text}") for it in player.differences]
    if "socket" not in conversation.levels:
        return []  # needs virtual time, which only the tests have
    async with AsyncExitStack() as stack:
        level = await stack.enter_async_context(levels.socket_level(conversation, sfu))
        try:
            await ConversationPlayer(conversation, level).play()
        except AssertionError as error:
            return [Difference(conversation.name, 0, f"(here, with Janus) {error}")]
    return []


if __name__ == "__main__":
    named = os.environ.get("PORTUNUS_COMPARE_SERVER", "")
    if not named:
        sys.exit("PORTUNUS_COMPARE_SERVER names the Go server's binary")
    sys.exit(asyncio.run(main(Path(named), sys.argv[1:])))
