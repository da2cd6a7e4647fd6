/**
 * The publications of this page: camera with microphone, and the screen; a failed one is published again on a new connection.
 *
 * Source: signaling API, "Start publishing" and "Send offer to subscriber"; reference 9.2, 9.5, 9.7.
 */

import { Publication } from "./peer.js";
import * as sentences from "./sentences.js";

const RETRY_SECONDS = [1, 2, 4, 8, 15, 30]; // before a failed stream is published again
const AWAY_SECONDS = 1; // between two checks whether the gateway is back
const SENDOFFER_RETRY_SECONDS = 2; // before a screen is offered again to a member for which the gateway refused it
const SENDOFFER_ATTEMPTS = 4;

export class Publishing {
  #options;
  #streams = new Map(); // roomType -> {tracks, preferences, publication, former, attempt, timer}
  #callMembers = []; // session ids of the others in the call
  #offered = new Set(); // session ids that the current screen was offered to

  /** @param {{signaling, iceServers, name, onTrouble: (key, text) => void, onOpen: () => void,
   *   onState: (roomType, state) => void}} options `onOpen` is called when the data channel
   *   opens; `state` is the connectionState, "" when nothing is published */
  constructor(options) {
    this.#options = options;
  }

  /** Publish tracks as the stream of a roomType, in place of its previous publication. */
  publish(roomType, tracks, preferences) {
    this.stop(roomType);
    this.#streams.set(roomType, { tracks, preferences, publication: null, former: null, attempt: 0, timer: 0 });
    this.#open(roomType);
  }

  /** Publish a stream again with other preferences; these need a new connection. */
  setPreferences(roomType, preferences) {
    const stream = this.#streams.get(roomType);
    if (!stream) return;
    stream.preferences = preferences;
    this.#open(roomType);
  }

  /** Send another track of a media kind, or none for `null`. */
  setTrack(roomType, kind, track) {
    const stream = this.#streams.get(roomType);
    if (!stream) return;
    stream.tracks = stream.tracks.filter((one) => one.kind !== kind);
    if (track) stream.tracks.push(track);
    const { publication } = stream;
    publication?.enqueue(() => publication.setTrack(kind, track));
  }

  /** End the publication of a roomType. */
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

  /** Stop the screen and report it to the gateway and to all subscribers. */
  unshare() {
    if (!this.#streams.has("screen")) return;
    for (const sessionid of [this.#options.signaling.sessionId, ...this.#callMembers]) {
      this.#sendMessage(sessionid, { type: "unshareScreen", roomType: "screen" });
    }
    this.stop("screen");
  }

  /** Set the other members of the call; the current screen is offered to new ones. */
  setCallMembers(sessionIds) {
    this.#callMembers = sessionIds;
    for (const sessionId of this.#offered) if (!sessionIds.includes(sessionId)) this.#offered.delete(sessionId);
    this.#offerScreen();
  }

  /** Apply the answer of the SFU to the latest offer of a stream. */
  answer(roomType, sid, sdp) {
    this.#streams.get(roomType)?.publication?.answer(sid, sdp);
  }

  /** Add a candidate of the SFU to a publication. */
  candidate(roomType, sid, candidate) {
    const publication = this.#streams.get(roomType)?.publication;
    if (publication && (!sid || sid === publication.sid)) publication.addCandidate(candidate);
  }

  /** Send a state on the data channel of the camera's publication. */
  sendState(type, payload) {
    this.#streams.get("video")?.publication?.sendState(type, payload);
  }

  /** Return the PeerConnection of a stream, or null. */
  connection(roomType) {
    return this.#streams.get(roomType)?.publication?.pc ?? null;
  }

  resumed() {
    for (const { publication } of this.#streams.values()) publication?.resumed();
  }

  /** Publish all streams again in a new session. */
  renew() {
    this.#offered.clear();
    for (const roomType of this.#streams.keys()) this.#open(roomType);
  }

  /** Publish a stream again that the SFU has lost, unless a new connection has replaced it already. */
  republish({ roomType, sid }) {
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
    stream.former = stream.publication; // continues until its successor is published, so that subscribers see no gap
    const ifCurrent = (handle) => (value) => stream.publication === publication && handle(value);
    const publication = new Publication({
      signaling,
      iceServers,
      roomType,
      publisher: signaling.sessionId,
      tracks: stream.tracks,
      nick: name,
      preferences: stream.preferences,
      channel: roomType === "video",
      onChannel: () => this.#options.onOpen(),
      onPublished: ifCurrent(() => this.#published(roomType)),
      onError: ifCurrent((error) => this.#refused(roomType, error)),
      onFailed: ifCurrent((reason) => this.#failed(roomType, reason)),
      onState: ifCurrent((state) => this.#connectionStateChanged(roomType, state)),
    });
    stream.publication = publication;
  }

  #connectionStateChanged(roomType, state) {
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
    for (const sessionId of this.#callMembers) {
      if (this.#offered.has(sessionId)) continue;
      this.#offered.add(sessionId);
      this.#sendOffer(sessionId, 1);
    }
  }

  #sendOffer(sessionId, attempt) {
    this.#sendMessage(sessionId, { type: "sendoffer", roomType: "screen" }, () => {
      setTimeout(() => {
        if (!this.#offered.has(sessionId) || !this.#streams.has("screen")) return;
        if (attempt < SENDOFFER_ATTEMPTS) this.#sendOffer(sessionId, attempt + 1);
        else this.#offered.delete(sessionId);
      }, SENDOFFER_RETRY_SECONDS * 1000);
    });
  }

  #refused(roomType, error) {
    this.#options.onTrouble(`own ${roomType}`, sentences.ownNotPublished(error.code));
    if (error.code !== "not_allowed") {
      this.#retry(roomType);
      return;
    }
    this.#streams.get(roomType)?.publication?.close();
    this.#options.onState(roomType, "");
  }

  #failed(roomType, reason) {
    const attempt = this.#retry(roomType);
    if (reason === "ended" && attempt === 1) return; // the SFU restarts, or the session left the call
    this.#options.onTrouble(`own ${roomType}`, sentences.ownMediaFailed(attempt < 3));
  }

  /** Publish a stream again after a delay; returns the number of failures since it was last connected. */
  #retry(roomType) {
    const stream = this.#streams.get(roomType);
    if (!stream) return 0;
    stream.publication?.close();
    clearTimeout(stream.timer);
    stream.timer = setTimeout(() => this.#open(roomType), RETRY_SECONDS[Math.min(stream.attempt, RETRY_SECONDS.length - 1)] * 1000);
    stream.attempt += 1;
    return stream.attempt;
  }

  #sendMessage(sessionid, data, onError) {
    const message = { recipient: { type: "session", sessionid }, data: { to: sessionid, ...data } };
    this.#options.signaling.send({ type: "message", message }, onError);
  }
}
