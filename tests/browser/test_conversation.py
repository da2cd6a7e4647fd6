"""Chat, raised hands, joins and leaves, and the link to the room: a call beside its audio and video."""

from __future__ import annotations

import pytest
from playwright.async_api import Browser

from gateway.tools.demo import Demo
from tests.browser.call_page import CallPage, joining_page

pytestmark = pytest.mark.full

MESSAGES = "[...document.querySelectorAll('.message')].map(one => one.querySelector('.message-text').textContent)"
AUTHORS = "[...document.querySelectorAll('.message-author')].map(one => one.textContent)"
UNREAD = "document.getElementById('chat-unread').hidden ? '' : document.getElementById('show-chat').textContent"
ADDRESSES = "[...document.querySelectorAll('.message-text a')].map(one => one.href)"
SPOKEN = "document.getElementById('announcer').textContent"
HAND = """name => [...document.querySelectorAll('.tile')]
  .find(tile => tile.querySelector('.tile-name').textContent === name)?.querySelector('.tile-hand').textContent"""
RECORD_SPOKEN = """() => {
  globalThis.spoken = [];
  const read = () => spoken.push(document.getElementById('announcer').textContent);
  new MutationObserver(read).observe(document.getElementById('announcer'), {childList: true});
  read(); // what was said before
}"""
LATER = "() => { const now = Date.now.bind(Date); Date.now = () => now() + 30_000; }"  # on the page's clock
FORGED_IDS = """async () => {
  const {Chat} = await import("/demo/chat.js");
  const {ChatPanel} = await import("/demo/chat_panel.js");
  const [panel, sent] = [new ChatPanel({say: () => {}}), []];
  const signaling = Object.assign(new EventTarget(), {
    sessionId: "own",
    send: ({message}, onError) => sent.push({id: message.data.payload.id, onError}),
  });
  const onMessage = (message) => panel.add({name: message.sessionId, ...message});
  const chat = new Chat({signaling, onMessage, onFailed: (id, error) => panel.markFailed(id, error.message)});
  chat.send("own");
  const [{id, onError}] = sent;
  chat.receive("stranger", {id, text: "with the id of an own message"});
  panel.add({sessionId: "stranger", name: "stranger", id, text: "the same, much later", own: false});
  onError({message: "full"});
  const before = [...document.querySelectorAll(".message")].map(one =>
    [...one.querySelectorAll(".message-text, .message-failed")].map(({textContent}) => textContent));
  for (let number = 0; number < 600; number += 1) {
    panel.add({sessionId: "stranger", name: "stranger", id: String(number % 2), text: "again", own: false});
  }
  const kept = document.querySelectorAll(".message").length;
  panel.clear();
  return [before, kept, document.querySelectorAll(".message").length];
}"""
WITHOUT_CLIPBOARD = "() => Object.defineProperty(navigator, 'clipboard', {value: undefined})"


async def room_of(browser: Browser, demo: Demo, **wanted: str) -> list[CallPage]:
    """Join a user for each keyword, with the devices that its value names, and return when all see each other."""
    pages = [await joining_page(browser, demo.url, name, wanted=choice) for name, choice in wanted.items()]
    for page in pages:
        await page.until_state(f"in the call with {len(pages) - 1} other" if len(pages) > 1 else "Connected")
        await page.page.evaluate(RECORD_SPOKEN)
    return pages


async def say(page: CallPage, text: str) -> None:
    await page.page.fill("#chat-text", text)
    await page.page.press("#chat-text", "Enter")


async def until_spoken(page: CallPage, words: str) -> None:
    await page.until(f"the sentence {words!r}", f"spoken.some(text => text.includes({words!r}))")


