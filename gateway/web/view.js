/**
 * The page's view of a call: tiles, people, controls, the state in words, and statistics.
 */

import { Announcer } from "./announcer.js";
import { Arrivals } from "./arrivals.js";
import { ChatPanel } from "./chat_panel.js";
import { Layout } from "./layout.js";
import { Notices } from "./notices.js";
import { PeopleList } from "./people.js";
import { FLAG_AUDIO, FLAG_IN_CALL, FLAG_VIDEO } from "./roster.js";
import * as sentences from "./sentences.js";
import { judgeReceived, judgeSent, steadied, videoLimit } from "./quality.js";
import { QualityDetails } from "./quality_details.js";
import { readStats } from "./stats.js";
import { icon, TileGrid } from "./tiles.js";
import { setUnavailable } from "./unavailable.js";

const $ = (id) => document.getElementById(id);

export class View {
  notices = new Notices($("notices"));
  tiles = new TileGrid($("tiles"), new Layout($("tiles"), $("change-layout")));
  announcer = new Announcer($("announcer"));
  chat = new ChatPanel(this.announcer);
  #arrivals = new Arrivals((sentence) => this.announcer.say(sentence));
  #people = new PeopleList($("people-list"));
  #details = new QualityDetails();

  constructor() {
    $("tiles").addEventListener("quality", ({ detail }) => this.#details.open(detail));
  }

  /** Show the state of the connection; `level` is "idle", "busy", "ok" or "bad". */
  showStatus(text, level) {
    const state = $("state");
    if (state.textContent !== text) state.textContent = text; // a screen reader reads each change
    state.dataset.level = level;
  }

  /**
   * Show the members of a call, the own state, and the controls.
   * @param {{sessionId, name, flags, audio: boolean, video: ?MediaStreamTrack, mirrored: boolean, screen: ?MediaStream,
   *   hand: number}} own
   * @param others as Call.others() returns them
   * @param {boolean} joining whether members may be missing that come back, so that tiles stay
   */
  paint(own, others, joining) {
    this.#paintOwn(own);
    for (const one of others) this.#paintOther(one);
    const inCall = others.filter(({ flags }) => flags & FLAG_IN_CALL);
    const callMembers = new Set(inCall.map(({ sessionId }) => sessionId));
    if (!joining) this.#arrivals.update(inCall);
    for (const [sessionId, roomType] of this.tiles.entries()) {
      if (sessionId !== own.sessionId && !callMembers.has(sessionId) && !joining) this.tiles.close(sessionId, roomType);
    }
    this.tiles.arrange();
    const sharing = (sessionId) => Boolean(this.tiles.get(sessionId, "screen"));
    this.#people.show([
      { ...own, name: `${own.name} (you)`, video: own.video !== null, sharing: sharing(own.sessionId) },
      ...others.map((one) => ({ ...one, sharing: sharing(one.sessionId) })),
    ]);
    this.#paintControls(own);
  }

  /** Show a member's stream in its tile. */
  showStream({ sessionId, name, userId }, roomType, stream) {
    const tile = this.tiles.open(sessionId, roomType, { name, userId });
    tile.setStream(stream);
    tile.setNote("");
    tile.video.play().catch((error) => {
      if (error.name !== "NotAllowedError") return; // the browser waits for a gesture
      this.notices.show("autoplay", sentences.AUTOPLAY, { label: "Play sound", run: () => this.#playAll() });
    });
  }

  /** Show the own screen in a tile; `null` closes the tile. */
  showOwnScreen({ sessionId, name, screen }) {
    if (screen) this.tiles.open(sessionId, "screen", { name, own: true }).setStream(screen);
    else this.tiles.close(sessionId, "screen");
  }

  /** Show the quality on each tile; `connection` returns the PeerConnection of a session id and roomType, or null. */
  async showQuality(connection) {
    for (const [sessionId, roomType, tile] of this.tiles.entries()) {
      const pc = connection(sessionId, roomType);
      if (!pc) continue;
      tile.setQuality(await readQuality(pc, tile));
      this.#details.update(tile);
    }
  }

  clear() {
    this.#details.close();
    this.tiles.clear();
    this.notices.clearAll();
    this.chat.clear();
    this.#arrivals.clear();
    this.#people.show([]);
  }

  #paintOwn({ sessionId, name, audio, video, mirrored, hand }) {
    const tile = this.tiles.open(sessionId, "video", { name, own: true });
    if ((tile.video.srcObject?.getVideoTracks()[0] ?? null) !== video) tile.setStream(video && new MediaStream([video]));
    tile.setState({ audio, video: video !== null, hand });
    tile.element.classList.toggle("mirrored", mirrored);
  }

  #paintOther({ sessionId, userId, name, flags, audio, video, speaking, hand }) {
    if (!(flags & FLAG_IN_CALL)) return;
    const tile = this.tiles.open(sessionId, "video", { name, userId });
    tile.setState({ audio, video: flags & FLAG_VIDEO ? video : (video ?? false), speaking, hand });
    const sends = flags & (FLAG_AUDIO | FLAG_VIDEO);
    tile.setNote(sends ? (tile.video.srcObject ? "" : "Connecting") : "Listening");
    const screen = this.tiles.get(sessionId, "screen");
    if (screen && screen.name !== name) screen.rename(name);
  }

  #paintControls({ flags, audio, video, screen, hand }) {
    paintButton("mute", audio ? "Mute" : "Unmute", audio ? "mic" : "mic-off");
    paintButton("camera", video ? "Camera off" : "Camera on", video ? "camera" : "camera-off");
    paintButton("share", screen ? "Stop sharing" : "Share screen", "screen");
    paintButton("hand", hand ? "Lower hand" : "Raise hand", "hand");
    $("hand").classList.toggle("on", hand > 0);
    $("share").classList.toggle("on", Boolean(screen));
    const listener = flags === FLAG_IN_CALL;
    for (const id of ["mute", "camera"]) setUnavailable(id, listener ? sentences.unavailable[id] : "");
  }

  #playAll() {
    for (const video of document.querySelectorAll(".tile video")) video.play().catch(() => {});
    this.notices.clear("autoplay");
  }
}

/** Read the quality of a tile's stream; its limit is null if there is none. */
async function readQuality(pc, tile) {
  const { own, screen, state } = tile;
  const reading = await readStats(pc, own ? "outbound-rtp" : "inbound-rtp");
  const limit = own ? videoLimit(pc.remoteDescription?.sdp) : null;
  const judge = own ? judgeSent : judgeReceived;
  const latest = judge(reading, { screen, camera: screen || Boolean(state.video), limit });
  return { reading, limit, latest, judgement: steadied(tile.quality?.latest, latest) };
}

function paintButton(id, label, symbol) {
  const text = $(id).querySelector("span");
  if (text.textContent === label) return;
  text.textContent = label;
  $(id).querySelector("svg").replaceWith(icon(symbol));
}
