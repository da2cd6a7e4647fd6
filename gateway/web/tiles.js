/**
 * The tiles of a call: one for each stream, with name, state and buttons.
 */

import { handWords } from "./hands.js";
import { hueOf, initialOf } from "./media.js";
import { useSpeaker } from "./speaker.js";
import { Places } from "./places.js";
import { TileTools } from "./tile_tools.js";

const OWN = "(own)"; // the owner of the own tiles, as no user id is written

/** One stream on the page. Text of other users is inserted as text only, never as HTML. */
class Tile {
  constructor({ name, own, screen, owner, place }) {
    Object.assign(this, { own, screen, owner, place });
    this.element = element("article", `tile${own ? " own" : ""}${screen ? " screen" : ""}`);
    this.tools = new TileTools(this);
    this.video = element("video");
    Object.assign(this.video, { autoplay: true, playsInline: true, muted: own });
    this.video.setAttribute("aria-hidden", "true");
    if (!own) useSpeaker(this.video);
    this.avatar = element("div", "avatar");
    this.avatar.setAttribute("aria-hidden", "true");
    this.note = element("p", "tile-note");
    this.nameLabel = element("span", "tile-name");
    this.muted = icon("mic-off", "tile-flag");
    const bar = element("div", "tile-bar");
    this.hand = element("span", "tile-hand");
    this.hand.setAttribute("aria-hidden", "true");
    bar.append(this.hand, this.muted, this.nameLabel);
    this.element.append(this.video, this.avatar, this.note, bar, this.tools.element);
    for (const event of ["playing", "resize"]) this.video.addEventListener(event, () => this.#paint());
    this.state = { audio: null, video: null, speaking: false, hand: 0 };
    this.rename(name);
  }

  rename(name) {
    this.name = name;
    this.nameLabel.textContent = this.label;
    this.tools.rename(this.label);
    this.avatar.textContent = initialOf(name);
    this.element.style.setProperty("--hue", hueOf(name));
    this.#paint();
  }

  get label() {
    return this.screen ? `${this.name}'s screen` : this.own ? `${this.name} (you)` : this.name;
  }

  get speaking() {
    return Boolean(this.state.speaking && this.state.audio !== false);
  }

  /** Show a stream; the last frame stays until the new stream plays. */
  setStream(stream) {
    if (this.video.srcObject !== stream) this.video.srcObject = stream;
    this.#paint();
  }

  /** @param {{audio: ?boolean, video: ?boolean, speaking: boolean, hand: number}} state null = not known yet */
  setState(state) {
    this.state = { ...this.state, ...state };
    this.#paint();
  }

  setNote(text) {
    this.note.textContent = text;
  }

  /** @param {{judgement: {level, reasons}, latest, reading, limit}} quality judgement of the last two readings, and of the latest */
  setQuality(quality) {
    this.quality = quality;
    this.tools.setQuality(quality.judgement.level);
  }

  close() {
    this.video.srcObject = null;
    this.element.remove();
  }

  #paint() {
    const { audio, video, hand } = this.state;
    const tracks = this.video.srcObject?.getVideoTracks() ?? [];
    const hasPicture = tracks.length > 0 && (this.screen || video !== false) && (this.own || this.video.videoWidth > 0);
    this.element.classList.toggle("no-picture", !hasPicture);
    this.element.classList.toggle("speaking", this.speaking);
    this.muted.classList.toggle("shown", audio === false && !this.screen);
    this.#paintHand(hand);
    this.element.setAttribute("aria-label", [this.nameLabel.textContent, ...this.words()].join(", "));
  }

  #paintHand(place) {
    const text = place && !this.screen ? String(place) : "";
    if (this.hand.textContent !== text) this.hand.replaceChildren(...(text ? [icon("hand"), text] : []));
  }

  /** Return the state in words, for screen readers. */
  words() {
    if (this.screen) return [];
    const { audio, video, hand } = this.state;
    const words = [];
    if (hand) words.push(handWords(hand));
    if (audio !== null) words.push(audio ? "microphone on" : "microphone muted");
    if (video !== null) words.push(video ? "camera on" : "camera off");
    if (this.speaking) words.push("speaking");
    return words;
  }
}

/** All tiles; a user who comes back has the former place. */
export class TileGrid {
  #root;
  #layout;
  #places = new Places();
  #tiles = new Map(); // "session roomType" -> Tile
  #orphaned = []; // {roomType, tile} of a lost session, until the same user is back

  constructor(root, layout) {
    this.#root = root;
    this.#layout = layout;
    root.addEventListener("pin", ({ detail }) => layout.togglePin(detail));
  }

  get(sessionId, roomType) {
    return this.#tiles.get(`${sessionId} ${roomType}`);
  }

  /** Return the tile of a stream; if there is none, an orphaned tile of the user `userId`, or else a new one. */
  open(sessionId, roomType, { name, userId = "", own = false }) {
    const key = `${sessionId} ${roomType}`;
    const owner = own ? OWN : userId;
    let tile = this.#tiles.get(key);
    if (!tile) {
      tile = this.#takeOrphaned(roomType, owner) ?? this.#create(roomType, { name, own, owner });
      this.#tiles.set(key, tile);
      this.arrange();
    }
    if (tile.name !== name) tile.rename(name);
    return tile;
  }

  close(sessionId, roomType) {
    const key = `${sessionId} ${roomType}`;
    this.#tiles.get(key)?.close();
    if (this.#tiles.delete(key)) this.arrange();
  }

  /** Arrange the tiles anew, after their states have changed. */
  arrange() {
    this.#layout.arrange(this.#all());
  }

  /** Return [sessionId, roomType, tile] of each tile. */
  entries() {
    return [...this.#tiles].map(([key, tile]) => [...key.split(" "), tile]);
  }

  /** After the session is lost, keep the tiles: the others' streams may still play, and the own ones go on. */
  sessionLost() {
    for (const [, roomType, tile] of this.entries()) this.#orphaned.push({ roomType, tile });
    this.#tiles.clear();
  }

  /** Close the orphaned tiles whose users have not come back. */
  closeOrphaned() {
    for (const { tile } of this.#orphaned) tile.close();
    this.#orphaned = [];
    this.arrange();
  }

  clear() {
    this.closeOrphaned();
    for (const [sessionId, roomType] of this.entries()) this.close(sessionId, roomType);
    this.#places.clear();
    this.#layout.clear();
  }

  /** Return all tiles in the order of their places. */
  #all() {
    const orphaned = this.#orphaned.map(({ tile }) => tile);
    return [...this.#tiles.values(), ...orphaned].sort((one, other) => one.place - other.place);
  }

  #create(roomType, { name, own, owner }) {
    const tiles = this.#all();
    const place = this.#places.take(owner, roomType, tiles.map((tile) => tile.place));
    const made = new Tile({ name, own, owner, place, screen: roomType === "screen" });
    const next = tiles.find((tile) => tile.place > place);
    this.#root.insertBefore(made.element, next?.element ?? null);
    return made;
  }

  #takeOrphaned(roomType, owner) {
    const index = this.#orphaned.findIndex((one) => one.roomType === roomType && owner && one.tile.owner === owner);
    return index < 0 ? undefined : this.#orphaned.splice(index, 1)[0].tile;
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
