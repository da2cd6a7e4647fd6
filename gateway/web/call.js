/**
 * One call: its members, the published and received streams, and the state that members send on data channels.
 *
 * The state channel carries `{"type", "payload"}` as JSON text, as Talk's clients do: audioOn, audioOff, videoOn,
 * videoOff, speaking, stoppedSpeaking and nickChanged.
 *
 * Events (CustomEvent):
 *   members  {}                             members or their states have changed
 *   stream   {sessionId, roomType, stream}  a MediaStream of a member is received
 *   gone     {sessionId, roomType}          a stream is no longer received
 *   trouble  {key, text}                    a problem to show; text null = it is solved
 *   media    {roomType, state}              the state of an own publication's connection
 *   chat     {sessionId, name, id, text, own}  a chat message, received or sent
 *   unsent   {id, error}                    the gateway has refused a sent chat message
 *   raised   {name}                         a member has raised a hand
 *   removed  {}                             this session was removed from the room
 */

import { CHAT_MESSAGE, Chat } from "./chat.js";
import { Hands, RAISE_HAND } from "./hands.js";
import { Publishing } from "./publishing.js";
import { Receiving } from "./receiving.js";
import { Roster } from "./roster.js";

// When to send the own state again after the call's members have changed: a new member has missed earlier states, and it
// is unknown when its channel opens.
const REPEAT_SECONDS = [0.5, 1, 2, 4, 8, 16];

export class Call extends EventTarget {
  #signaling;
  #inCall = false;
  #states = new Map(); // session id -> {audio, video, speaking}: the last states that members sent
  #own = { audio: false, video: false, speaking: false };
  #repeats = []; // timers
  #lastMembers = ""; // session ids of the other call members

  /** @param {{signaling: Signaling, iceServers: object[], name: string}} options */
  constructor({ signaling, iceServers, name }) {
    super();
    this.#signaling = signaling;
    this.name = name;
    this.roster = new Roster();
    const onTrouble = (key, text) => this.#emit("trouble", { key, text });
    this.publishing = new Publishing({
      signaling,
      iceServers,
      name,
      onTrouble,
      onOpen: () => this.#sendAll(),
      onState: (roomType, state) => this.#emit("media", { roomType, state }),
    });
    this.receiving = new Receiving({
      signaling,
      iceServers,
      onTrouble,
      onStream: (sessionId, roomType, stream) => this.#emit("stream", { sessionId, roomType, stream }),
      onGone: (sessionId, roomType) => this.#emit("gone", { sessionId, roomType }),
      onMemberState: (sessionId, type, payload) => this.#applyState(sessionId, type, payload),
    });
    this.chat = new Chat({
      signaling,
      onMessage: (message) => this.#emit("chat", { ...message, name: message.own ? this.name : this.roster.nameOf(message.sessionId) }),
      onFailed: (id, error) => this.#emit("unsent", { id, error }),
    });
    this.hands = new Hands({
      signaling,
      onChange: () => this.#emit("members", {}),
      onRaised: (sessionId) => this.#emit("raised", { name: this.roster.nameOf(sessionId) }),
    });
    this.onMessage = ({ detail }) => this.#receive(detail);
    signaling.addEventListener("message", this.onMessage);
  }

  /** Return the other members of the room with their states; `hand` is the place among the raised hands, from 1. */
  others() {
    const own = this.#signaling.sessionId;
    const state = (sessionId) => this.#states.get(sessionId) ?? { audio: null, video: null, speaking: false };
    return this.roster
      .members()
      .filter(({ sessionId }) => sessionId !== own)
      .map((member) => ({ ...member, ...state(member.sessionId), hand: this.hands.place(member.sessionId) }));
  }

  /** Subscribe to the other call members from now on; call it once the backend has put this session into the call. */
  enter() {
    this.#inCall = true;
    this.#membersChanged();
  }

