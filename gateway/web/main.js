/**
 * The call page: joins a room through the demo backend and the gateway, and shows the call.
 */

import * as backend from "./backend.js";
import { Call } from "./call.js";
import { LocalMedia, openScreen, SpeakingMeter } from "./media.js";
import { Notices } from "./notices.js";
import { PeopleList } from "./people.js";
import { FLAG_AUDIO, FLAG_IN_CALL, FLAG_VIDEO } from "./roster.js";
import * as sentences from "./sentences.js";
import { prepareChoices, screenWishes, wishes } from "./settings.js";
import { Signaling, SignalingError } from "./signaling.js";
import { describe, readStats } from "./stats.js";
import { icon, TileGrid } from "./tiles.js";

const STATS_MS = 2000;
const REJOIN_MS = 2000;
const STRANDED_MS = 20_000; // as long as call.js lets the streams of a lost session play

const $ = (id) => document.getElementById(id);
const notices = new Notices($("notices"));
const tiles = new TileGrid($("tiles"));
const people = new PeopleList($("people-list"));
const person = crypto.randomUUID?.() ?? String(Math.random()); // makes a second join the same user

/** Everything of one stay in a room; `null` in the lobby. */
let stay = null;

class Stay {
  #ticket = null;
  #meter = null;
  #screen = null;
  #mediaState = "";
  #joining = true;

  constructor({ name, room, wanted, size }) {
    Object.assign(this, { name, room, wanted });
    this.media = new LocalMedia(name, size);
    this.media.onEnded = (kind) => this.#deviceGone(kind);
  }

