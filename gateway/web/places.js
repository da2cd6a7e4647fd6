/**
 * The places of tiles: a user who comes back, in a new session, gets the former place.
 */

export class Places {
  #next = 1;
  #former = new Map(); // owner and roomType -> place

  /**
   * Return the place of a new tile: the former one of its owner, unless another tile has it, or else the last.
   * @param {string} owner who has the same tile again after a reconnect; "" is nobody in particular
   * @param {number[]} taken places of the present tiles
   */
  take(owner, roomType, taken) {
    const key = `${owner} ${roomType}`;
    const former = owner && this.#former.get(key);
    if (former && !taken.includes(former)) return former;
    const place = this.#next++;
    if (owner) this.#former.set(key, place);
    return place;
  }

  clear() {
    this.#former.clear();
  }
}
