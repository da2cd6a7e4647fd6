/**
 * One connection to the gateway (a WebSocket, or long polling where none can be opened): welcome, hello, requests with
 * ids, and resume with back-off.
 *
 * Source: signaling API, "Establish connection" and "Resuming sessions"; reference 2 and 3.
 *
 * Events (CustomEvent):
 *   state    {state, retryIn}   "connecting" | "open" | "away" | "ended"; retryIn in seconds, 0 = now
 *   session  {resumed}          a session is open; not resumed = a new one; an earlier one is lost
 *   message  the message        each message of the gateway that is not handled here, such as events and media messages
 *   ended    {reason}           the gateway ended the session; there is no further attempt
 */

import { ACK, Delivery } from "./delivery.js";
import { PollingSocket } from "./polling.js";

const BACKOFF_SECONDS = [0.5, 1, 2, 4, 8, 16]; // doubled up to 16 s, like the gateway's attempts with Janus (reference 9.8)
const CONNECT_SECONDS = 10; // from the opening of a socket to the reply to the hello
const REPLY_SECONDS = 15; // the gateway asks Nextcloud for up to 10 s
const ERROR_SECONDS = 60; // no error arrives later
const PROBE_SECONDS = 5; // for the answer to a probe
const SILENCE_SECONDS = 25; // without a message, after which the connection is probed
const REPUBLISH = "republish"; // feature id: the gateway may ask for a new offer (docs/protocol.md, "Offering again")
const RETRIED_BYE_REASONS = new Set(["hello_timeout", "room_join_timeout"]);

/** An error that the gateway sent. */
export class SignalingError extends Error {
  constructor({ code = "", message = "", details = undefined }) {
    super(message || code);
    this.name = "SignalingError";
    this.code = code;
    this.details = details;
  }
}

export class Signaling extends EventTarget {
  #url;
  #credentials;
  #socket = null;
  #resumeId = "";
  #lastId = 0;
  #pending = new Map(); // request id -> {resolve, reject} or {onError}
  #delivery = new Delivery();
  #waiting = []; // messages to send after the resume
  #attempt = 0;
  #retryTimer = 0;
  #connectTimer = 0;
  #probeTimer = 0;
  #silenceTimer = 0;
  #room = null; // {roomid, sessionid} of the latest join
  #opened = null; // the promise of open(), until the first session is open

  /**
   * @param {string} url of the WebSocket
   * @param {(features: Set<string>) => Promise<{version: string, auth: object}>} credentials called for each new session
   */
  constructor(url, credentials) {
    super();
    this.#url = url;
    this.#credentials = credentials;
    this.sessionId = "";
    this.userId = "";
    this.features = new Set();
    this.state = "closed";
    this.onNetwork = () => (this.state === "away" ? this.retry() : this.probe());
  }

  /** Connect; resolves when the first session is open, rejects when the gateway refuses it. */
  open() {
    return new Promise((resolve, reject) => {
      this.#opened = { resolve, reject };
      for (const event of ["online", "offline"]) globalThis.addEventListener(event, this.onNetwork);
      this.#connect();
    });
  }

