/**
 * One participation in a room: devices, joining, the user's actions, and joining again after the session was lost.
 */

import * as backend from "./backend.js";
import { Call } from "./call.js";
import { LocalMedia, openScreen, SpeechDetector } from "./media.js";
import { isOfOtherDevice } from "./devices.js";
import { FLAG_AUDIO, FLAG_IN_CALL, FLAG_VIDEO } from "./roster.js";
import * as sentences from "./sentences.js";
import { screenPreferences, preferences } from "./settings.js";
import { Signaling } from "./signaling.js";

const STATS_MS = 2000;
const REJOIN_MS = 2000;
const ORPHAN_MS = 20_000; // after a rejoin; the streams of a lost session play for 20 s at most, too (receiving.js)

export class Participation {
  #view;
  #joinAnswer = null; // the demo backend's answer to the latest join
  #detector = null;
  #screen = null;
  #mediaState = ""; // "" = no publication
  #joining = true;
  #rejoins = 0; // number of attempts to join again; only the latest one continues
  #rejoining = false; // the session was lost, and the new one has not entered the call
  #choosingScreen = false; // the browser's dialog for a screen is open
  #openingDevice = false; // the browser's dialog for a camera or microphone is open
  #reportedFlags = 0; // the call flags that the backend was told last; 0 = the call was not entered
  #over = false;
  #statsTimer = 0;

  /**
   * @param {View} view
   * @param {{name, room, wanted, size, person, session, audio, video, onEnd: (sentence: string) => void}} options
   *   `wanted` as in LocalMedia.open; `person` identifies the user to the demo backend in a later join, so that the others'
   *   pages keep the user's tile; `session` is that of the page before it was reloaded; `audio` and `video` are false for a
   *   device that starts switched off
   */
  constructor(view, { name, room, wanted, size, person, session = "", audio = true, video = true, onEnd }) {
    this.#view = view;
    Object.assign(this, { name, room, wanted, size, person, session, onEnd });
    this.on = { audio, video };
    this.media = new LocalMedia(name, size);
    this.media.onEnded = (kind) => this.#deviceGone(kind);
  }

