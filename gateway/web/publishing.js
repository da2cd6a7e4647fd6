/**
 * Our own streams: camera with microphone, and the screen; each published anew on a new connection when it fails.
 *
 * Source: signaling API, "Start publishing" and "Send offer to subscriber"; reference 9.2, 9.5, 9.7.
 */

import { Publication } from "./peer.js";
import * as sentences from "./sentences.js";

const DELAYS = [1, 2, 4, 8, 15, 30]; // seconds before a failed stream is tried again
const AWAY_SECONDS = 1; // how often to look whether the gateway is back before offering anything
const OFFER_DELAY_SECONDS = 2;
const OFFER_ATTEMPTS = 4;

export class Publishing {
  #options;
  #streams = new Map(); // roomType -> {tracks, wishes, publication, former, attempt, timer}
  #callers = []; // session ids of the others in the call
  #offered = new Set(); // whom the running screen was offered to

  /** @param {{signaling, iceServers, name, onTrouble: (key, text) => void, onOpen: () => void,
   *   onState: (roomType, state) => void}} options `state` is the connection's, "" when nothing is published */
  constructor(options) {
    this.#options = options;
  }

  /** Publish tracks as a roomType, in place of what is published there. */
  publish(roomType, tracks, wishes) {
    this.stop(roomType);
    this.#streams.set(roomType, { tracks, wishes, publication: null, former: null, attempt: 0, timer: 0 });
    this.#open(roomType);
  }

  /** Publish a roomType with other wishes: they count for a new connection only. */
  rewish(roomType, wishes) {
    const stream = this.#streams.get(roomType);
    if (!stream) return;
    stream.wishes = wishes;
    this.#open(roomType);
  }

  /** Send another track of a kind, or none for `null`. */
  setTrack(roomType, kind, track) {
    const stream = this.#streams.get(roomType);
    if (!stream) return;
    stream.tracks = stream.tracks.filter((one) => one.kind !== kind);
    if (track) stream.tracks.push(track);
    const { publication } = stream;
    publication?.enqueue(() => publication.setTrack(kind, track));
  }

  /** Close a roomType's connection. */
  stop(roomType) {
    const stream = this.#streams.get(roomType);
    if (!stream) return;
    clearTimeout(stream.timer);
    stream.publication?.close();
    stream.former?.close();
    this.#streams.delete(roomType);
    if (roomType === "screen") this.#offered.clear();
    this.#options.onTrouble(`own ${roomType}`, null);
  }