  /**
   * Send a message; while the gateway is away it is kept until the session was resumed.
   * `onError` gets the error if the gateway answers with one.
   */
  send(message, onError) {
    if (this.state === "ended" || this.state === "closed") return;
    const outgoing = onError ? { id: this.#nextId(), ...message } : message;
    if (onError) {
      this.#pending.set(outgoing.id, { onError });
      setTimeout(() => this.#pending.delete(outgoing.id), ERROR_SECONDS * 1000); // success is not answered
    }
    if (this.state === "open") this.#write(outgoing);
    else this.#waiting.push(outgoing);
  }

  /**
   * Send a request and return its reply. Rejects with SignalingError; its code is "timeout" if no reply comes.
   * `onReply` gets the reply before the next message is handled, which a promise would be too late for.
   */
  request(message, onReply = () => {}) {
    return new Promise((resolve, reject) => {
      const id = this.#nextId();
      const timer = setTimeout(() => {
        if (this.#pending.delete(id)) reject(new SignalingError({ code: "timeout", message: "The gateway did not answer." }));
      }, REPLY_SECONDS * 1000);
      const settle = (finish) => (value) => {
        clearTimeout(timer);
        finish(value);
      };
      const handle = (reply) => {
        try {
          onReply(reply);
          resolve(reply);
        } catch (error) {
          reject(error);
        }
      };
      this.#pending.set(id, { resolve: settle(handle), reject: settle(reject) });
      const outgoing = { id, ...message };
      if (this.state === "open" || message.type === "hello") this.#write(outgoing);
      else this.#waiting.push(outgoing);
    });
  }

  /** Join a room and return the room object; a session that is in the room already succeeds. */
  async joinRoom(roomid, sessionid) {
    this.#room = { roomid, sessionid };
    try {
      return (await this.request({ type: "room", room: this.#room })).room;
    } catch (error) {
      if (error.code === "already_joined") return error.details?.room ?? { roomid };
      throw error;
    }
  }

  /** Test the connection by a request; if no message comes within PROBE_SECONDS, drop it and resume on another one. */
  probe() {
    if (this.state !== "open" || !this.#room || this.#probeTimer) return;
    this.#probeTimer = setTimeout(() => this.#drop(), PROBE_SECONDS * 1000);
    // Joining the current room is answered (already_joined) and changes nothing.
    this.send({ type: "room", room: this.#room }, () => {});
  }

  /** Start the next attempt to connect at once. */
  retry() {
    if (this.state === "away") this.#connect();
  }

  /** End the session with a `bye`, and close the connection. */
  close() {
    if (this.state === "open") this.#write({ type: "bye", bye: {} });
    this.#end("closed");
  }

  #nextId() {
    this.#lastId += 1;
    return String(this.#lastId);
  }

  #write(message) {
    const text = JSON.stringify(message);
    if (message.type !== "hello") this.#delivery.keep(text);
    this.#socket.send(text);
  }

  #setState(state, retryIn = 0) {
    this.state = state;
    this.dispatchEvent(new CustomEvent("state", { detail: { state, retryIn } }));
  }

  #connect() {
    clearTimeout(this.#retryTimer);
    this.#detach();
    this.#setState("connecting");
    this.#delivery.startConnection();
    this.#use(new WebSocket(this.#url), () => this.#use(new PollingSocket(this.#url), () => this.#drop()));
  }

  /** Use a socket; call `onUnusable` if it closes, or times out, before the first message. */
  #use(socket, onUnusable) {
    const previous = this.#socket;
    this.#socket = socket;
    previous?.close();
    let received = false;
    const lost = () => {
      if (this.#socket !== socket) return;
      clearTimeout(this.#connectTimer);
      if (received) this.#drop();
      else onUnusable();
    };
    this.#connectTimer = setTimeout(lost, CONNECT_SECONDS * 1000);
    socket.addEventListener("message", (event) => {
      received = true;
      if (this.#socket === socket) this.#receive(event.data);
    });
    socket.addEventListener("close", lost);
  }

  #detach() {
    clearTimeout(this.#connectTimer);
    clearTimeout(this.#probeTimer);
    clearTimeout(this.#silenceTimer);
    this.#probeTimer = 0;
    const socket = this.#socket;
    this.#socket = null;
    socket?.close();
  }

  /** Close the connection and open another one after a pause. */
  #drop() {
    if (this.state === "ended") return;
    this.#detach();
    const seconds = BACKOFF_SECONDS[Math.min(this.#attempt, BACKOFF_SECONDS.length - 1)];
    this.#attempt += 1;
    const pause = seconds * (0.75 + Math.random() / 2); // so that many pages do not connect at once
    this.#setState("away", pause);
    this.#retryTimer = setTimeout(() => this.#connect(), pause * 1000);
  }

  #end(reason) {
    clearTimeout(this.#retryTimer);
    for (const event of ["online", "offline"]) globalThis.removeEventListener(event, this.onNetwork);
    this.#detach();
    this.#waiting = [];
    if (this.state === "ended") return;
    this.#setState("ended");
    this.dispatchEvent(new CustomEvent("ended", { detail: { reason } }));
  }

  #receive(text) {
    clearTimeout(this.#probeTimer);
    clearTimeout(this.#silenceTimer);
    this.#probeTimer = 0;
    this.#silenceTimer = setTimeout(() => this.probe(), SILENCE_SECONDS * 1000);
    let message;
    try {
      message = JSON.parse(text);
    } catch {
      return;
    }
    const acknowledgement = this.#delivery.receive(message);
    if (acknowledgement) this.#write(acknowledgement);
    if (message.type === ACK) return;
    if (message.type === "welcome") {
      this.features = new Set(message.welcome?.features ?? []);
      this.#hello();
    } else if (message.type === "bye") {
      this.#bye(message.bye?.reason ?? "");
    } else if (!this.#settle(message)) {
      this.dispatchEvent(new CustomEvent("message", { detail: message }));
    }
  }

  /** Pass a reply to its request; returns false if the message is no reply. */
  #settle(message) {
    const pending = message.id === undefined ? undefined : this.#pending.get(message.id);
    if (!pending) return false;
    this.#pending.delete(message.id);
    if (message.type === "error") (pending.onError ?? pending.reject)(new SignalingError(message.error ?? {}));
    else pending.resolve?.(message);
    return true;
  }

  #bye(reason) {
    if (RETRIED_BYE_REASONS.has(reason)) {
      this.#resumeId = "";
      this.#drop();
    } else {
      this.#end(reason);
    }
  }

  async #hello() {
    const socket = this.#socket;
    try {
      if (this.#resumeId && (await this.#resume())) return;
      const { version, auth } = await this.#credentials(this.features);
      if (this.#socket !== socket) return;
      const features = [ACK, REPUBLISH].filter((feature) => this.features.has(feature));
      await this.request({ type: "hello", hello: { version, auth, features } }, (reply) => this.#useSession(reply, false));
    } catch (error) {
      this.#helloFailed(error, socket);
    }
  }

  /** Resume the session; false when it no longer exists. */
  async #resume() {
    const resumeid = this.#resumeId;
    try {
      const hello = { version: "1.0", resumeid, ...this.#delivery.resumeMembers };
      await this.request({ type: "hello", hello }, (reply) => this.#useSession(reply, true));
      return true;
    } catch (error) {
      if (error.code !== "no_such_session") throw error;
      if (this.#resumeId === resumeid) this.#resumeId = ""; // otherwise another session was opened meanwhile
      return false;
    }
  }

  #helloFailed(error, socket) {
    if (this.#opened && error instanceof SignalingError && error.code !== "timeout") {
      this.#opened.reject(error);
      this.#opened = null;
      this.#end("refused");
    } else if (this.#socket === socket) {
      this.#drop();
    }
  }

  #useSession(reply, resumed) {
    clearTimeout(this.#connectTimer);
    const { sessionid, resumeid, userid } = reply.hello;
    this.sessionId = sessionid;
    this.#resumeId = resumeid ?? this.#resumeId;
    this.userId = userid ?? "";
    this.#attempt = 0;
    const kept = this.#waiting;
    this.#waiting = [];
    if (!resumed) this.#forgetSession();
    for (const text of this.#delivery.applyHello(reply.hello, resumed)) this.#socket.send(text);
    if (resumed) for (const message of kept) this.#write(message);
    this.#setState("open"); // listeners may send at once
    this.dispatchEvent(new CustomEvent("session", { detail: { resumed } }));
    this.#opened?.resolve();
    this.#opened = null;
  }

  /** Drop the room and the requests of a lost session. */
  #forgetSession() {
    this.#room = null;
    for (const { reject } of this.#pending.values()) {
      reject?.(new SignalingError({ code: "no_such_session", message: "The session is gone." }));
    }
    this.#pending.clear();
  }
}