  /** Open devices, join the room and enter the call; returns early if stop() was called meanwhile. */
  async start() {
    this.#view.showStatus("Asking for camera and microphone", "busy");
    await this.media.open(this.wanted, this.on);
    if (this.#closedIfOver()) return;
    this.#joinAnswer = await backend.join(this.#participant());
    if (this.#over) return;
    this.signaling = new Signaling(socketUrl(), (features) => this.#credentials(features));
    this.signaling.addEventListener("state", ({ detail }) => this.#signalingState(detail));
    this.signaling.addEventListener("ended", ({ detail }) => !this.#over && this.onEnd(sentences.ended(detail.reason)));
    await this.signaling.open();
    if (this.#over) return;
    this.call = new Call({ signaling: this.signaling, iceServers: this.#joinAnswer.iceServers, name: this.#joinAnswer.name });
    this.#addListeners();
    await this.#enter();
    if (this.#over) return;
    this.#publish();
    this.call.enter();
    this.#joining = false;
    this.paint();
    this.#reportDevices();
    this.#statsTimer = setInterval(() => this.#showStats(), STATS_MS);
  }

  stop() {
    this.#over = true;
    clearInterval(this.#statsTimer);
    this.#detector?.stop();
    this.stopSharing();
    this.signaling?.close(); // first, so that the gateway does not count the closed connections as failed
    this.call?.close();
    this.media.close();
  }

  /** Return the options with which another page continues this participation. */
  options() {
    const { name, room, size, person } = this;
    const { on } = this.media;
    const wanted = this.wanted === "audio" && on.video ? "both" : this.wanted;
    return { name, room, wanted, size, person, session: this.#joinAnswer?.session ?? this.session, ...on };
  }

  toggleMute() {
    if (!this.media.setAudio(!this.media.audioOn)) {
      this.#view.notices.show("devices", sentences.devices(this.media.reason || "unused"), this.#tryAgain());
    }
    this.call.sendState({ audio: this.media.audioOn });
    this.paint();
  }

  async toggleCamera() {
    if (this.media.video === null) {
      await this.#openDevices(() => this.media.startVideo());
      return;
    }
    this.media.stopVideo(); // also while the browser's dialog for a microphone is open
    this.#devicesChanged();
    if (!this.media.reason) this.#reportDevices();
  }

  /** Use the chosen microphone ("audioinput") or camera ("videoinput") in place of the present one; a camera that is off stays off. */
  async switchDevice(kind) {
    const { notices } = this.#view;
    if (!this.call) return;
    if (kind === "videoinput") {
      if (this.media.realVideo) await this.#openDevices(() => this.media.switchCamera());
      return;
    }
    if (!this.media.realAudio) return;
    notices.clear("microphone");
    await this.#openDevices(async () => {
      if (!(await this.media.switchMicrophone()) && this.media.realAudio) notices.show("microphone", sentences.MICROPHONE_REFUSED);
    });
  }

  /** Use devices that were plugged in: chosen ones, and those that are missing. */
  async devicesArrived(kinds) {
    if (!this.call) return;
    const { media } = this;
    if (kinds.includes("audioinput") && media.realAudio && isOfOtherDevice(media.audio)) await this.switchDevice("audioinput");
    if (kinds.includes("videoinput") && media.realVideo && isOfOtherDevice(media.video)) await this.switchDevice("videoinput");
    if (media.reason && media.reason !== "permission") await this.#openDevices(() => media.reopen());
  }

  async toggleShare() {
    if (this.#choosingScreen) return;
    if (this.#screen) {
      this.stopSharing();
      return;
    }
    this.#choosingScreen = true;
    const screen = await this.#chooseScreen();
    this.#choosingScreen = false;
    if (this.#over) for (const track of screen?.getTracks() ?? []) track.stop();
    if (this.#over || !screen) return;
    this.#screen = screen;
    screen.getVideoTracks()[0].addEventListener("ended", () => this.#screen === screen && this.stopSharing());
    this.call.publishing.publish("screen", screen.getTracks(), screenPreferences());
    this.#view.showOwnScreen(this.#ownState());
    this.paint();
  }

  stopSharing() {
    if (!this.#screen) return;
    for (const track of this.#screen.getTracks()) track.stop();
    this.#screen = null;
    this.call.publishing.unshare();
    this.#view.showOwnScreen(this.#ownState());
    this.paint();
  }

  /** Publish camera and screen again with the preferences of the settings. */
  applyPreferences() {
    this.call.publishing.setPreferences("video", preferences());
    this.call.publishing.setPreferences("screen", screenPreferences());
  }

  /** Show the current state on the page. */
  paint() {
    if (!this.call || this.#over) return;
    const others = this.call.others();
    this.#view.paint(this.#ownState(), others, this.#joining);
    this.#showCallState(others.filter(({ flags }) => flags & FLAG_IN_CALL).length);
  }

  async #chooseScreen() {
    try {
      return await openScreen();
    } catch {
      if (!this.#over) this.#view.notices.show("screen", sentences.SCREEN_FAILED);
      return null;
    }
  }

  /** If the participation is over, close the devices that the browser has opened meanwhile; returns whether it is over. */
  #closedIfOver() {
    if (this.#over) this.media.close();
    return this.#over;
  }

  #ownState() {
    const { audioOn, video, realVideo } = this.media;
    const { sessionId } = this.signaling;
    const hand = this.call.hands.place(sessionId);
    return { sessionId, name: this.#joinAnswer.name, flags: this.#callFlags(), audio: audioOn, video, mirrored: realVideo, screen: this.#screen, hand };
  }

  #participant() {
    const { name, room, person } = this;
    return { name, room, person, previous: this.#joinAnswer?.session ?? this.session };
  }

  /** Return the credentials for a hello: those of the first join once, then those of a new join for each session. */
  async #credentials(features) {
    if (this.#joinAnswer.used) {
      this.#joinAnswer = await backend.join(this.#participant());
      if (this.call) this.call.name = this.#joinAnswer.name; // another user may have taken the former number
    }
    this.#joinAnswer.used = true;
    const { url, ticket, token } = this.#joinAnswer;
    if (features.has("hello-v2") && token) return { version: "2.0", auth: { url, params: { token } } };
    return { version: "1.0", auth: { url, params: { ticket } } };
  }

  async #enter() {
    this.#view.showStatus(`Joining ${this.room}`, "busy");
    await this.signaling.joinRoom(this.#joinAnswer.roomid, this.#joinAnswer.session);
    if (this.#over) return;
    this.#reportedFlags = this.#callFlags();
    await backend.call(this.#joinAnswer.session, this.#reportedFlags);
  }

  /** Return the own call flags: without audio and video for a listener, with video also while the camera is off. */
  #callFlags() {
    if (this.wanted === "listen") return FLAG_IN_CALL;
    return FLAG_IN_CALL | FLAG_AUDIO | (this.wanted === "audio" && !this.media.video ? 0 : FLAG_VIDEO);
  }

  #addListeners() {
    const { notices, tiles } = this.#view;
    const on = (type, handle) => this.call.addEventListener(type, ({ detail }) => handle(detail));
    this.signaling.addEventListener("session", ({ detail }) => (detail.resumed ? this.#sessionResumed() : this.#sessionLost()));
    on("members", () => this.paint());
    on("chat", (message) => this.#view.chat.add(message));
    on("unsent", ({ id, error }) => this.#view.chat.markFailed(id, error.message));
    on("raised", ({ name }) => this.#view.announcer.say(`${name} raised a hand.`));
    on("removed", () => this.onEnd("The room was closed."));
    on("trouble", ({ key, text }) => (text ? notices.show(key, text) : notices.clear(key)));
    on("stream", ({ sessionId, roomType, stream }) => {
      const member = this.call.others().find((one) => one.sessionId === sessionId);
      this.#view.showStream(member ?? { sessionId, name: "Guest", userId: "" }, roomType, stream);
      this.paint();
    });
    on("gone", ({ sessionId, roomType }) => {
      tiles.close(sessionId, roomType);
      this.paint();
    });
    on("media", ({ roomType, state }) => {
      if (roomType === "video") this.#mediaState = state;
      this.paint();
    });
  }

  #publish() {
    const tracks = [this.media.audio, this.media.video].filter(Boolean);
    if (!tracks.length) return;
    this.#mediaState = "connecting";
    this.call.publishing.publish("video", tracks, preferences());
    this.call.sendState({ audio: this.media.audioOn, video: this.media.video !== null });
    this.#detectSpeech();
  }

  #detectSpeech() {
    const track = this.media.realAudio ? this.media.audio : null;
    if (track === (this.#detector?.track ?? null)) return;
    this.#detector?.stop();
    this.#setSpeaking(false); // the state of the previous detector no longer holds
    this.#detector = track && new SpeechDetector(track, (speaking) => this.#setSpeaking(speaking));
  }

  #setSpeaking(speaking) {
    this.call.sendState({ speaking });
    this.#view.tiles.get(this.signaling.sessionId, "video")?.setState({ speaking });
  }

  #sessionResumed() {
    this.#view.notices.clear("gateway");
    if (this.#rejoining) {
      this.#rejoin();
      return;
    }
    this.call.resumed();
    this.paint();
  }

  /** Join the room and the call again after the session was lost; the tiles stay unchanged meanwhile. */
  #sessionLost() {
    const { notices, tiles } = this.#view;
    notices.clear("gateway");
    notices.show("session", sentences.NO_SUCH_SESSION);
    this.#joining = this.#rejoining = true;
    this.call.sessionLost();
    tiles.sessionLost();
    this.#view.showOwnScreen(this.#ownState());
    this.#rejoin();
  }

  /** Join the room, unless this session is in it already, and enter the call; tries again after an error. */
  async #rejoin() {
    const { notices, tiles } = this.#view;
    const rejoin = (this.#rejoins += 1);
    const isReplaced = () => this.#over || rejoin !== this.#rejoins;
    try {
      await this.#enter();
    } catch (error) {
      if (isReplaced() || this.signaling.state !== "open") return; // the next session, or the resumed one, joins
      notices.show("session", sentences.refused(error));
      setTimeout(() => !isReplaced() && this.signaling.state === "open" && this.#rejoin(), REJOIN_MS);
      return;
    }
    if (isReplaced()) return;
    this.call.renew();
    this.#joining = this.#rejoining = false;
    notices.clear("session");
    setTimeout(() => !this.#over && tiles.closeOrphaned(), ORPHAN_MS);
    this.paint();
  }

  #signalingState({ state }) {
    if (state === "away") {
      const text = navigator.onLine ? sentences.GATEWAY_AWAY : sentences.OFFLINE;
      this.#view.notices.show("gateway", text, { label: "Try now", run: () => this.signaling.retry() });
    }
    if (state === "open") return; // the event "session" follows: until then members are those of the former session
    if (this.call) this.paint();
    else if (state === "away") this.#view.showStatus("Gateway away, connecting again", "bad");
    else if (state === "connecting") this.#view.showStatus("Connecting to the gateway", "busy");
  }

  #showCallState(others) {
    const { state } = this.signaling;
    const show = (text, level) => this.#view.showStatus(text, level);
    if (state === "away" || state === "connecting") show("Gateway away, connecting again", "bad");
    else if (this.#joining) show("Joining the call", "busy");
    else if (this.#mediaState === "failed") show("Media connection failed, connecting again", "bad");
    else if (this.#mediaState === "disconnected") show("Picture and sound interrupted, waiting for the network", "bad");
    else if (this.#mediaState === "connecting") show("Connecting picture and sound", "busy");
    else if (others === 0) show("Connected, nobody else is in the call yet", "ok");
    else show(`Connected, in the call with ${others} other${others === 1 ? "" : "s"}`, "ok");
  }

  #reportDevices() {
    const { notices } = this.#view;
    const { reason } = this.media;
    if (this.wanted === "listen") notices.show("devices", sentences.LISTENING);
    else if (reason) notices.show("devices", sentences.devices(reason), this.#tryAgain());
    else notices.clear("devices");
  }

  #tryAgain() {
    return { label: "Try again", run: () => this.#openDevices(() => this.media.reopen()) };
  }

  /** Open devices with a function, and send their tracks; nothing happens while a request for devices is pending. */
  async #openDevices(open) {
    if (this.#openingDevice) return;
    this.#openingDevice = true;
    await open();
    this.#openingDevice = false;
    if (this.#closedIfOver()) return;
    this.#devicesChanged();
    this.#reportDevices();
  }

  #deviceGone(kind) {
    if (this.#over) return;
    if (this.call) this.#devicesChanged();
    this.#view.notices.show("devices", sentences.deviceGone[kind], this.#tryAgain());
  }

  /** Send the current tracks and their states, and show them. */
  #devicesChanged() {
    for (const kind of ["audio", "video"]) this.call.publishing.setTrack("video", kind, this.media[kind]);
    this.call.sendState({ audio: this.media.audioOn, video: this.media.video !== null });
    this.#detectSpeech();
    this.#reportFlags();
    this.paint();
  }

  /** Report the call flags to the backend if the camera was the first or only one. */
  #reportFlags() {
    const flags = this.#callFlags();
    if (!this.#reportedFlags || flags === this.#reportedFlags) return;
    this.#reportedFlags = flags;
    backend.call(this.#joinAnswer.session, flags).catch(() => {});
  }

  #showStats() {
    const { publishing, receiving } = this.call;
    this.#view.showQuality((sessionId, roomType) =>
      sessionId === this.signaling.sessionId ? publishing.connection(roomType) : receiving.connection(sessionId, roomType),
    );
  }
}

function socketUrl() {
  const url = new URL("spreed", document.baseURI);
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  return url.href;
}
