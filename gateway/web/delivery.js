/**
 * Acknowledged delivery: counts received messages and keeps sent ones until they are acknowledged, so that a broken
 * connection neither loses nor doubles a message.
 *
 * Source: docs/protocol.md, "Acknowledged delivery". Active only if the gateway announces the feature.
 */

export const ACK = "ack";

const ACK_EVERY = 16; // messages, in either direction

export class Delivery {
  #active = false; // the session has the feature
  #counting = false; // whether messages on this connection are counted
  #received = 0; // number of received messages
  #unacknowledged = []; // texts of sent messages
  #acknowledged = 0; // number of acknowledged messages, all sent before these

  /** Start a connection: its messages are counted only after the reply to its hello. */
  startConnection() {
    this.#counting = false;
  }

  /** The members that a resuming hello has for acknowledged delivery: the number of received messages. */
  get resumeMembers() {
    return this.#active ? { received: this.#received } : {};
  }

  /** Apply the reply to a hello; returns the texts to send again. */
  applyHello({ received }, resumed) {
    if (!resumed) {
      this.#received = this.#acknowledged = 0;
      this.#unacknowledged = [];
    }
    this.#active = received !== undefined;
    this.#counting = this.#active;
    if (!this.#active) return [];
    this.#dropAcknowledged(received);
    return [...this.#unacknowledged];
  }

  /** Keep a text that is about to be sent. */
  keep(text) {
    if (this.#counting) this.#unacknowledged.push(text);
  }

  /** Count a received message; returns an acknowledgement to send now, or null. */
  receive(message) {
    if (!this.#counting) return null;
    if (message.type === ACK) {
      this.#dropAcknowledged(message[ACK]?.received ?? 0);
      return null;
    }
    this.#received += 1;
    const due = this.#received % ACK_EVERY === 0 || this.#unacknowledged.length >= ACK_EVERY;
    return due ? { type: ACK, [ACK]: { received: this.#received } } : null;
  }

  #dropAcknowledged(acknowledged) {
    this.#unacknowledged.splice(0, Math.max(acknowledged - this.#acknowledged, 0));
    this.#acknowledged = Math.max(acknowledged, this.#acknowledged);
  }
}
