/**
 * The choice of the tile that the speaker view shows large.
 */

const DWELL_MS = 2000; // for which a speaker stays, or else the picture would change with every word

export class ActiveSpeaker {
  #place = 0; // of the tile that was chosen last
  #since = -Infinity;
  #timer = 0;
  #onDue;

  /** @param {() => void} onDue called when another speaker may be chosen, who has to wait until then */
  constructor(onDue) {
    this.#onDue = onDue;
  }

  /** Return the tile of the current speaker, or else of the last one or the first; undefined without tiles. */
  choose(tiles) {
    const current = tiles.find(({ place }) => place === this.#place);
    const speaking = tiles.find((tile) => tile.speaking);
    if (current && (current.speaking || !speaking)) return current;
    const wait = this.#since + DWELL_MS - performance.now();
    if (current && wait > 0) {
      clearTimeout(this.#timer);
      this.#timer = setTimeout(this.#onDue, wait);
      return current;
    }
    const chosen = speaking ?? tiles[0];
    this.#place = chosen?.place ?? 0;
    this.#since = speaking ? performance.now() : -Infinity; // the first one gives way to any speaker at once
    return chosen;
  }

  clear() {
    clearTimeout(this.#timer);
    this.#place = 0;
  }
}