  /** Open devices, join, enter the call. */
  async start() {
    say("Asking for camera and microphone", "busy");
    await this.media.open(this.wanted);
    this.#ticket = await backend.join(this.#who());
    this.signaling = new Signaling(socketUrl(), (features) => this.#credentials(features));
    this.signaling.addEventListener("state", ({ detail }) => this.#signalingState(detail));
    this.signaling.addEventListener("ended", ({ detail }) => leave(sentences.ended(detail.reason)));
    await this.signaling.open();
    this.call = new Call({ signaling: this.signaling, iceServers: this.#ticket.iceServers, name: this.name });
    this.#listen();
    await this.#enter();
    this.#publish();
    this.call.enter();
    this.#joining = false;
    this.paint();
    this.#tellDevices();
    this.statsTimer = setInterval(() => this.#readStats(), STATS_MS);
  }

  stop() {
    clearInterval(this.statsTimer);
    this.#meter?.stop();
    this.stopSharing();
    this.call?.close();
    this.signaling?.close();
    this.media.close();
  }

  toggleMute() {
    if (!this.media.setAudio(!this.media.audioOn)) {
      notices.show("devices", sentences.devices("microphone"), this.#tryDevices());
    }
    this.call.tell({ audio: this.media.audioOn });
    this.paint();
  }

  async toggleCamera() {
    const had = this.media.video !== null;
    const track = await this.media.setVideo(!had);
    this.call.publishing.setTrack("video", "video", track);
    this.call.tell({ video: track !== null });
    if (track) this.#tellDevices();
    this.paint();
  }

  async toggleShare() {
    if (this.#screen) {
      this.stopSharing();
      return;
    }
    try {
      const screen = await openScreen();
      if (!screen) return;
      this.#screen = screen;
    } catch {
      notices.show("screen", sentences.SCREEN_FAILED);
      return;
    }
    this.#screen.getVideoTracks()[0].addEventListener("ended", () => this.stopSharing());
    this.call.publishing.publish("screen", this.#screen.getTracks(), screenWishes());
    const tile = tiles.open(this.signaling.sessionId, "screen", { name: this.name, own: true });
    tile.setStream(this.#screen);
    this.paint();
  }

  stopSharing() {
    if (!this.#screen) return;
    for (const track of this.#screen.getTracks()) track.stop();
    this.#screen = null;
    this.call.publishing.unshare();
    tiles.close(this.signaling.sessionId, "screen");
    this.paint();
  }

  /** Publish with what was chosen in the settings. */
  rewish() {
    this.call.publishing.rewish("video", wishes());
    this.call.publishing.rewish("screen", screenWishes());
  }

  /** Bring the page in line with the state. */
  paint() {
    if (!this.call) return;
    const others = this.call.others();
    this.#paintTiles(others);
    const own = { name: `${this.name} (you)`, flags: this.#flags(), audio: this.media.audioOn, video: this.media.video !== null };
    people.show([{ ...own, sharing: this.#screen !== null }, ...others.map((one) => this.#withSharing(one))]);
    paintButton("mute", this.media.audioOn ? "Mute" : "Unmute", this.media.audioOn ? "mic" : "mic-off");
    paintButton("camera", this.media.video ? "Camera off" : "Camera on", this.media.video ? "camera" : "camera-off");
    paintButton("share", this.#screen ? "Stop sharing" : "Share screen", "screen");
    $("share").classList.toggle("on", this.#screen !== null);
    for (const id of ["mute", "camera"]) $(id).disabled = this.wanted === "listen";
    this.#paintState(others.filter(({ flags }) => flags & FLAG_IN_CALL).length);
  }

  #who() {
    return { name: this.name, room: this.room, person, previous: this.#ticket?.session ?? "" };
  }

  /** A session needs its own ticket: the first one is there already, a later one is asked for. */
  async #credentials(features) {
    if (this.#ticket.used) this.#ticket = await backend.join(this.#who());
    this.#ticket.used = true;
    const { url, ticket, token } = this.#ticket;
    if (features.has("hello-v2") && token) return { version: "2.0", auth: { url, params: { token } } };
    return { version: "1.0", auth: { url, params: { ticket } } };
  }

  async #enter() {
    say(`Joining ${this.room}`, "busy");
    await this.signaling.joinRoom(this.#ticket.roomid, this.#ticket.session);
    await backend.call(this.#ticket.session, this.#flags());
  }

  #flags() {
    const { audio, video } = this.media;
    return FLAG_IN_CALL | (audio || video ? FLAG_AUDIO : 0) | (video ? FLAG_VIDEO : 0);
  }

  #listen() {
    this.signaling.addEventListener("session", ({ detail }) => (detail.resumed ? this.#resumed() : this.#rejoin()));
    this.call.addEventListener("members", () => this.paint());
    this.call.addEventListener("removed", () => leave("The room was closed."));
    this.call.addEventListener("stream", ({ detail }) => this.#stream(detail));
    this.call.addEventListener("gone", ({ detail }) => this.#gone(detail));
    this.call.addEventListener("trouble", ({ detail: { key, text } }) => (text ? notices.show(key, text) : notices.clear(key)));
    this.call.addEventListener("media", ({ detail }) => {
      if (detail.roomType === "video") this.#mediaState = detail.state;
      this.paint();
    });
  }

  #publish() {
    const { audio, video } = this.media;
    const tracks = [audio, video].filter(Boolean);
    if (!tracks.length) return;
    this.call.publishing.publish("video", tracks, wishes());
    this.call.tell({ audio: this.media.audioOn, video: video !== null });
    this.#measure();
  }

  #measure() {
    this.#meter?.stop();
    if (!this.media.realAudio) return;
    this.#meter = new SpeakingMeter(this.media.audio, (speaking) => {
      this.call.tell({ speaking });
      tiles.get(this.signaling.sessionId, "video")?.setState({ speaking });
    });
  }

  #resumed() {
    notices.clear("gateway");
    this.call.resumed();
    this.paint();
  }

  /** The session was lost: join the room and the call again, with the tiles left as they are meanwhile. */
  async #rejoin() {
    notices.clear("gateway");
    notices.show("session", sentences.NO_SUCH_SESSION);
    this.#joining = true;
    this.call.strand();
    tiles.strand(this.ownId);
    this.#screenTile();
    try {
      await this.#enter();
      this.call.renew();
    } catch (error) {
      if (stay !== this || this.signaling.state !== "open") return; // the next session does it
      notices.show("session", sentences.refused(error));
      setTimeout(() => stay === this && this.signaling.state === "open" && this.#rejoin(), REJOIN_MS);
      return;
    }
    this.#joining = false;
    notices.clear("session");
    setTimeout(() => stay === this && tiles.settle(), STRANDED_MS);
    this.paint();
  }

  #screenTile() {
    if (!this.#screen) return;
    tiles.open(this.signaling.sessionId, "screen", { name: this.name, own: true }).setStream(this.#screen);
  }

  #signalingState({ state, retryIn }) {
    if (state === "away") {
      const text = navigator.onLine ? sentences.gatewayAway(retryIn) : sentences.OFFLINE;
      notices.show("gateway", text, { label: "Try now", run: () => this.signaling.onOnline() });
    }
    this.paint();
    if (!this.call) say(state === "away" ? "Gateway away, connecting again" : "Connecting to the gateway", "busy");
  }

  #stream({ sessionId, roomType, stream }) {
    const member = this.call.others().find((one) => one.sessionId === sessionId);
    const tile = tiles.open(sessionId, roomType, { name: member?.name ?? "Guest", userId: member?.userId });
    tile.setStream(stream);
    tile.setNote("");
    tile.video.play().catch((error) => {
      if (error.name !== "NotAllowedError") return;
      notices.show("autoplay", sentences.AUTOPLAY, { label: "Play sound", run: playAll });
    });
  }

  #gone({ sessionId, roomType }) {
    tiles.close(sessionId, roomType);
    this.paint();
  }

  #paintTiles(others) {
    this.ownId = this.signaling.sessionId;
    const own = tiles.open(this.ownId, "video", { name: this.name, own: true });
    const { video } = this.media;
    if (own.video.srcObject?.getVideoTracks()[0] !== (video ?? undefined)) own.setStream(video && new MediaStream([video]));
    own.setState({ audio: this.media.audioOn, video: video !== null });
    own.element.classList.toggle("mirrored", this.media.realVideo);
    for (const one of others) this.#paintTile(one);
    for (const [sessionId, roomType] of tiles.entries()) {
      const here = sessionId === this.ownId || others.some((one) => one.sessionId === sessionId && one.flags & FLAG_IN_CALL);
      if (!here && !this.#joining) tiles.close(sessionId, roomType);
    }
  }

  #paintTile({ sessionId, userId, name, flags, audio, video, speaking }) {
    if (!(flags & FLAG_IN_CALL)) return;
    const sends = flags & (FLAG_AUDIO | FLAG_VIDEO);
    const tile = tiles.open(sessionId, "video", { name, userId });
    tile.setState({ audio, video: flags & FLAG_VIDEO ? video : (video ?? false), speaking });
    tile.setNote(sends ? (tile.video.srcObject ? "" : "Connecting") : "Listening");
    const screen = tiles.get(sessionId, "screen");
    if (screen && screen.name !== name) screen.rename(name);
  }

  #withSharing(one) {
    return { ...one, sharing: Boolean(tiles.get(one.sessionId, "screen")) };
  }

  #paintState(others) {
    const { state } = this.signaling;
    if (state === "away" || state === "connecting") say("Gateway away, connecting again", "bad");
    else if (this.#joining) say("Joining the call", "busy");
    else if (this.#mediaState === "failed") say("Media connection failed, connecting again", "bad");
    else if (this.#mediaState === "connecting") say("Connecting picture and sound", "busy");
    else if (others === 0) say("Connected, nobody else is in the call yet", "ok");
    else say(`Connected, in the call with ${others} other${others === 1 ? "" : "s"}`, "ok");
  }

  #tellDevices() {
    if (this.wanted === "listen") notices.show("devices", sentences.LISTENING);
    else if (this.media.reasons.length) notices.show("devices", sentences.devices(this.media.reasons[0]), this.#tryDevices());
    else notices.clear("devices");
  }

  #tryDevices() {
    return { label: "Try again", run: () => this.#reopen() };
  }

  async #reopen() {
    this.media.close();
    await this.media.open(this.wanted);
    for (const kind of ["audio", "video"]) this.call.publishing.setTrack("video", kind, this.media[kind]);
    this.call.tell({ audio: this.media.audioOn, video: this.media.video !== null });
    this.#measure();
    this.#tellDevices();
    this.paint();
  }

  async #deviceGone(kind) {
    if (kind === "audio") {
      this.media.setAudio(false);
      this.call.tell({ audio: false });
      this.paint();
    } else if (this.media.video) {
      await this.toggleCamera();
    }
    notices.show("devices", sentences.deviceGone[kind], this.#tryDevices());
  }

  async #readStats() {
    for (const [sessionId, roomType, tile] of tiles.entries()) {
      const own = sessionId === this.signaling.sessionId;
      const pc = own ? this.call.publishing.connection(roomType) : this.call.receiving.connection(sessionId, roomType);
      if (pc) tile.setStats(describe(await readStats(pc, own ? "outbound-rtp" : "inbound-rtp")));
    }
  }
}

function socketUrl() {
  const url = new URL("spreed", document.baseURI);
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  return url.href;
}

function say(text, level) {
  const state = $("state");
  if (state.textContent !== text) state.textContent = text;
  state.dataset.level = level;
}

function paintButton(id, label, symbol) {
  const button = $(id);
  const text = button.querySelector("span");
  if (text.textContent === label) return;
  text.textContent = label;
  button.querySelector("svg").replaceWith(icon(symbol));
}

function playAll() {
  for (const video of document.querySelectorAll(".tile video")) video.play().catch(() => {});
  notices.clear("autoplay");
}

function show(view) {
  document.body.dataset.view = view;
  $("lobby").hidden = view !== "lobby";
  $("stage").hidden = $("controls").hidden = view !== "call";
}

async function join(event) {
  event.preventDefault();
  const [name, room] = [$("name").value.trim(), $("room").value.trim()];
  if (stay || !name || !room) return;
  notices.clearAll();
  stay = new Stay({ name, room, wanted: $("wanted").value, size: $("size").value });
  $("join").disabled = true;
  try {
    await stay.start();
  } catch (error) {
    leave(error instanceof SignalingError ? sentences.refused(error) : `Joining failed: ${error.message}.`);
    return;
  }
  $("join").disabled = false;
  $("room-title").textContent = room;
  document.title = `${room} – Portunus`;
  history.replaceState(null, "", `?room=${encodeURIComponent(room)}`);
  show("call");
  showPeople(matchMedia("(min-width: 60rem)").matches);
  $("mute").focus();
}

/** Go back to the lobby; a sentence says why when it was not the person's wish. */
function leave(sentence) {
  stay?.stop();
  stay = null;
  tiles.clear();
  notices.clearAll();
  show("lobby");
  $("join").disabled = false;
  $("room-title").textContent = "Join a call";
  say("Not connected", "idle");
  if (sentence) notices.show("left", sentence);
  $("join").focus();
}

function showPeople(shown) {
  $("people").hidden = !shown;
  $("show-people").setAttribute("aria-expanded", String(shown));
}

function start() {
  prepareChoices();
  const room = new URLSearchParams(location.search).get("room");
  if (room) $("room").value = room;
  $("join-form").addEventListener("submit", join);
  $("mute").addEventListener("click", () => stay?.toggleMute());
  $("camera").addEventListener("click", () => stay?.toggleCamera());
  $("share").addEventListener("click", () => stay?.toggleShare());
  $("leave").addEventListener("click", () => leave(""));
  $("show-people").addEventListener("click", () => showPeople($("people").hidden));
  $("show-settings").addEventListener("click", () => $("settings").showModal());
  $("settings").addEventListener("close", () => $("settings").returnValue === "apply" && stay?.rewish());
  $("share").hidden = !navigator.mediaDevices?.getDisplayMedia;
  addEventListener("pagehide", () => stay?.stop());
  if (!globalThis.RTCPeerConnection) notices.show("webrtc", "This browser has no WebRTC: it cannot take part in calls.");
}

start();

/** For the developer's console. */
globalThis.portunus = { get call() { return stay?.call ?? null; }, get signaling() { return stay?.signaling ?? null; } };
