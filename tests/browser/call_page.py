"""Controls the call page as a user does, through fields and buttons, and reads the browser's statistics."""

from __future__ import annotations

import asyncio
from typing import Any, Self

from playwright.async_api import Browser, Page

WAIT = 60.0  # seconds for a step with a negotiation; measured 1 to 3 on an idle machine

_TILE = """name => [...document.querySelectorAll(".tile")]
  .find(tile => tile.querySelector(".tile-name").textContent === name)"""
_PLAYED_VIDEO = f"""name => {{
  const video = ({_TILE})(name)?.querySelector("video");
  if (!video || !video.videoWidth) return null;
  return {{time: video.currentTime, frames: video.getVideoPlaybackQuality().totalVideoFrames}};
}}"""
_STATS = """async ([name, roomType, type, kind]) => {
  const call = portunus.call;
  const member = call.others().find(one => one.name === name);
  const pc = member ? call.receiving.connection(member.sessionId, roomType) : call.publishing.connection(roomType);
  if (!pc) return null;
  const report = await pc.getStats();
  const entry = [...report.values()].find(one => one.type === type && one.kind === kind && one.codecId);
  return entry ? {...entry, codec: report.get(entry.codecId).mimeType} : null;
}"""

# Records each text that the page shows, however briefly; of a tile its label, which screen readers read.
_RECORD_TEXTS = """
globalThis.shownTexts = {notices: [], state: [], tiles: []};
addEventListener("DOMContentLoaded", () => {
  const last = new WeakMap();
  const keep = (place, element, text) => {
    if (text && last.get(element) !== text) shownTexts[place].push(text);
    last.set(element, text);
  };
  const [notices, state] = ["notices", "state"].map(id => document.getElementById(id));
  const look = () => {
    keep("notices", notices, notices.innerText);
    keep("state", state, state.textContent);
    for (const tile of document.querySelectorAll(".tile")) keep("tiles", tile, tile.getAttribute("aria-label"));
  };
  const changes = {attributeFilter: ["aria-label"], characterData: true, childList: true, subtree: true};
  new MutationObserver(look).observe(document.body, changes);
});"""
# Opens a socket to an address: returns "open", or the directive of the page's policy that forbids it.
OPEN_SOCKET = """(url => new Promise(resolve => {
  document.addEventListener("securitypolicyviolation", event => resolve(event.effectiveDirective));
  try {
    new WebSocket(url).addEventListener("open", () => resolve("open"));
  } catch {
    // Firefox throws and Chromium closes; both dispatch the violation.
  }
}))"""


async def joining_page(browser: Browser, url: str, name: str, **choices: str) -> CallPage:
    """Open the page and press Join, as ``CallPage.join`` does, without waiting for the call."""
    page = await CallPage.open(browser, url)
    await page.join(name, **choices)
    return page


