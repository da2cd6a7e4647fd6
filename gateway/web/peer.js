/**
 * One PeerConnection with the gateway, and its two kinds: what we publish and what we receive.
 *
 * The gateway's SFU never takes part as a person would: a publication only sends, a subscription only receives, and
 * descriptions and candidates travel as messages to the session that publishes (signaling API, "Media publishing").
 */

const ANSWER_SECONDS = 15; // the gateway waits for its SFU up to 10 s
const OFFER_SECONDS = 14; // a requested stream is waited for up to 10 s
const DISCONNECTED_SECONDS = 8; // ICE may come back by itself from "disconnected"

/** What both kinds share: ordered work, candidates in both directions, and the news that the connection failed. */
class Peer {
  #work = Promise.resolve();
  #early = []; // candidates that came before their description
  #disconnected = 0;
  #watched = new WeakSet();

  /**
   * @param {{signaling, publisher: string, roomType: string, sid: string, iceServers: object[],
   *          onFailed: (reason: string) => void, onState: (state: string) => void}} options
   */
  constructor(options) {
    this.signaling = options.signaling;
    this.publisher = options.publisher;
    this.roomType = options.roomType;
    this.sid = options.sid;
    this.onFailed = options.onFailed;
    this.onState = options.onState ?? (() => {});
    this.closed = false;
    this.pc = new RTCPeerConnection({ iceServers: options.iceServers ?? [], bundlePolicy: "max-bundle" });
    this.pc.addEventListener("icecandidate", ({ candidate }) => this.#candidate(candidate));
    this.pc.addEventListener("connectionstatechange", () => this.#changed());
  }

  /** Carry work out after all that was asked for before; what it throws is a failure of the connection. */
  enqueue(work) {
    this.#work = this.#work.then(async () => {
      if (this.closed) return;
      try {
        await work();
      } catch (error) {
        if (!this.closed) this.fail(`negotiation: ${error.message}`);
      }
    });
    return this.#work;
  }

  /** Send a media message of this stream. */
  send(type, more, onError) {
    const data = { to: this.publisher, type, roomType: this.roomType, ...more };
    if (this.sid) data.sid = this.sid;
    const recipient = { type: "session", sessionid: this.publisher };
    this.signaling.send({ type: "message", message: { recipient, data } }, onError);
  }

  /** Notice when the SFU ends the connection (DTLS close-notify), which does not show in the connection's state. */
  watch(transport) {
    if (!transport || this.#watched.has(transport)) return;
    this.#watched.add(transport);
    transport.addEventListener("statechange", () => {
      if (transport.state === "closed") this.fail("ended");
    });
  }

  /** Take a candidate of the SFU. */
  addCandidate(candidate) {
    this.enqueue(async () => {
      if (!this.pc.remoteDescription) this.#early.push(candidate);
      else await this.#add(candidate);
    });
  }

  async setRemote(description) {
    await this.pc.setRemoteDescription(description);
    const early = this.#early;
    this.#early = [];
    for (const candidate of early) await this.#add(candidate);
  }

  /** No reply came. While the gateway is away that is no wonder: what it owes is asked for again after the resume. */
  timeout() {
    if (this.signaling.state === "open") this.fail("timeout");
  }

  fail(reason) {
    if (this.closed) return;
    this.close();
    this.onFailed(reason);
  }

  close() {
    this.closed = true;
    clearTimeout(this.#disconnected);
    this.pc.close();
  }

  async #add(candidate) {
    try {
      await this.pc.addIceCandidate(candidate);
    } catch {
      // One unusable candidate is no reason to give up the others.
    }
  }

  #candidate(candidate) {
    if (this.closed) return;
    if (!candidate?.candidate) {
      this.send("endOfCandidates", { payload: {} });
      return;
    }
    const { sdpMid, sdpMLineIndex } = candidate;
    this.send("candidate", { payload: { candidate: { candidate: candidate.candidate, sdpMid, sdpMLineIndex } } });
  }

  #changed() {
    const state = this.pc.connectionState;
    clearTimeout(this.#disconnected);
    if (this.closed) return;
    this.onState(state);
    if (state === "failed") this.fail("ice");
    else if (state === "disconnected") {
      this.#disconnected = setTimeout(() => this.fail("ice"), DISCONNECTED_SECONDS * 1000);
    }
  }
}

/** Our own stream: camera and microphone with the state channel, or the screen. */
export class Publication extends Peer {
  #options;
  #outstanding = false; // an offer waits for its answer
  #again = false; // something changed meanwhile
  #timer = 0;