  /** Send the own state to the others: those of {audio, video, speaking} that are given. */
  sendState(state) {
    Object.assign(this.#own, state);
    if ("audio" in state) this.publishing.sendState(state.audio ? "audioOn" : "audioOff");
    if ("video" in state) this.publishing.sendState(state.video ? "videoOn" : "videoOff");
    if ("speaking" in state) this.publishing.sendState(state.speaking ? "speaking" : "stoppedSpeaking");
  }

  /** After a resume, repeat the requests that may have been lost with the old connection. */
  resumed() {
    this.publishing.resumed();
    this.receiving.resumed();
    this.chat.resumed();
  }

  /** Drop the members of a lost session; its streams play on. Call renew() once the room was joined again. */
  sessionLost() {
    this.#inCall = false;
    this.#states.clear();
    this.chat.sessionLost(this.others());
    this.roster.clear();
    this.receiving.sessionLost();
    this.hands.sessionLost();
  }

  /** Publish and subscribe again in the new session. */
  renew() {
    this.publishing.renew();
    this.chat.renew();
    this.enter();
  }

  close() {
    this.#inCall = false;
    this.#signaling.removeEventListener("message", this.onMessage);
    this.#repeats.forEach(clearTimeout);
    this.publishing.close();
    this.receiving.close();
    this.chat.close();
  }

  #emit(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }

  #receive(message) {
    if (message.type === "event") {
      if (this.roster.apply(message.event ?? {})) this.#membersChanged();
    } else if (message.type === "message") {
      this.#receiveData(message.message?.sender ?? {}, message.message?.data ?? {});
    } else if (message.type === "republish") {
      this.publishing.republish(message.republish ?? {});
    } else if (message.type === "room" && message.room?.roomid === "") {
      this.#emit("removed", {});
    }
  }

  #receiveData(sender, data) {
    const own = sender.sessionid === this.#signaling.sessionId;
    if (data.type === CHAT_MESSAGE && !own) this.chat.receive(sender.sessionid, data.payload);
    else if (data.type === RAISE_HAND && !own) this.hands.receive(sender.sessionid, data.payload);
    else this.#receiveMedia(sender, data);
  }

  #receiveMedia(sender, { type, roomType, sid, payload }) {
    // Media messages of the gateway have a sender of type session; messages to the whole room come from other clients.
    if (sender.type !== "session") return;
    const from = sender.sessionid;
    const own = from === this.#signaling.sessionId;
    if (type === "answer" && own) this.publishing.answer(roomType, sid, payload?.sdp);
    else if (type === "offer" && !own) this.receiving.offer(from, roomType, sid ?? "", payload?.sdp);
    else if (type === "candidate" && own) this.publishing.candidate(roomType, sid, payload?.candidate);
    else if (type === "candidate") this.receiving.candidate(from, roomType, sid, payload?.candidate);
    else if (type === "unshareScreen" && !own) this.receiving.dropScreen(from);
  }

  #membersChanged() {
    if (this.#inCall) {
      const own = this.#signaling.sessionId;
      const callMembers = this.roster.callMembers().filter(({ sessionId }) => sessionId !== own);
      this.#forgetStates(callMembers);
      this.chat.setMembers(this.roster.members().filter(({ sessionId }) => sessionId !== own));
      this.receiving.setCallMembers(callMembers);
      this.publishing.setCallMembers(callMembers.map(({ sessionId }) => sessionId));
      this.hands.setCallMembers(callMembers.map(({ sessionId }) => sessionId));
      const members = callMembers.map(({ sessionId }) => sessionId).join();
      if (members !== this.#lastMembers) this.#scheduleRepeats();
      this.#lastMembers = members;
    }
    this.#emit("members", {});
  }

  /** Drop the states of sessions that are not in the call any more: nothing is known of them if they come back. */
  #forgetStates(callMembers) {
    const present = new Set(callMembers.map(({ sessionId }) => sessionId));
    for (const sessionId of this.#states.keys()) if (!present.has(sessionId)) this.#states.delete(sessionId);
  }

  #scheduleRepeats() {
    this.#repeats.forEach(clearTimeout);
    this.#repeats = REPEAT_SECONDS.map((seconds) => setTimeout(() => this.#sendAll(), seconds * 1000));
  }

  #sendAll() {
    this.sendState({ ...this.#own });
    this.publishing.sendState("nickChanged", { name: this.name });
  }

  #applyState(sessionId, type, payload) {
    const state = this.#states.get(sessionId) ?? { audio: null, video: null, speaking: false };
    if (type === "audioOn" || type === "audioOff") state.audio = type === "audioOn";
    else if (type === "videoOn" || type === "videoOff") state.video = type === "videoOn";
    else if (type === "speaking" || type === "stoppedSpeaking") state.speaking = type === "speaking";
    else if (type === "nickChanged") this.roster.rename(sessionId, typeof payload === "string" ? payload : payload?.name);
    else return;
    this.#states.set(sessionId, state);
    this.#emit("members", {});
  }
}
