/**
 * The chat of a call: text messages to the whole room, sent through the gateway.
 *
 * A message's data is `{"type": "chatMessage", "payload": {"id", "text"}}`, a type of this page: the chat of Talk's clients
 * goes through Nextcloud, which the demo has none of. The gateway keeps the order of each sender's messages.
 */

import { randomId } from "./random.js";

export const CHAT_MESSAGE = "chatMessage";
export const MAX_TEXT = 2000; // characters of a message; longer ones are cut

const MAX_ID = 64; // characters
const KEPT = 500; // ids of messages, by which a repeated one is recognised; and own messages
const REJOIN_MS = 60_000; // after a session is back, members of its room that have lost theirs may still come back
const UNCERTAIN_MS = 10_000; // a message sent within this time before the connection broke may be lost with the session

export class Chat {
  #signaling;
  #report;
  #onFailed;
  #seen = new Set(); // ids of received and own messages
  #sent = []; // {id, text, time} of own messages
  #lostAt = 0; // time at which the connection broke; 0 = the session has one, or its successor is in the room
  #joined = true; // false while the session is lost, whose successor is not in the room yet
  #former = new Set(); // user ids of the members when the session was lost
  #uncertain = []; // own messages that they may not have
  #told = new Set(); // session ids to which these were sent since
  #backAt = 0;

  /**
   * @param {{signaling: Signaling, onMessage: ({sessionId, id, text, own}) => void, onFailed: (id, error) => void}} options
   */
  constructor({ signaling, onMessage, onFailed }) {
    this.#signaling = signaling;
    this.#report = onMessage;
    this.#onFailed = onFailed;
    this.onState = ({ detail }) => this.#noteState(detail.state);
    signaling.addEventListener("state", this.onState);
  }

  /** Send a text to the room; returns whether there was any. */
  send(text) {
    const cut = cutText(text);
    if (!cut) return false;
    const message = { id: randomId(), text: cut, time: Date.now() };
    this.#sent = [...this.#sent, message].slice(-KEPT);
    this.#see(message.id); // another member may send a message with the same id
    if (this.#joined) this.#write(message);
    this.#report({ sessionId: this.#signaling.sessionId, id: message.id, text: cut, own: true });
    return true;
  }

  /** Report a message of another session, unless it has been received before. */
  receive(sessionId, payload) {
    const { id, text } = payload ?? {};
    if (typeof id !== "string" || !id || id.length > MAX_ID || typeof text !== "string") return;
    const cut = cutText(text);
    if (!cut || this.#seen.has(id)) return;
    this.#see(id);
    this.#report({ sessionId, id, text: cut, own: false });
  }

  /** The session has a connection again. That of a lost session's successor, before renew(), changes nothing. */
  resumed() {
    if (this.#joined) this.#lostAt = 0;
  }

  /** Keep messages until renew(): the session is lost. `members` are those of the room. */
  sessionLost(members) {
    this.#joined = false;
    for (const { userId } of members) if (userId) this.#former.add(userId);
  }

  /** Send again, in the new session, the messages that may be lost with the old one; receivers drop repeated ones. */
  renew() {
    const since = (this.#lostAt || Date.now()) - UNCERTAIN_MS;
    this.#uncertain = this.#sent.filter(({ time }) => time >= since);
    this.#told.clear();
    [this.#joined, this.#lostAt, this.#backAt] = [true, 0, Date.now()];
    for (const message of this.#uncertain) this.#write(message);
  }

  /** Send these messages to former members that come back after this session: a gateway that restarts loses all sessions. */
  setMembers(members) {
    if (Date.now() - this.#backAt > REJOIN_MS) return;
    for (const { sessionId, userId } of members) {
      if (!this.#former.has(userId) || this.#told.has(sessionId)) continue;
      this.#told.add(sessionId);
      for (const message of this.#uncertain) this.#write(message, { type: "session", sessionid: sessionId });
    }
  }

  close() {
    this.#signaling.removeEventListener("state", this.onState);
  }

  #noteState(state) {
    if (state === "away") this.#lostAt ||= Date.now(); // until resumed() or renew(): "open" may be that of a new session
  }

  #see(id) {
    this.#seen.add(id);
    if (this.#seen.size > KEPT) this.#seen.delete(this.#seen.values().next().value); // the oldest
  }

  #write({ id, text }, recipient = { type: "room" }) {
    const data = { type: CHAT_MESSAGE, payload: { id, text } };
    this.#signaling.send({ type: "message", message: { recipient, data } }, (error) => this.#onFailed(id, error));
  }
}

function cutText(text) {
  return [...text.slice(0, 2 * MAX_TEXT)].slice(0, MAX_TEXT).join("").trim(); // by characters: a surrogate pair stays whole
}
