/**
 * One PeerConnection with the SFU: a publication, which only sends, or a subscription, which only receives.
 *
 * Descriptions and candidates are messages to the publishing session (signaling API, "Media publishing").
 */

const ANSWER_SECONDS = 15; // the gateway waits for its SFU up to 10 s
const OFFER_SECONDS = 14; // the gateway waits for a requested stream up to 10 s
const DISCONNECTED_SECONDS = 8; // ICE may recover from "disconnected"

/** Base of Publication and Subscription: ordered work, candidates in both directions, detection of failures. */
class Peer {
  #work = Promise.resolve();
  #earlyCandidates = []; // those that arrived before the remote description
  #disconnectTimer = 0;
  #watchedTransports = new WeakSet();

  /**
   * @param {{signaling, publisher: string, roomType: string, sid: string, iceServers: object[],
   *          onFailed: (reason: string) => void, onState: (state: string) => void}} options `publisher` is the session id of
   *   the publisher, `state` the connectionState
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
    this.pc.addEventListener("icecandidate", ({ candidate }) => this.#sendCandidate(candidate));
    this.pc.addEventListener("connectionstatechange", () => this.#connectionStateChanged());
  }

  /** Run an async function after all earlier ones; an exception counts as a failure of the connection. */
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

  /** Send a media message about this stream to the publisher's session. */
  send(type, more, onError) {
    const data = { to: this.publisher, type, roomType: this.roomType, ...more };
    if (this.sid) data.sid = this.sid;
    const recipient = { type: "session", sessionid: this.publisher };
    this.signaling.send({ type: "message", message: { recipient, data } }, onError);
  }

  /** Detect that the SFU ends the connection (DTLS close_notify), which connectionState does not show. */
  watch(transport) {
    if (!transport || this.#watchedTransports.has(transport)) return;
    this.#watchedTransports.add(transport);
    transport.addEventListener("statechange", () => {
      if (transport.state === "closed") this.fail("ended");
    });
  }

  /** Add a candidate of the SFU. */
  addCandidate(candidate) {
    this.enqueue(async () => {
      if (!this.pc.remoteDescription) this.#earlyCandidates.push(candidate);
      else await this.#addNow(candidate);
    });
  }

  async setRemoteDescription(description) {
    await this.pc.setRemoteDescription(description);
    const candidates = this.#earlyCandidates;
    this.#earlyCandidates = [];
    for (const candidate of candidates) await this.#addNow(candidate);
  }

  /** Fail because no reply came, unless the gateway is away: then the request is repeated after the resume. */
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
    clearTimeout(this.#disconnectTimer);
    this.pc.close();
  }

  async #addNow(candidate) {
    try {
      await this.pc.addIceCandidate(candidate);
    } catch {
      // The other candidates may work.
    }
  }

  #sendCandidate(candidate) {
    if (this.closed) return;
    if (!candidate?.candidate) {
      this.send("endOfCandidates", { payload: {} });
      return;
    }
    const { sdpMid, sdpMLineIndex } = candidate;
    this.send("candidate", { payload: { candidate: { candidate: candidate.candidate, sdpMid, sdpMLineIndex } } });
  }

  #connectionStateChanged() {
    const state = this.pc.connectionState;
    clearTimeout(this.#disconnectTimer);
    if (this.closed) return;
    this.onState(state);
    if (state === "failed") this.fail("ice");
    else if (state === "disconnected") {
      this.#disconnectTimer = setTimeout(() => this.fail("ice"), DISCONNECTED_SECONDS * 1000);
    }
  }
}

/** A published stream: camera and microphone with the state channel, or the screen. */
export class Publication extends Peer {
  #options;
  #unanswered = false; // an offer has no answer yet
  #negotiateAgain = false; // another negotiation is needed after the answer
  #timer = 0;