  /** @param options as Peer, and {tracks: MediaStreamTrack[], nick, wishes, channel: boolean, onChannel, onPublished,
   *   onError} */
  constructor(options) {
    super({ ...options, sid: randomId() });
    this.#options = options;
    this.senders = {};
    this.channel = null;
    if (options.channel) {
      this.channel = this.pc.createDataChannel("status");
      this.channel.addEventListener("open", () => options.onChannel());
    }
    for (const track of options.tracks) this.setTrack(track.kind, track);
    this.pc.addEventListener("negotiationneeded", () => this.#negotiate());
  }

  /** Send a track of a kind, or nothing for `null`; the first one of its kind renegotiates. */
  setTrack(kind, track) {
    const sender = this.senders[kind];
    if (sender) return sender.replaceTrack(track);
    if (track) this.senders[kind] = this.pc.addTransceiver(track, { direction: "sendonly" }).sender;
    return Promise.resolve();
  }

  /** Tell everybody who receives us; lost when the channel is not open yet, which is why state is repeated. */
  tell(type, payload) {
    if (this.channel?.readyState === "open") this.channel.send(JSON.stringify({ type, payload }));
  }

  answer(sid, sdp) {
    this.enqueue(async () => {
      if (sid !== this.sid || this.pc.signalingState !== "have-local-offer") return;
      clearTimeout(this.#timer);
      await this.setRemote({ type: "answer", sdp });
      this.#outstanding = false;
      for (const sender of Object.values(this.senders)) this.watch(sender.transport);
      this.#options.onPublished();
      if (this.#again) this.#negotiate();
    });
  }

  /** After a resume: the answer may have been lost with the old connection, so offer the same again. */
  resumed() {
    if (this.#outstanding && this.pc.localDescription) this.#offer();
  }

  close() {
    clearTimeout(this.#timer);
    super.close();
  }

  #negotiate() {
    if (this.#outstanding) {
      this.#again = true;
      return;
    }
    this.#outstanding = true;
    this.#again = false;
    this.enqueue(async () => {
      await this.pc.setLocalDescription(await this.pc.createOffer());
      this.#offer();
    });
  }

  #offer() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.timeout(), ANSWER_SECONDS * 1000);
    const payload = { type: "offer", sdp: this.pc.localDescription.sdp, nick: this.#options.nick };
    this.send("offer", { payload, ...this.#options.wishes }, (error) => {
      if (!this.closed) this.#options.onError(error);
    });
  }
}

/** A stream of somebody else. Made by a request, or by an offer that was pushed to us. */
export class Subscription extends Peer {
  #options;
  #timer = 0;

  /** @param options as Peer, and {onTrack, onTold, onError} */
  constructor(options) {
    super({ ...options, sid: "" });
    this.#options = options;
    this.stream = new MediaStream();
    this.pc.addEventListener("track", ({ track }) => this.#track(track));
    this.pc.addEventListener("datachannel", ({ channel }) => this.#hear(channel));
    // Janus without our module sends data only to those who opened a channel themselves (docs/janus.md).
    this.#hear(this.pc.createDataChannel("status"));
  }

  /** Ask the gateway for an offer of the publisher. */
  request() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.timeout(), OFFER_SECONDS * 1000);
    this.send("requestoffer", {}, (error) => {
      clearTimeout(this.#timer);
      if (!this.closed) this.#options.onError(error);
    });
  }

  /** Answer an offer; the first one gives this connection its sid. */
  offer(sid, sdp) {
    clearTimeout(this.#timer);
    this.sid = sid;
    this.enqueue(async () => {
      await this.setRemote({ type: "offer", sdp });
      await this.pc.setLocalDescription(await this.pc.createAnswer());
      for (const receiver of this.pc.getReceivers()) this.watch(receiver.transport);
      const payload = { type: "answer", sdp: this.pc.localDescription.sdp };
      this.send("answer", { payload }, (error) => !this.closed && this.#options.onError(error));
    });
  }

  /** After a resume: an offer may have been lost with the old connection, so ask again when none came. */
  resumed() {
    if (!this.sid) this.request();
  }

  close() {
    clearTimeout(this.#timer);
    super.close();
  }

  #track(track) {
    for (const old of this.stream.getTracks()) {
      if (old.kind === track.kind && old !== track) this.stream.removeTrack(old);
    }
    this.stream.addTrack(track);
    this.#options.onTrack(this.stream);
  }

  #hear(channel) {
    channel.addEventListener("message", ({ data }) => this.#told(data));
  }

  #told(data) {
    if (typeof data !== "string") return;
    try {
      const { type, payload } = JSON.parse(data);
      this.#options.onTold(type, payload);
    } catch {
      // Not the state messages that clients exchange; other data on a channel is none of our business.
    }
  }
}

function randomId() {
  const bytes = crypto.getRandomValues(new Uint8Array(12));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
