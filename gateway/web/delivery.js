/**
 * Acknowledged delivery: counts received messages and keeps sent ones until they are acknowledged, so that a broken
 * connection neither loses nor doubles a message.
 *
 * Source: docs/protocol.md, "Acknowledged delivery". Active only if the gateway announces the feature.
 */

export const FEATURE = "ack";

const ACK_EVERY = 16; // messages, in either direction

export class Delivery {
  #active = false; // the session has the feature
  #counting = false; // whether messages count on this connection
  #received = 0;
  #sent = []; // texts without an acknowledgement
  #arrived = 0; // number of acknowledged texts before them

  /** Start a connection: messages count only after the reply to its hello. */
  connected() {
    this.#counting = false;
  }

  /** The members that a resuming hello reports of the received messages. */
  get position() {
    return this.#active ? { received: this.#received } : {};
  }

  /** Apply the reply to a hello; returns the texts to send again. */
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

  /** Count a received message; returns an acknowledgement to send now, or null. */
  receive(message) {
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