async def test_messages_reach_everyone_in_order_as_text_and_outlive_the_connection(
    browser: Browser, inprocess_demo: Demo
) -> None:
    ada, bob = await room_of(browser, inprocess_demo, Ada="generated", Bob="listen")
    await ada.page.click("#show-chat")
    for text in ("one", "<img src=x onerror=alert(1)>", "three\nlines\nof it"):
        await say(ada, text)
    await bob.until("three unread messages", f"({UNREAD}).includes('3 unread')")
    await until_spoken(bob, "Message from Ada: one")
    await bob.page.click("#show-chat")
    assert await bob.page.evaluate(UNREAD) == ""
    sent = ["one", "<img src=x onerror=alert(1)>", "three\nlines\nof it"]
    assert await bob.page.evaluate(MESSAGES) == sent
    await say(bob, "a listener writes, too: https://example.org/a?b=c, not http://x@example.net or javascript:alert(1)")
    await ada.until("the listener's message", f"({MESSAGES}).length === 4")
    assert await ada.page.evaluate(AUTHORS) == ["Ada (you)"] * 3 + ["Bob"]
    assert await ada.page.evaluate(ADDRESSES) == ["https://example.org/a?b=c"]
    assert await ada.page.locator("img").count() == 0
    await inprocess_demo.stop_gateway()
    await ada.until_state("Gateway away")
    await say(ada, "written while the gateway was away")
    await say(ada, "x" * 5000)
    await ada.page.evaluate(LATER)
    await inprocess_demo.start_gateway()
    await bob.until("the kept messages", f"({MESSAGES}).length === 6")
    assert (await bob.page.evaluate(MESSAGES))[4:] == ["written while the gateway was away", "x" * 2000]
    await bob.page.keyboard.press("Escape")
    assert await bob.page.evaluate("document.activeElement.id") == "show-chat"
    assert ada.problems == []


async def test_ids_of_other_members_messages_replace_no_message_and_leave_none(
    browser: Browser, inprocess_demo: Demo
) -> None:
    page = await CallPage.open(browser, inprocess_demo.url)
    own, later = ["own", "Not sent: full"], ["the same, much later"]
    assert await page.page.evaluate(FORGED_IDS) == [[own, later], 500, 0]


async def test_hands_comings_and_goings_are_shown_in_order_and_spoken(browser: Browser, inprocess_demo: Demo) -> None:
    ada, bob = await room_of(browser, inprocess_demo, Ada="generated", Bob="listen")
    await until_spoken(ada, "Bob is in the call.")  # comings before that are told with it
    await bob.page.click("#hand")
    await ada.until_tile("Bob", "hand raised (number 1)")
    await until_spoken(ada, "Bob raised a hand.")
    await ada.page.click("#hand")
    cleo = await joining_page(browser, inprocess_demo.url, "Cleo", wanted="listen")
    await cleo.until_tile("Bob", "hand raised (number 1)")
    await cleo.until_tile("Ada", "hand raised (number 2)")
    await cleo.until_people("hand raised (number 1), listening")
    assert (await cleo.people()).startswith("Bob")
    assert await cleo.page.evaluate(HAND, "Ada") == "2"
    await until_spoken(ada, "Cleo joined the call.")
    await bob.page.click("#leave")
    await cleo.until_tile("Ada", "hand raised (number 1)")
    await until_spoken(ada, "Bob left the call.")
    await ada.page.click("#hand")
    await cleo.until("no raised hand", "document.querySelectorAll('.tile-hand:not(:empty)').length === 0")
    assert ada.problems + cleo.problems == []


async def test_a_listener_learns_why_buttons_have_no_effect_and_shares_a_screen(
    browser: Browser, inprocess_demo: Demo
) -> None:
    ada, bob = await room_of(browser, inprocess_demo, Ada="generated", Bob="listen")
    for button in ("mute", "camera"):
        await bob.page.locator(f"#{button}").focus()
        reason = bob.page.locator(f"#{button}-reason")
        assert await reason.is_visible()
        assert "as a listener" in await reason.inner_text()
        assert await bob.page.get_attribute(f"#{button}", "aria-describedby") == f"{button}-reason"
        await bob.page.keyboard.press("Enter")
    await bob.page.click("#share")
    await ada.until_people("Bob", "listening, shares the screen")
    assert bob.problems == []


async def test_the_link_to_the_room_is_copied(browser: Browser, inprocess_demo: Demo) -> None:
    (ada,) = await room_of(browser, inprocess_demo, Ada="listen")
    for by_selection in (False, True):
        if by_selection:
            await ada.page.evaluate(WITHOUT_CLIPBOARD)  # as on a page without https
        await ada.page.click("#copy-link")
        await until_spoken(ada, "The link to this room is copied.")
        await ada.page.click("#show-chat")
        await ada.page.fill("#chat-text", "")
        await ada.page.keyboard.press("Control+V")
        assert await ada.page.input_value("#chat-text") == f"{inprocess_demo.url}?room=kitchen"
        await ada.page.click("#show-chat")
        await ada.page.evaluate("spoken.length = 0")
    assert ada.problems == []
