/**
 * The tiles of a call: one for each stream, with name, state and statistics.
 */

import { hueOf, initialOf } from "./media.js";

/** One stream on the page. Text of other users is inserted as text only, never as HTML. */
class Tile {
  constructor({ name, own = false, screen = false }) {
    this.own = own;
    this.screen = screen;
    this.userId = "";
    this.element = element("article", `tile${own ? " own" : ""}${screen ? " screen" : ""}`);
    this.video = element("video");
    Object.assign(this.video, { autoplay: true, playsInline: true, muted: own });
    this.video.setAttribute("aria-hidden", "true");
    this.avatar = element("div", "avatar");
    this.avatar.setAttribute("aria-hidden", "true");
    this.note = element("p", "tile-note");
    this.nameLabel = element("span", "tile-name");
    this.muted = icon("mic-off", "tile-flag");
    this.stats = element("p", "tile-stats");
    const bar = element("div", "tile-bar");
    bar.append(this.muted, this.nameLabel);
    this.element.append(this.video, this.avatar, this.note, bar, this.stats);
    for (const event of ["playing", "resize"]) this.video.addEventListener(event, () => this.#paint());
    this.state = { audio: null, video: null, speaking: false };
    this.rename(name);
  }

  rename(name) {
    this.name = name;
    this.nameLabel.textContent = this.screen ? `${name}'s screen` : this.own ? `${name} (you)` : name;
    this.avatar.textContent = initialOf(name);
    this.element.style.setProperty("--hue", hueOf(name));
    this.#paint();
  }

  /** Show a stream; the last frame stays until the new stream plays. */
  setStream(stream) {
    if (this.video.srcObject !== stream) this.video.srcObject = stream;
    this.#paint();
  }

  /** @param {{audio: ?boolean, video: ?boolean, speaking: boolean}} state null = not known yet */
  setState(state) {
    this.state = { ...this.state, ...state };
    this.#paint();
  }

  setNote(text) {
    this.note.textContent = text;
  }

  setStats(text) {
    this.stats.textContent = text;
  }

  close() {
    this.video.srcObject = null;
    this.element.remove();
  }

  #paint() {
    const { audio, video, speaking } = this.state;
    const tracks = this.video.srcObject?.getVideoTracks() ?? [];
    const hasPicture = tracks.length > 0 && (this.screen || video !== false) && (this.own || this.video.videoWidth > 0);
    this.element.classList.toggle("no-picture", !hasPicture);
    this.element.classList.toggle("speaking", Boolean(speaking && audio !== false));
    this.muted.classList.toggle("shown", audio === false && !this.screen);
    this.element.setAttribute("aria-label", [this.nameLabel.textContent, ...this.words()].join(", "));
  }

  /** Return the state in words, for screen readers. */
  words() {
    if (this.screen) return [];
    const { audio, video, speaking } = this.state;
    const words = [];
    if (audio !== null) words.push(audio ? "microphone on" : "microphone muted");
    if (video !== null) words.push(video ? "camera on" : "camera off");
    if (speaking && audio !== false) words.push("speaking");
    return words;
  }
}

/** All tiles in the order of their creation; screens are in a container of their own. */
export class TileGrid {
  #root;
  #screens;
  #tiles = new Map(); // "session roomType" -> Tile
  #orphaned = []; // {roomType, tile} of a lost session, until the same user is back

  constructor(root, screens) {
    this.#root = root;
    this.#screens = screens;
  }

  get(sessionId, roomType) {
    return this.#tiles.get(`${sessionId} ${roomType}`);
  }

  /** Return the tile of a stream; if there is none, an orphaned tile of the user `userId`, or else a new one. */
  open(sessionId, roomType, { name, userId = "", own = false }) {
    const key = `${sessionId} ${roomType}`;
    let tile = this.#tiles.get(key);
    if (!tile) {
      tile = this.#takeOrphaned(roomType, userId) ?? new Tile({ name, own, screen: roomType === "screen" });
      tile.userId = userId;
      this.#tiles.set(key, tile);
      if (!tile.element.isConnected) (tile.screen ? this.#screens : this.#root).append(tile.element);
    }
    if (tile.name !== name) tile.rename(name);
    this.#updateLayout();
    return tile;
  }

  close(sessionId, roomType) {
    const key = `${sessionId} ${roomType}`;
    this.#tiles.get(key)?.close();
    this.#tiles.delete(key);
    this.#updateLayout();
  }

  /** Return [sessionId, roomType, tile] of each tile. */
  entries() {
    return [...this.#tiles].map(([key, tile]) => [...key.split(" "), tile]);
  }

  /** After the session is lost, keep the others' tiles, whose streams may still play, and close the own ones. */
  sessionLost() {
    for (const [, roomType, tile] of this.entries()) {
      if (tile.own) tile.close();
      else this.#orphaned.push({ roomType, tile });
    }
    this.#tiles.clear();
  }

  /** Close the orphaned tiles whose users have not come back. */
  closeOrphaned() {
    for (const { tile } of this.#orphaned) tile.close();
    this.#orphaned = [];
    this.#updateLayout();
  }

  clear() {
    this.closeOrphaned();
    for (const [sessionId, roomType] of this.entries()) this.close(sessionId, roomType);
  }

  #takeOrphaned(roomType, userId) {
    const index = this.#orphaned.findIndex((one) => one.roomType === roomType && userId && one.tile.userId === userId);
    return index < 0 ? undefined : this.#orphaned.splice(index, 1)[0].tile;
  }

  #updateLayout() {
    const tiles = this.#root.children.length;
    this.#root.dataset.count = tiles > 9 ? "many" : String(tiles);
    this.#screens.hidden = this.#screens.children.length === 0;
  }
}

export function element(name, className = "") {
  const made = document.createElement(name);
  if (className) made.className = className;
  return made;
}

/** Create an element that shows one of the icons in index.html. */
export function icon(name, className = "") {
  const made = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  made.setAttribute("class", `icon ${className}`);
  made.setAttribute("aria-hidden", "true");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  use.setAttribute("href", `#icon-${name}`);
  made.append(use);
  return made;
}