  /** @param options as Peer, and {tracks: MediaStreamTrack[], nick, preferences, channel: boolean, onChannel, onPublished,
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

  /** Send another track of a media kind, or none for `null`; the first one of its kind renegotiates. */
  setTrack(kind, track) {
    const sender = this.senders[kind];
    if (sender) return sender.replaceTrack(track);
    if (track) this.senders[kind] = this.pc.addTransceiver(track, { direction: "sendonly" }).sender;
    return Promise.resolve();
  }

  /** Send a state to all subscribers; it is lost if the data channel is not open yet, so that Call repeats it. */
  sendState(type, payload) {
    if (this.channel?.readyState === "open") this.channel.send(JSON.stringify({ type, payload }));
  }

  /** Apply the answer to the latest offer; an answer with another sid is ignored. */
  answer(sid, sdp) {
    this.enqueue(async () => {
      if (sid !== this.sid || this.pc.signalingState !== "have-local-offer") return;
      clearTimeout(this.#timer);
      await this.setRemoteDescription({ type: "answer", sdp });
      this.#unanswered = false;
      for (const sender of Object.values(this.senders)) this.watch(sender.transport);
      this.#options.onPublished();
      if (this.#negotiateAgain) this.#negotiate();
    });
  }

  /** After a resume, repeat an unanswered offer: offer or answer may have been lost with the old connection. */
  resumed() {
    if (this.#unanswered && this.pc.localDescription) this.#offer();
  }

  close() {
    clearTimeout(this.#timer);
    super.close();
  }

  #negotiate() {
    if (this.#unanswered) {
      this.#negotiateAgain = true;
      return;
    }
    this.#unanswered = true;
    this.#negotiateAgain = false;
    this.enqueue(async () => {
      await this.pc.setLocalDescription(await this.pc.createOffer());
      this.#offer();
    });
  }

  #offer() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.timeout(), ANSWER_SECONDS * 1000);
    const payload = { type: "offer", sdp: this.pc.localDescription.sdp, nick: this.#options.nick };
    this.send("offer", { payload, ...this.#options.preferences }, (error) => {
      if (!this.closed) this.#options.onError(error);
    });
  }
}

/** A received stream of another session, which begins with a request or with an offer of the gateway. */
export class Subscription extends Peer {
  #options;
  #timer = 0;

  /** @param options as Peer, and {onTrack, onMemberState, onError} */
  constructor(options) {
    super({ ...options, sid: "" });
    this.#options = options;
    this.stream = new MediaStream();
    this.pc.addEventListener("track", ({ track }) => this.#addTrack(track));
    this.pc.addEventListener("datachannel", ({ channel }) => this.#receiveStates(channel));
    // Janus without the data channel module sends data only to peers that opened a channel themselves (docs/janus.md).
    this.#receiveStates(this.pc.createDataChannel("status"));
  }

  /** Request an offer of the publisher's stream. */
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
      await this.setRemoteDescription({ type: "offer", sdp });
      await this.pc.setLocalDescription(await this.pc.createAnswer());
      for (const receiver of this.pc.getReceivers()) this.watch(receiver.transport);
      const payload = { type: "answer", sdp: this.pc.localDescription.sdp };
      this.send("answer", { payload }, (error) => !this.closed && this.#options.onError(error));
    });
  }

  /** After a resume, repeat an unanswered request: request or offer may have been lost with the old connection. */
  resumed() {
    if (!this.sid) this.request();
  }

  close() {
    clearTimeout(this.#timer);
    super.close();
  }

  #addTrack(track) {
    for (const old of this.stream.getTracks()) {
      if (old.kind === track.kind && old !== track) this.stream.removeTrack(old);
    }
    this.stream.addTrack(track);
    this.#options.onTrack(this.stream);
  }

  #receiveStates(channel) {
    channel.addEventListener("message", ({ data }) => this.#receiveState(data));
  }

  #receiveState(data) {
    if (typeof data !== "string") return;
    try {
      const { type, payload } = JSON.parse(data);
      this.#options.onMemberState(type, payload);
    } catch {
      // Other data than state messages is ignored.
    }
  }
}

function randomId() {
  const bytes = crypto.getRandomValues(new Uint8Array(12));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
