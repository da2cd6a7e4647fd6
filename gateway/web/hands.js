/**
 * Raised hands: the own one, and those of the other members in the order in which they were raised.
 *
 * Messages are Talk's: `{"type": "raiseHand", "payload": {"state", "timestamp"}}`, the time in milliseconds.
 */

export const RAISE_HAND = "raiseHand";

export class Hands {
  #signaling;
  #onChange;
  #onRaised;
  #own = 0; // time at which the own hand was raised; 0 = it is not
  #others = new Map(); // session id -> time
  #present = new Set(); // session ids of the other call members

  /** @param {{signaling: Signaling, onChange: () => void, onRaised: (sessionId: string) => void}} options */
  constructor({ signaling, onChange, onRaised }) {
    this.#signaling = signaling;
    this.#onChange = onChange;
    this.#onRaised = onRaised;
  }

  get raised() {
    return this.#own > 0;
  }

  /** Raise or lower the own hand. */
  toggle() {
    this.#own = this.#own ? 0 : Date.now();
    this.#send({ type: "room" });
    this.#onChange();
  }

  receive(sessionId, payload) {
    const raised = payload?.state === true;
    const had = this.#others.has(sessionId);
    if (raised) this.#others.set(sessionId, Number.isFinite(payload.timestamp) ? payload.timestamp : Date.now());
    else this.#others.delete(sessionId);
    if (raised && !had) this.#onRaised(sessionId);
    if (raised || had) this.#onChange();
  }

  /** Lower the hands of those that have left the call, and tell newcomers of the own one. */
  setCallMembers(sessionIds) {
    const present = new Set(sessionIds);
    for (const sessionId of this.#present) if (!present.has(sessionId)) this.#others.delete(sessionId);
    const newcomers = sessionIds.filter((sessionId) => !this.#present.has(sessionId));
    this.#present = present;
    if (!this.#own) return;
    for (const sessionid of newcomers) this.#send({ type: "session", sessionid });
  }

  /** Forget the others; they tell of their hands again when this session is back. */
  sessionLost() {
    this.#others.clear();
    this.#present.clear();
  }

  /** Return the place of a session among the raised hands, from 1; 0 = its hand is not raised. */
  place(sessionId) {
    const times = new Map([...this.#others].filter(([other]) => this.#present.has(other)));
    if (this.#own) times.set(this.#signaling.sessionId, this.#own);
    const order = [...times].sort(([one, first], [other, second]) => first - second || one.localeCompare(other));
    return order.findIndex(([one]) => one === sessionId) + 1;
  }

  #send(recipient) {
    const data = { type: RAISE_HAND, payload: { state: this.raised, timestamp: this.#own || Date.now() } };
    this.#signaling.send({ type: "message", message: { recipient, data } });
  }
}

/** Return the words for a raised hand; `place` is its place among the raised ones. */
export function handWords(place) {
  return `hand raised (number ${place})`;
}
