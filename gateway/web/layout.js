/**
 * The layout of the tiles: a grid, or large tiles and a strip of small ones beside them.
 *
 * Large are the pinned tile, or else shared screens, or else, in the speaker view, whoever speaks. The own tile is
 * the smallest of the speaker view.
 */

import { ActiveSpeaker } from "./active_speaker.js";
import { keep, recall } from "./stored_choices.js";
import { icon } from "./tiles.js";

const SPEAKER = "speaker"; // the kept choice; none is the grid

export class Layout {
  #root;
  #button;
  #tiles = []; // in the order of their places
  #pinned = 0; // a place, so that a tile is pinned again after a reconnect
  #speakerView = recall("layout") === SPEAKER;
  #speaker = new ActiveSpeaker(() => this.arrange(this.#tiles));

  /** @param button changes between grid and speaker view */
  constructor(root, button) {
    this.#root = root;
    this.#button = button;
    button.addEventListener("click", () => this.#toggleView());
    this.#paintButton();
  }

  /** Arrange these tiles, which are in the order of their places. */
  arrange(tiles) {
    this.#tiles = tiles;
    const large = this.#chooseLarge();
    const small = tiles.filter((tile) => !large.includes(tile));
    const inset = this.#speakerView && large.length > 0 && small.length === 1 && small[0].own && !small[0].screen;
    for (const tile of tiles) this.#show(tile, large.indexOf(tile), inset);
    const { classList, dataset, style } = this.#root;
    classList.toggle("focus", large.length > 0);
    classList.toggle("speaker-view", this.#speakerView);
    dataset.count = tiles.length > 9 ? "many" : String(tiles.length);
    dataset.strip = inset || !small.length ? "none" : "shown";
    style.setProperty("--strip", String(small.length || 1));
    style.setProperty("--large", String(large.length || 1));
  }

  /** Pin a tile in place of the pinned one, or unpin it. */
  togglePin(tile) {
    this.#pinned = this.#pinned === tile.place ? 0 : tile.place;
    this.arrange(this.#tiles);
  }

  clear() {
    this.#pinned = 0;
    this.#speaker.clear();
    this.arrange([]);
  }

  #chooseLarge() {
    const pinned = this.#tiles.find(({ place }) => place === this.#pinned);
    if (pinned) return [pinned];
    const screens = this.#tiles.filter(({ screen }) => screen);
    if (screens.length || !this.#speakerView) return screens;
    const speaker = this.#speaker.choose(this.#tiles.filter(({ own }) => !own));
    return speaker ? [speaker] : [];
  }

  #show(tile, index, inset) {
    const { classList, style } = tile.element;
    classList.toggle("large", index >= 0);
    classList.toggle("inset", index < 0 && inset);
    style.setProperty("--index", String(Math.max(index, 0)));
    tile.tools.setPinned(tile.place === this.#pinned);
  }

  #toggleView() {
    this.#speakerView = !this.#speakerView;
    keep("layout", this.#speakerView ? SPEAKER : "");
    this.#paintButton();
    this.arrange(this.#tiles);
  }

  /** Show which view the button changes to. */
  #paintButton() {
    const label = this.#speakerView ? "Grid view" : "Speaker view";
    this.#button.querySelector("span").textContent = this.#button.title = label;
    this.#button.querySelector("svg").replaceWith(icon(this.#speakerView ? "grid" : "speaker-view"));
  }
}
