/**
 * A connection over HTTP requests, for networks that block WebSockets; it has the interface of a WebSocket.
 *
 * Source: docs/protocol.md, "Long polling". A failed request is sent again; no message is delivered twice.
 *
 * Events: message {data}, close.
 */

const SECRET_HEADER = "Spreed-Signaling-Poll";
const REQUEST_SECONDS = 40; // the gateway answers a fetch within 25
const ATTEMPTS = 4; // of one request, then the connection is closed
const PAUSE_SECONDS = 1; // by which the pause before an attempt grows; the second attempt has none
const BATCH = 50; // messages in one request

const pause = (seconds) => new Promise((resolve) => setTimeout(resolve, seconds * 1000));

export class PollingSocket extends EventTarget {
  #url;
  #secret = "";
  #outgoing = []; // texts that the gateway has not accepted
  #accepted = 0; // number of messages that the gateway has accepted
  #received = 0; // number of the last received message
  #posting = false;
  #over = false;
  #aborter = new AbortController();

  /** @param {string} url of the WebSocket that this connection replaces */
  constructor(url) {
    super();
    this.#url = `${url.replace(/^ws/, "http")}/poll`;
    this.#run();
  }

  send(text) {
    this.#outgoing.push(text);
    this.#post();
  }

  /** End the connection, but not the session; messages that the gateway has not accepted are sent with the request. */
  close() {
    if (this.#over) return;
    this.#over = true;
    this.#aborter.abort();
    if (!this.#secret) return;
    const last = { first: this.#accepted + 1, messages: this.#outgoing, received: this.#received, close: true };
    this.#send(last, { keepalive: true }).catch(() => {});
  }

  async #run() {
    try {
      this.#secret = (await this.#request(null)).secret;
      this.#post();
      while (!this.#over) this.#deliver(await this.#request({ received: this.#received }));
    } catch {
      this.#end();
    }
  }

  #deliver({ first, messages, closed }) {
    for (const [index, message] of messages.entries()) {
      if (first + index <= this.#received) continue;
      this.#received = first + index;
      if (!this.#over) this.dispatchEvent(new MessageEvent("message", { data: JSON.stringify(message) }));
    }
    if (closed) this.#end();
  }

  async #post() {
    if (this.#posting || !this.#secret) return;
    this.#posting = true;
    try {
      while (this.#outgoing.length && !this.#over) {
        const body = { first: this.#accepted + 1, messages: this.#outgoing.slice(0, BATCH) };
        const { accepted } = await this.#request(body);
        if (accepted <= this.#accepted) await pause(PAUSE_SECONDS); // the gateway is busy
        this.#outgoing.splice(0, accepted - this.#accepted);
        this.#accepted = accepted;
      }
    } catch {
      this.#end();
    } finally {
      this.#posting = false;
    }
  }

  /** Send a request, at most ATTEMPTS times, until it is answered; an error status is not tried again. */
  async #request(body) {
    for (let attempt = 1; ; attempt += 1) {
      const signals = [this.#aborter.signal, AbortSignal.timeout(REQUEST_SECONDS * 1000)];
      try {
        const response = await this.#send(body, { signal: AbortSignal.any(signals) });
        if (!response.ok) throw new RangeError(`status ${response.status}`); // recognised by its class below
        return await response.json();
      } catch (error) {
        const opening = !this.#secret; // a failure is reported at once, so that the caller tries again
        if (this.#over || opening || error instanceof RangeError || attempt === ATTEMPTS) throw error;
        await pause(PAUSE_SECONDS * (attempt - 1));
      }
    }
  }

  #send(body, options) {
    const headers = this.#secret ? { [SECRET_HEADER]: this.#secret, "Content-Type": "application/json" } : {};
    return fetch(this.#url, { method: "POST", headers, body: body && JSON.stringify(body), cache: "no-store", ...options });
  }

  #end() {
    if (this.#over) return;
    this.#over = true;
    this.#aborter.abort();
    this.dispatchEvent(new Event("close"));
  }
}
