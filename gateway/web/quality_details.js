/**
 * The figures of one stream's quality, opened by the button on its tile and renewed with each reading.
 */

import { describeStream, flowing } from "./stats.js";
import { element } from "./tiles.js";

const $ = (id) => document.getElementById(id);
const HEADINGS = { good: "Good quality", fair: "Fair quality", poor: "Poor quality" };
const ALL_WELL = { true: "Your stream reaches the server without trouble.", false: "The stream arrives without trouble." };

export class QualityDetails {
  #root = $("quality");
  #tile = null; // whose figures are shown

  constructor() {
    this.#root.addEventListener("toggle", ({ newState }) => newState === "closed" && (this.#tile = null));
    this.#root.querySelector("button").addEventListener("click", () => this.#root.hidePopover());
    addEventListener("resize", () => this.#root.hidePopover());
  }

  /** Show the figures of a tile beside its button. */
  open(tile) {
    this.#tile = tile;
    this.#paint();
    this.#root.showPopover();
    this.#place(tile.tools.quality.getBoundingClientRect());
    this.#root.focus();
  }

  /** Show a new reading, if the figures of its tile are open; those shown stay until the quality of a new connection is known. */
  update(tile) {
    if (tile === this.#tile && tile.quality.judgement.level) this.#paint();
  }

  close() {
    this.#root.hidePopover();
  }

  #paint() {
    const { label, own, quality } = this.#tile;
    const { judgement, reading } = quality;
    $("quality-title").textContent = `${HEADINGS[judgement.level]}: ${label}`;
    fill($("quality-reasons"), "li", judgement.reasons.length ? judgement.reasons : [ALL_WELL[own]]);
    const figures = flowing(reading).map(describeStream);
    if (reading.roundTrip !== null) figures.push(`${Math.round(reading.roundTrip)} ms to the server and back`);
    if (own && quality.limit !== null) figures.push(`the server allows ${Math.round(quality.limit)} kbit/s for the picture`);
    fill($("quality-figures"), "li", figures);
  }

  /** Place the figures below the button and within the window. */
  #place({ right, bottom }) {
    const { width, height } = this.#root.getBoundingClientRect();
    const clamped = (start, size, whole) => Math.max(8, Math.min(start, whole - size - 8));
    this.#root.style.setProperty("--left", `${clamped(right - width, width, innerWidth)}px`);
    this.#root.style.setProperty("--top", `${clamped(bottom + 8, height, innerHeight)}px`);
  }
}

function fill(list, name, texts) {
  const items = texts.map((text) => {
    const item = element(name);
    item.textContent = text;
    return item;
  });
  list.replaceChildren(...items);
}
