/**
 * The chat's panel: the messages, the field for a new one, and the number of unread ones on its button.
 */

import { MAX_TEXT } from "./chat.js";
import { textWithLinks } from "./links.js";
import { element } from "./tiles.js";

const KEPT = 500; // messages on the page
const SPOKEN = 120; // characters of a message that is read while the panel is closed
const NEAR_END = 40; // pixels from the end, within which a new message scrolls

const $ = (id) => document.getElementById(id);

export class ChatPanel {
  #announcer;
  #unread = 0;

  constructor(announcer) {
    this.#announcer = announcer;
    this.onSend = () => false; // set by the page: sends a text and returns whether there was any
    $("chat-text").maxLength = MAX_TEXT;
    $("chat-form").addEventListener("submit", (event) => this.#submit(event));
    $("chat-text").addEventListener("keydown", (event) => {
      if (event.key === "Enter" && !event.shiftKey && !event.isComposing) this.#submit(event);
    });
  }

  /** Show a message at the end; others' messages count as unread while the panel is closed. */
  add({ id, name, text, own }) {
    const log = $("chat-log");
    const follow = own || log.scrollHeight - log.scrollTop - log.clientHeight < NEAR_END;
    const made = message(name, text, own);
    $("chat-empty").hidden = true;
    if (own) made.dataset.sentId = id; // the ids of others' messages are their choice
    log.append(made);
    if (log.childElementCount > KEPT) log.firstElementChild.remove();
    if (follow) log.scrollTop = log.scrollHeight;
    if (own || !$("chat").hidden) return; // the open log is read by itself
    this.#setUnread(this.#unread + 1);
    this.#announcer.say(`Message from ${name}: ${[...text].slice(0, SPOKEN).join("")}`);
  }

  /** Say at an own message that the gateway has not taken it. */
  markFailed(id, reason) {
    const made = [...$("chat-log").children].find(({ dataset }) => dataset.sentId === id);
    if (!made || made.querySelector(".message-failed")) return;
    const note = element("p", "message-failed");
    note.textContent = `Not sent: ${reason}`;
    made.append(note);
  }

  /** The panel is shown: nothing is unread, and the next keys write a message. */
  opened() {
    this.#setUnread(0);
    $("chat-log").scrollTop = $("chat-log").scrollHeight;
    $("chat-text").focus();
  }

  clear() {
    $("chat-log").replaceChildren();
    $("chat-empty").hidden = false;
    $("chat-text").value = "";
    this.#setUnread(0);
  }

  #submit(event) {
    event.preventDefault();
    if (this.onSend($("chat-text").value)) $("chat-text").value = "";
    $("chat-text").focus();
  }

  #setUnread(count) {
    this.#unread = count;
    $("chat-unread").hidden = count === 0;
    $("chat-unread-count").textContent = count > 99 ? "99+" : String(count);
  }
}

function message(name, text, own) {
  const made = element("article", `message${own ? " own" : ""}`);
  const [head, author, time, body] = [element("p", "message-head"), element("span", "message-author"), element("time"), element("p", "message-text")];
  const now = new Date();
  author.textContent = own ? `${name} (you)` : name;
  time.dateTime = now.toISOString();
  time.textContent = now.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  head.append(author, time);
  body.append(...textWithLinks(text));
  made.append(head, body);
  return made;
}