  /** Stop the screen and tell the gateway and everybody who sees it. */
  unshare() {
    if (!this.#streams.has("screen")) return;
    for (const sessionid of [this.#options.signaling.sessionId, ...this.#callers]) {
      this.#message(sessionid, { type: "unshareScreen", roomType: "screen" });
    }
    this.stop("screen");
  }

  /** Take the others in the call; those who are new to a running screen share are offered it. */
  callers(sessionIds) {
    this.#callers = sessionIds;
    for (const sessionId of this.#offered) if (!sessionIds.includes(sessionId)) this.#offered.delete(sessionId);
    this.#offerScreen();
  }

  answer(roomType, sid, sdp) {
    this.#streams.get(roomType)?.publication?.answer(sid, sdp);
  }

  candidate(roomType, sid, candidate) {
    const publication = this.#streams.get(roomType)?.publication;
    if (publication && (!sid || sid === publication.sid)) publication.addCandidate(candidate);
  }

  tell(type, payload) {
    this.#streams.get("video")?.publication?.tell(type, payload);
  }

  connection(roomType) {
    return this.#streams.get(roomType)?.publication?.pc ?? null;
  }

  resumed() {
    for (const { publication } of this.#streams.values()) publication?.resumed();
  }

  /** Publish everything anew: the session that it belonged to is gone. */
  renew() {
    this.#offered.clear();
    for (const roomType of this.#streams.keys()) this.#open(roomType);
  }

  /** The SFU has lost the stream of this connection: offer it again, unless another connection took its place. */
  again({ roomType, sid }) {
    const stream = this.#streams.get(roomType);
    const { publication } = stream ?? {};
    if (!publication || (sid && sid !== publication.sid && !publication.closed)) return;
    stream.attempt = 0;
    this.#open(roomType);
  }

  close() {
    for (const roomType of [...this.#streams.keys()]) this.stop(roomType);
  }

  #open(roomType) {
    const stream = this.#streams.get(roomType);
    const { signaling, iceServers, name } = this.#options;
    clearTimeout(stream.timer);
    if (signaling.state !== "open") {
      stream.timer = setTimeout(() => this.#open(roomType), AWAY_SECONDS * 1000);
      return;
    }
    stream.former?.close();
    stream.former = stream.publication; // goes on until its successor is there, so that nobody misses a picture
    const mine = (take) => (value) => stream.publication === publication && take(value);
    const publication = new Publication({
      signaling,
      iceServers,
      roomType,
      publisher: signaling.sessionId,
      tracks: stream.tracks,
      nick: name,
      wishes: stream.wishes,
      channel: roomType === "video",
      onChannel: () => this.#options.onOpen(),
      onPublished: mine(() => this.#published(roomType)),
      onError: mine((error) => this.#refused(roomType, error)),
      onFailed: mine((reason) => this.#failed(roomType, reason)),
      onState: mine((state) => this.#state(roomType, state)),
    });
    stream.publication = publication;
  }

  #state(roomType, state) {
    if (state === "connected") {
      this.#streams.get(roomType).attempt = 0;
      this.#options.onTrouble(`own ${roomType}`, null);
    }
    this.#options.onState(roomType, state);
  }

  #published(roomType) {
    const stream = this.#streams.get(roomType);
    stream.former?.close();
    stream.former = null;
    if (roomType === "screen") this.#offerScreen();
  }

  #offerScreen() {
    if (!this.#streams.get("screen")?.publication?.pc.remoteDescription) return;
    for (const sessionId of this.#callers) {
      if (this.#offered.has(sessionId)) continue;
      this.#offered.add(sessionId);
      this.#sendOffer(sessionId, 1);
    }
  }

  #sendOffer(sessionId, attempt) {
    this.#message(sessionId, { type: "sendoffer", roomType: "screen" }, () => {
      setTimeout(() => {
        if (!this.#offered.has(sessionId) || !this.#streams.has("screen")) return;
        if (attempt < OFFER_ATTEMPTS) this.#sendOffer(sessionId, attempt + 1);
        else this.#offered.delete(sessionId);
      }, OFFER_DELAY_SECONDS * 1000);
    });
  }

  #refused(roomType, error) {
    this.#options.onTrouble(`own ${roomType}`, sentences.ownNotPublished(error.code));
    if (error.code !== "not_allowed") {
      this.#again(roomType);
      return;
    }
    this.#streams.get(roomType)?.publication?.close();
    this.#options.onState(roomType, "");
  }

  #failed(roomType, reason) {
    const attempt = this.#again(roomType);
    if (reason === "ended" && attempt === 1) return; // the SFU restarts, or we were put out of the call
    this.#options.onTrouble(`own ${roomType}`, sentences.ownMediaFailed(attempt < 3));
  }

  #again(roomType) {
    const stream = this.#streams.get(roomType);
    if (!stream) return 0;
    stream.publication?.close();
    clearTimeout(stream.timer);
    stream.timer = setTimeout(() => this.#open(roomType), DELAYS[Math.min(stream.attempt, DELAYS.length - 1)] * 1000);
    stream.attempt += 1;
    return stream.attempt;
  }

  #message(sessionid, data, onError) {
    const message = { recipient: { type: "session", sessionid }, data: { to: sessionid, ...data } };
    this.#options.signaling.send({ type: "message", message }, onError);
  }
}
