/**
 * The buttons of a tile: quality, pin and full screen. Pin and full screen are shown to a pointer on the tile, to the
 * focus, and after a tap.
 */

import { hasFullScreen, toggleFullScreen } from "./full_screen.js";
import { element, icon } from "./tiles.js";

const WORDS = { good: "Good", fair: "Fair", poor: "Poor" };

export class TileTools {
  #tile;
  #level = "";

  /** @param tile the tile; its element dispatches "pin" and "quality", which bubble, when these buttons are pressed */
  constructor(tile) {
    this.#tile = tile;
    this.element = element("div", "tile-tools");
    this.pin = this.#button("tile-tool", "pin", () => this.#dispatch("pin"));
    this.pin.setAttribute("aria-pressed", "false");
    this.fullScreen = this.#button("tile-tool", "full-screen", () => toggleFullScreen(tile));
    this.fullScreen.hidden = !hasFullScreen();
    this.quality = this.#button("tile-quality", "quality-good", () => this.#dispatch("quality"));
    this.quality.append(element("span"));
    this.quality.setAttribute("aria-haspopup", "dialog");
    this.quality.hidden = true; // until it is known
    this.element.append(this.pin, this.fullScreen, this.quality);
    tile.element.addEventListener("click", () => this.#showOnTap());
  }

  /** Name the buttons after the tile's label. */
  rename(label) {
    this.#name(this.pin, `Pin ${label}`);
    this.#name(this.fullScreen, `Full screen: ${label}`);
    this.#nameQuality();
  }

  setPinned(pinned) {
    this.pin.setAttribute("aria-pressed", String(pinned));
  }

  /** @param {""|"good"|"fair"|"poor"} level "" hides it */
  setQuality(level) {
    if (level === this.#level) return;
    this.#level = level;
    this.quality.hidden = !level;
    this.quality.dataset.level = level;
    if (level) this.quality.querySelector("svg").replaceWith(icon(`quality-${level}`));
    this.quality.querySelector("span").textContent = WORDS[level] ?? "";
    this.#nameQuality();
  }

  #nameQuality() {
    this.#name(this.quality, `${WORDS[this.#level] ?? "Unknown"} quality of ${this.#tile.label}: show figures`);
  }

  #name(button, name) {
    button.setAttribute("aria-label", name);
    button.title = name;
  }

  #dispatch(type) {
    this.#tile.element.dispatchEvent(new CustomEvent(type, { bubbles: true, detail: this.#tile }));
  }

  #showOnTap() {
    for (const one of document.querySelectorAll(".tile.tapped")) one.classList.remove("tapped");
    this.#tile.element.classList.add("tapped");
  }

  #button(className, symbol, run) {
    const button = element("button", className);
    button.type = "button";
    button.append(icon(symbol));
    button.addEventListener("click", run);
    return button;
  }
}
