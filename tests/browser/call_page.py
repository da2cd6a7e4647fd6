"""The call page as a person uses it: through its fields and buttons, and with a look at what the browser measured."""

from __future__ import annotations

import asyncio
from typing import Any, Self

from playwright.async_api import Browser, Page

WAIT = 40.0  # seconds for what takes a negotiation; measured 1 to 3 on an idle machine

_TILE = """name => [...document.querySelectorAll(".tile")]
  .find(tile => tile.querySelector(".tile-name").textContent === name)"""
_PLAYED = f"""name => {{
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

# Keeps what the page said, however briefly; a tile says its label, as a screen reader hears it.
_REMEMBER = """
globalThis.said = {notices: [], state: [], tiles: []};
addEventListener("DOMContentLoaded", () => {
  const last = new WeakMap();
  const keep = (kind, element, text) => {
    if (text && last.get(element) !== text) said[kind].push(text);
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
# What becomes of a socket to an address: "open", or the directive of the page's policy that forbids it.
OPEN_SOCKET = """(url => new Promise(resolve => {
  document.addEventListener("securitypolicyviolation", event => resolve(event.effectiveDirective));
  try {
    new WebSocket(url).addEventListener("open", () => resolve("open"));
  } catch {
    // Firefox throws where Chromium closes; both tell of the violation.
  }
}))"""


class CallPage:
    """One person with the page open. ``problems`` gathers what the page's console had to complain of."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.problems: list[str] = []
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        page.on("console", lambda message: self._heard(message.type, message.text))

    @classmethod
    async def open(cls, browser: Browser, url: str, **context: Any) -> Self:
        """Open the page in a context of its own."""
        page = await (await browser.new_context(**context)).new_page()
        opened = cls(page)
        await page.add_init_script(_REMEMBER)
        await page.goto(url)
        return opened

    async def join(self, name: str, room: str = "kitchen", *, wanted: str = "both", **choices: str) -> None:
        """Fill in the lobby and press Join; ``choices`` by the field's id, the picture is small unless said."""
        await self.page.fill("#name", name)
        await self.page.fill("#room", room)
        await self.page.select_option("#wanted", wanted)
        await self.page.click("summary")
        for field, value in {"size": "360", **choices}.items():
            await self.page.select_option(f"#{field}", value)
        await self.page.click("#join")

    async def state(self) -> str:
        """Return the connection's state in words."""
        return await self.page.inner_text("#state")

    async def notices(self) -> str:
        """Return every sentence that says what is wrong."""
        return await self.page.inner_text("#notices")

    async def people(self) -> str:
        """Return the list of people with their states."""
        return await self.page.inner_text("#people-list")

    async def until_state(self, words: str, wait: float = WAIT) -> None:
        """Wait until the state says this."""
        await self._until(f"state {words!r}", self.state, lambda state: words in state, wait)

    async def until_notice(self, words: str, wait: float = WAIT) -> None:
        """Wait until a sentence says this."""
        await self._until(f"notice {words!r}", self.notices, lambda notices: words in notices, wait)

    async def until_no_notice(self, words: str, wait: float = WAIT) -> None:
        """Wait until no sentence says this any more."""
        await self._until(f"no notice {words!r}", self.notices, lambda notices: words not in notices, wait)

    async def until_people(self, *words: str, wait: float = WAIT) -> None:
        """Wait until the list of people says all of this."""
        await self._until(f"people {words!r}", self.people, lambda people: all(word in people for word in words), wait)

    async def until_tile(self, label: str, *words: str, wait: float = WAIT) -> None:
        """Wait until a tile describes itself with these words, as a screen reader hears them."""
        script = f"name => ({_TILE})(name)?.getAttribute('aria-label') ?? ''"

        async def described() -> str:
            return str(await self.page.evaluate(script, label))

        def fits(text: str) -> bool:
            return bool(text) and all(word in text for word in words)

        await self._until(f"tile {label!r} {words!r}", described, fits, wait)

    async def until_tile_said(self, label: str, *words: str, wait: float = WAIT) -> None:
        """Wait until a tile has described itself with these words, be it for a moment."""

        async def described() -> list[str]:
            return [text for text in await self.said("tiles") if text.startswith(f"{label}, ")]

        def fits(texts: list[str]) -> bool:
            return any(all(word in text for word in words) for text in texts)

        await self._until(f"tile {label!r} saying {words!r}", described, fits, wait)

    async def until_no_tile(self, label: str, wait: float = WAIT) -> None:
        """Wait until a tile is gone."""

        async def there() -> bool:
            return bool(await self.page.evaluate(f"name => Boolean(({_TILE})(name))", label))

        await self._until(f"no tile {label!r}", there, lambda is_there: not is_there, wait)

    async def until_advances(self, label: str, frames: int = 10, wait: float = WAIT) -> None:
        """Wait until a tile's video has gone on by so many frames, and its time with them."""
        first: dict[str, float] | None = None

        async def played() -> dict[str, float] | None:
            result: dict[str, float] | None = await self.page.evaluate(_PLAYED, label)
            return result

        def advanced(now: dict[str, float] | None) -> bool:
            nonlocal first
            if now is None or first is None or now["frames"] < first["frames"]:  # another stream begins anew
                first = now
                return False
            return now["frames"] >= first["frames"] + frames and now["time"] > first["time"]

        await self._until(f"picture of {label!r}", played, advanced, wait)

    async def frames(self, label: str) -> int:
        """Return how many pictures a tile has shown; its time goes on without any."""
        return int((await self.page.evaluate(_PLAYED, label))["frames"])

    async def sent(self, kind: str = "video", room_type: str = "video") -> dict[str, Any]:
        """Return getStats' outbound entry of a kind, with its codec."""
        return await self._stats("", room_type, "outbound-rtp", kind)

    async def received(self, name: str, kind: str = "video", room_type: str = "video") -> dict[str, Any]:
        """Return getStats' inbound entry of a kind, with its codec."""
        return await self._stats(name, room_type, "inbound-rtp", kind)

    async def until_heard(self, name: str, wait: float = WAIT) -> None:
        """Wait until audio energy of somebody arrived."""

        async def energy() -> float:
            stats = await self.page.evaluate(_STATS, [name, "video", "inbound-rtp", "audio"])
            return float((stats or {}).get("totalAudioEnergy", 0.0))

        await self._until(f"sound of {name!r}", energy, lambda heard: heard > 0, wait)

    async def said(self, kind: str = "notices") -> list[str]:
        """Return every text of a kind since the page was opened, however brief: notices, state or tiles' labels."""
        texts: list[str] = await self.page.evaluate("kind => said[kind]", kind)
        return texts

    async def session_id(self) -> str:
        """Return the public id of the running session."""
        return str(await self.page.evaluate("portunus.signaling.sessionId"))

    async def until(self, what: str, script: str, wait: float = WAIT) -> None:
        """Wait until a JavaScript expression is true."""

        async def value() -> Any:
            return await self.page.evaluate(script)

        await self._until(what, value, bool, wait)

    async def _stats(self, name: str, room_type: str, type: str, kind: str) -> dict[str, Any]:
        found: dict[str, Any] | None = await self.page.evaluate(_STATS, [name, room_type, type, kind])
        assert found is not None, f"no {type} {kind} of {name or 'oneself'}"
        return found

    async def _until(self, what: str, read: Any, good: Any, wait: float) -> None:
        value = None
        try:
            async with asyncio.timeout(wait):
                while not good(value := await read()):  # noqa: ASYNC110 - what happens in the browser sets no Event here
                    await asyncio.sleep(0.1)
        except TimeoutError:
            raise AssertionError(
                f"{what} did not come about in {wait:.0f} s; it is {value!r}, the page says {await self.state()!r} "
                f"and {await self.notices()!r}, its console {self.problems!r}"
            ) from None

    def _heard(self, kind: str, text: str) -> None:
        if kind in ("error", "warning"):
            self.problems.append(text)
