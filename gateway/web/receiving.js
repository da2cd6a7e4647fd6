/**
 * The subscriptions to the others' streams, requested by this page or offered by the gateway; failed ones are requested
 * again.
 *
 * Source: signaling API, "Request offer from publisher"; reference 9.3, 9.4, 9.7.
 */

import { Subscription } from "./peer.js";
import { FLAG_AUDIO, FLAG_VIDEO } from "./roster.js";
import * as sentences from "./sentences.js";

const RETRY_SECONDS = [1, 2, 4, 8, 15, 30]; // before a failed stream is requested again
const AWAY_SECONDS = 1; // between two checks whether the gateway is back
const ORPHAN_SECONDS = 20; // for which streams of a lost session may play on

export class Receiving {
  #options;
  #streams = new Map(); // key -> {sessionId, roomType, subscription, attempt, timer}
  #orphaned = []; // subscriptions of a lost session, which play until ORPHAN_SECONDS are over
  #names = new Map(); // session id -> name

  /**
   * @param {{signaling, iceServers, onTrouble: (key, text) => void,
   *   onStream: (sessionId, roomType, stream) => void, onGone: (sessionId, roomType) => void,
   *   onMemberState: (sessionId, type, payload) => void}} options
   */
  constructor(options) {
    this.#options = options;
  }

  /** Set the other members of the call: subscribe to those that send, and drop the streams of all that are gone. */
  setCallMembers(members) {
    this.#names = new Map(members.map(({ sessionId, name }) => [sessionId, name]));
    for (const { sessionId } of [...this.#streams.values()]) {
      if (!this.#names.has(sessionId)) for (const roomType of ["video", "screen"]) this.#drop(sessionId, roomType);
    }
    for (const { sessionId, flags } of members) {
      const sends = flags & (FLAG_AUDIO | FLAG_VIDEO);
      if (sends && !this.#streams.has(keyOf(sessionId, "video"))) this.#request(sessionId, "video");
    }
  }

  /** Answer an offer of the SFU; a new sid begins a new connection. */
  offer(sessionId, roomType, sid, sdp) {
    const stream = this.#entry(sessionId, roomType);
    clearTimeout(stream.timer);
    if (!stream.subscription || stream.subscription.closed || ![sid, ""].includes(stream.subscription.sid)) {
      this.#open(stream);
    }
    stream.subscription.offer(sid, sdp);
  }

  /** Add a candidate of the SFU to a subscription. */
  candidate(sessionId, roomType, sid, candidate) {
    const subscription = this.#streams.get(keyOf(sessionId, roomType))?.subscription;
    if (subscription && (!sid || subscription.sid === sid)) subscription.addCandidate(candidate);
  }

  /** Drop the screen of a publisher that has stopped sharing it. */
  dropScreen(sessionId) {
    this.#drop(sessionId, "screen");
  }

  /** Return the PeerConnection of a stream, or null. */
  connection(sessionId, roomType) {
    return this.#streams.get(keyOf(sessionId, roomType))?.subscription?.pc ?? null;
  }

  resumed() {
    for (const { subscription } of this.#streams.values()) if (subscription && !subscription.closed) subscription.resumed();
  }

  /** Let the streams of a lost session play for ORPHAN_SECONDS; those of the next session replace them in the tiles. */
  sessionLost() {
    for (const stream of this.#streams.values()) {
      clearTimeout(stream.timer);
      this.#options.onTrouble(keyOf(stream.sessionId, stream.roomType), null);
      if (!stream.subscription || stream.subscription.closed) continue;
      stream.subscription.onFailed = () => {};
      this.#orphaned.push(stream.subscription);
    }
    this.#streams.clear();
    setTimeout(() => this.#closeOrphaned(), ORPHAN_SECONDS * 1000);
  }

  close() {
    this.#closeOrphaned();
    for (const { sessionId, roomType } of [...this.#streams.values()]) this.#drop(sessionId, roomType);
  }

  #closeOrphaned() {
    for (const subscription of this.#orphaned) subscription.close();
    this.#orphaned = [];
  }

  #entry(sessionId, roomType) {
    const key = keyOf(sessionId, roomType);
    if (!this.#streams.has(key)) this.#streams.set(key, { sessionId, roomType, subscription: null, attempt: 0, timer: 0 });
    return this.#streams.get(key);
  }

  #request(sessionId, roomType) {
    const stream = this.#entry(sessionId, roomType);
    if (this.#options.signaling.state !== "open") {
      stream.timer = setTimeout(() => this.#request(sessionId, roomType), AWAY_SECONDS * 1000);
      return;
    }
    this.#open(stream);
    stream.subscription.request();
  }

  #open(stream) {
    const { signaling, iceServers, onMemberState } = this.#options;
    const { sessionId, roomType } = stream;
    stream.subscription?.close();
    stream.subscription = new Subscription({
      signaling,
      iceServers,
      roomType,
      publisher: sessionId,
      onTrack: (media) => this.#options.onStream(sessionId, roomType, media),
      onMemberState: (type, payload) => onMemberState(sessionId, type, payload),
      onError: (error) => this.#refused(stream, error),
      onFailed: (reason) => this.#failed(stream, reason),
      onState: (state) => this.#connectionStateChanged(stream, state),
    });
  }

  #connectionStateChanged(stream, state) {
    if (state !== "connected") return;
    stream.attempt = 0;
    this.#options.onTrouble(keyOf(stream.sessionId, stream.roomType), null);
  }

  #refused(stream, error) {
    if (stream.roomType === "screen" && error.code === "client_not_found") {
      this.#drop(stream.sessionId, "screen");
      return;
    }
    const attempt = this.#retry(stream);
    this.#report(stream, (name) => sentences.theirsNotFound(name, error.code, attempt < RETRY_SECONDS.length));
  }

  #failed(stream, reason) {
    const attempt = this.#retry(stream);
    // The SFU also ends a connection when its publisher is replaced or leaves, so that the first end is not reported.
    if (reason === "ended" && attempt === 1) return;
    this.#report(stream, (name) => sentences.theirMediaFailed(name, attempt < 3));
  }

  #report({ sessionId, roomType }, sentence) {
    this.#options.onTrouble(keyOf(sessionId, roomType), sentence(this.#names.get(sessionId) ?? "somebody"));
  }

  /** Request a stream again after a delay; returns the number of failures since it was last connected. */
  #retry(stream) {
    clearTimeout(stream.timer);
    stream.subscription?.close();
    const { sessionId, roomType } = stream;
    const delay = RETRY_SECONDS[Math.min(stream.attempt, RETRY_SECONDS.length - 1)];
    stream.timer = setTimeout(() => this.#request(sessionId, roomType), delay * 1000);
    stream.attempt += 1;
    return stream.attempt;
  }

  #drop(sessionId, roomType) {
    const key = keyOf(sessionId, roomType);
    const stream = this.#streams.get(key);
    if (!stream) return;
    clearTimeout(stream.timer);
    stream.subscription?.close();
    this.#streams.delete(key);
    this.#options.onTrouble(key, null);
    this.#options.onGone(sessionId, roomType);
  }
}

function keyOf(sessionId, roomType) {
  return `${sessionId} ${roomType}`;
}