class CallPage:
    """One user's page. ``problems`` has the errors and warnings of its console."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.problems: list[str] = []
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        page.on("console", lambda message: self._collect_problem(message.type, message.text))

    @classmethod
    async def open(cls, browser: Browser, url: str, **context: Any) -> Self:
        """Open the page in a context of its own."""
        page = await (await browser.new_context(**context)).new_page()
        opened = cls(page)
        await page.add_init_script(_RECORD_TEXTS)
        await page.goto(url)
        return opened

    async def join(self, name: str, room: str = "kitchen", *, wanted: str = "both", **choices: str) -> None:
        """Fill in the lobby and press Join; ``choices`` are values by field id; the video is small by default."""
        await self.page.fill("#name", name)
        await self.page.fill("#room", room)
        await self.page.select_option("#wanted", wanted)
        await self.page.click("summary:has-text('codecs')")
        for field, value in {"size": "360", **choices}.items():
            await self.page.select_option(f"#{field}", value)
        await self.page.click("#join")

    async def state(self) -> str:
        """Return the connection's state in words."""
        return await self.page.inner_text("#state")

    async def notices(self) -> str:
        """Return the sentences about problems."""
        return await self.page.inner_text("#notices")

    async def people(self) -> str:
        """Return the list of people with their states."""
        return await self.page.inner_text("#people-list")

    async def until_state(self, words: str, wait: float = WAIT) -> None:
        """Wait until the state contains these words."""
        await self._until(f"state {words!r}", self.state, lambda state: words in state, wait)

    async def until_notice(self, words: str, wait: float = WAIT) -> None:
        """Wait until a notice contains these words."""
        await self._until(f"notice {words!r}", self.notices, lambda notices: words in notices, wait)

    async def until_no_notice(self, words: str, wait: float = WAIT) -> None:
        """Wait until no notice contains these words."""
        await self._until(f"no notice {words!r}", self.notices, lambda notices: words not in notices, wait)

    async def until_people(self, *words: str, wait: float = WAIT) -> None:
        """Wait until the list of people contains all these words."""
        await self._until(f"people {words!r}", self.people, lambda people: all(word in people for word in words), wait)

    async def until_tile(self, label: str, *words: str, wait: float = WAIT) -> None:
        """Wait until a tile's label, which screen readers read, contains these words."""
        script = f"name => ({_TILE})(name)?.getAttribute('aria-label') ?? ''"

        async def read_label() -> str:
            return str(await self.page.evaluate(script, label))

        def fits(text: str) -> bool:
            return bool(text) and all(word in text for word in words)

        await self._until(f"tile {label!r} {words!r}", read_label, fits, wait)

    async def until_tile_showed(self, label: str, *words: str, wait: float = WAIT) -> None:
        """Wait until a tile's label has contained these words, even briefly."""

        async def read_labels() -> list[str]:
            return [text for text in await self.shown_texts("tiles") if text.startswith(f"{label}, ")]

        def fits(texts: list[str]) -> bool:
            return any(all(word in text for word in words) for text in texts)

        await self._until(f"tile {label!r} with {words!r}", read_labels, fits, wait)

    async def until_no_tile(self, label: str, wait: float = WAIT) -> None:
        """Wait until a tile is gone."""

        async def exists() -> bool:
            return bool(await self.page.evaluate(f"name => Boolean(({_TILE})(name))", label))

        await self._until(f"no tile {label!r}", exists, lambda found: not found, wait)

    async def until_advances(self, label: str, frames: int = 10, wait: float = WAIT) -> None:
        """Wait until a tile's video has played ``frames`` more frames, and its time has advanced."""
        first: dict[str, float] | None = None

        async def played() -> dict[str, float] | None:
            result: dict[str, float] | None = await self.page.evaluate(_PLAYED_VIDEO, label)
            return result

        def advanced(now: dict[str, float] | None) -> bool:
            nonlocal first
            if now is None or first is None or now["frames"] < first["frames"]:  # another stream starts at 0
                first = now
                return False
            return now["frames"] >= first["frames"] + frames and now["time"] > first["time"]

        await self._until(f"picture of {label!r}", played, advanced, wait)

    async def frames(self, label: str) -> int:
        """Return how many frames a tile has shown; its time advances without frames, too."""
        return int((await self.page.evaluate(_PLAYED_VIDEO, label))["frames"])

    async def sent(self, kind: str = "video", room_type: str = "video") -> dict[str, Any]:
        """Return getStats' outbound entry of a media kind, with its codec."""
        return await self._stats("", room_type, "outbound-rtp", kind)

    async def received(self, name: str, kind: str = "video", room_type: str = "video") -> dict[str, Any]:
        """Return getStats' inbound entry of a media kind, with its codec."""
        return await self._stats(name, room_type, "inbound-rtp", kind)

    async def until_audio_received(self, name: str, wait: float = WAIT) -> None:
        """Wait until audio energy of a member has arrived."""

        async def energy() -> float:
            stats = await self.page.evaluate(_STATS, [name, "video", "inbound-rtp", "audio"])
            return float((stats or {}).get("totalAudioEnergy", 0.0))

        await self._until(f"sound of {name!r}", energy, lambda energy: energy > 0, wait)

    async def shown_texts(self, place: str = "notices") -> list[str]:
        """Return the texts that the page has shown, even briefly: ``notices``, ``state`` or the ``tiles``' labels."""
        texts: list[str] = await self.page.evaluate("place => shownTexts[place]", place)
        return texts

    async def session_id(self) -> str:
        """Return the public id of the session."""
        return str(await self.page.evaluate("portunus.signaling.sessionId"))

    async def until(self, description: str, script: str, wait: float = WAIT) -> None:
        """Wait until a JavaScript expression is true."""

        async def value() -> Any:
            return await self.page.evaluate(script)

        await self._until(description, value, bool, wait)

    async def _stats(self, name: str, room_type: str, type: str, kind: str) -> dict[str, Any]:
        found: dict[str, Any] | None = await self.page.evaluate(_STATS, [name, room_type, type, kind])
        assert found is not None, f"no {type} {kind} of {name or 'oneself'}"
        return found

    async def _until(self, description: str, read: Any, good: Any, wait: float) -> None:
        value = None
        try:
            async with asyncio.timeout(wait):
                while not good(value := await read()):  # noqa: ASYNC110 - the browser sets no Event here
                    await asyncio.sleep(0.1)
        except TimeoutError:
            raise AssertionError(
                f"{description} is not reached in {wait:.0f} s but {value!r}; the page shows {await self.state()!r} "
                f"and {await self.notices()!r}, its console {self.problems!r}"
            ) from None

    def _collect_problem(self, level: str, text: str) -> None:
        if level in ("error", "warning"):
            self.problems.append(text)
