/**
 * Acknowledged delivery: numbers what came, and keeps what may not have arrived, so that a connection that breaks loses
 * and doubles nothing.
 *
 * Source: the gateway's protocol page, "Acknowledged delivery". Only with a gateway that announces it.
 */

export const FEATURE = "ack";

const ACK_EVERY = 16; // messages, in either direction

export class Delivery {
  #active = false; // the session has the feature
  #counting = false; // it is there on this connection
  #received = 0;
  #sent = []; // texts not known to have arrived
  #arrived = 0; // how many before those did

  /** A connection is new: nothing counts before the reply to its hello. */
  connected() {
    this.#counting = false;
  }

  /** What a hello that resumes says of the messages so far. */
  get position() {
    return this.#active ? { received: this.#received } : {};
  }

  /** Take the reply to a hello; returns the texts to send again. */
  begin({ received }, resumed) {
    if (!resumed) {
      this.#received = this.#arrived = 0;
      this.#sent = [];
    }
    this.#active = received !== undefined;
    this.#counting = this.#active;
    if (!this.#active) return [];
    this.#confirm(received);
    return [...this.#sent];
  }

  /** Keep a text that is about to be sent. */
  sending(text) {
    if (this.#counting) this.#sent.push(text);
  }

  /** Count a message that came; returns an acknowledgement to send now, or null. */
  heard(message) {
    if (!this.#counting) return null;
    if (message.type === FEATURE) {
      this.#confirm(message[FEATURE]?.received ?? 0);
      return null;
    }
    this.#received += 1;
    const due = this.#received % ACK_EVERY === 0 || this.#sent.length >= ACK_EVERY;
    return due ? { type: FEATURE, [FEATURE]: { received: this.#received } } : null;
  }

  #confirm(arrived) {
    this.#sent.splice(0, Math.max(arrived - this.#arrived, 0));
    this.#arrived = Math.max(arrived, this.#arrived);
  }
}
