/**
 * One call: who takes part, what we send them, what they send us, and the state that everybody tells on data channels.
 *
 * The state channel carries `{"type", "payload"}` as JSON text, as Talk's clients do: audioOn, audioOff, videoOn,
 * videoOff, speaking, stoppedSpeaking and nickChanged.
 *
 * Events (CustomEvent): members, stream {sessionId, roomType, stream}, gone {sessionId, roomType},
 * trouble {key, text}, media {roomType, state}, removed.
 */

import { Publishing } from "./publishing.js";
import { Receiving } from "./receiving.js";
import { Roster } from "./roster.js";

// Whoever comes later has not heard what was told before, and nobody knows when their channel is open: tell it again.
const REPEAT_SECONDS = [0.5, 1, 2, 4, 8, 16];

export class Call extends EventTarget {
  #signaling;
  #inCall = false;
  #told = new Map(); // session id -> {audio, video, speaking}: what the others told of themselves
  #own = { audio: false, video: false, speaking: false };
  #repeats = [];
  #name;
  #known = "";

  /** @param {{signaling: Signaling, iceServers: object[], name: string}} options */
  constructor({ signaling, iceServers, name }) {
    super();
    this.#signaling = signaling;
    this.#name = name;
    this.roster = new Roster();
    const onTrouble = (key, text) => this.#emit("trouble", { key, text });
    this.publishing = new Publishing({
      signaling,
      iceServers,
      name,
      onTrouble,
      onOpen: () => this.#tellAll(),
      onState: (roomType, state) => this.#emit("media", { roomType, state }),
    });
    this.receiving = new Receiving({
      signaling,
      iceServers,
      onTrouble,
      onStream: (sessionId, roomType, stream) => this.#emit("stream", { sessionId, roomType, stream }),
      onGone: (sessionId, roomType) => this.#emit("gone", { sessionId, roomType }),
      onTold: (sessionId, type, payload) => this.#heard(sessionId, type, payload),
    });
    this.onMessage = ({ detail }) => this.#receive(detail);
    signaling.addEventListener("message", this.onMessage);
  }

  /** Everybody else in the room, with what is known of them. */
  others() {
    const own = this.#signaling.sessionId;
    const state = (sessionId) => this.#told.get(sessionId) ?? { audio: null, video: null, speaking: false };
    return this.roster
      .members()
      .filter(({ sessionId }) => sessionId !== own)
      .map((member) => ({ ...member, ...state(member.sessionId) }));
  }

  /** Start to receive the others; call it when the backend was told that we joined. */
  enter() {
    this.#inCall = true;
    this.#changed();
  }

  /** Tell the others our state: {audio, video, speaking} as far as given. */
  tell(state) {
    Object.assign(this.#own, state);
    if ("audio" in state) this.publishing.tell(state.audio ? "audioOn" : "audioOff");
    if ("video" in state) this.publishing.tell(state.video ? "videoOn" : "videoOff");
    if ("speaking" in state) this.publishing.tell(state.speaking ? "speaking" : "stoppedSpeaking");
  }

  /** The session was resumed: ask again for what may have been lost on the way. */
  resumed() {
    this.publishing.resumed();
    this.receiving.resumed();
  }

  /** The session is gone: forget its room, keep what plays. Call renew() once the room was joined again. */
  strand() {
    this.#inCall = false;
    this.#told.clear();
    this.roster.clear();
    this.receiving.strand();
  }

  /** Publish anew in the new session. */
  renew() {
    this.publishing.renew();
    this.enter();
  }

  close() {
    this.#inCall = false;
    this.#signaling.removeEventListener("message", this.onMessage);
    this.#repeats.forEach(clearTimeout);
    this.publishing.close();
    this.receiving.close();
  }

  #emit(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }

  #receive(message) {
    if (message.type === "event") {
      if (this.roster.take(message.event ?? {})) this.#changed();
    } else if (message.type === "message") {
      this.#media(message.message?.sender ?? {}, message.message?.data ?? {});
    } else if (message.type === "republish") {
      this.publishing.again(message.republish ?? {});
    } else if (message.type === "room" && message.room?.roomid === "") {
      this.#emit("removed", {});
    }
  }

  #media(sender, { type, roomType, sid, payload }) {
    // The gateway speaks for a session; what others send to the whole room is not its word.
    if (sender.type !== "session") return;
    const from = sender.sessionid;
    const own = from === this.#signaling.sessionId;
    if (type === "answer" && own) this.publishing.answer(roomType, sid, payload?.sdp);
    else if (type === "offer" && !own) this.receiving.offer(from, roomType, sid ?? "", payload?.sdp);
    else if (type === "candidate" && own) this.publishing.candidate(roomType, sid, payload?.candidate);
    else if (type === "candidate") this.receiving.candidate(from, roomType, sid, payload?.candidate);
    else if (type === "unshareScreen" && !own) this.receiving.unshared(from);
  }

  #changed() {
    if (this.#inCall) {
      const own = this.#signaling.sessionId;
      const callers = this.roster.callers().filter(({ sessionId }) => sessionId !== own);
      this.receiving.want(callers);
      this.publishing.callers(callers.map(({ sessionId }) => sessionId));
      const known = callers.map(({ sessionId }) => sessionId).join();
      if (known !== this.#known) this.#repeat();
      this.#known = known;
    }
    this.#emit("members", {});
  }

  #repeat() {
    this.#repeats.forEach(clearTimeout);
    this.#repeats = REPEAT_SECONDS.map((seconds) => setTimeout(() => this.#tellAll(), seconds * 1000));
  }

  #tellAll() {
    this.tell({ ...this.#own });
    this.publishing.tell("nickChanged", { name: this.#name });
  }

  #heard(sessionId, type, payload) {
    const state = this.#told.get(sessionId) ?? { audio: null, video: null, speaking: false };
    if (type === "audioOn" || type === "audioOff") state.audio = type === "audioOn";
    else if (type === "videoOn" || type === "videoOff") state.video = type === "videoOn";
    else if (type === "speaking" || type === "stoppedSpeaking") state.speaking = type === "speaking";
    else if (type === "nickChanged") this.roster.rename(sessionId, typeof payload === "string" ? payload : payload?.name);
    else return;
    this.#told.set(sessionId, state);
    this.#emit("members", {});
  }
}
