/**
 * The panels beside the pictures, of which one at most is open: people and chat.
 */

const $ = (id) => document.getElementById(id);

export class Panels {
  #names;
  #onOpened;

  /**
   * @param {string[]} names ids of panels; the button of each has the id "show-" and its name
   * @param {(name: string) => void} onOpened called when the user has opened a panel
   */
  constructor(names, onOpened) {
    this.#names = names;
    this.#onOpened = onOpened;
    for (const name of names) {
      $(`show-${name}`).addEventListener("click", () => this.#toggle(name));
      $(name).addEventListener("keydown", (event) => event.key === "Escape" && this.#close(name));
      $(name).querySelector(".panel-close").addEventListener("click", () => this.#close(name));
    }
  }

  /** Open a panel and close the others; "" closes all. */
  show(shown) {
    for (const name of this.#names) {
      $(name).hidden = name !== shown;
      $(`show-${name}`).setAttribute("aria-expanded", String(name === shown));
    }
  }

  #toggle(name) {
    const open = $(name).hidden;
    this.show(open ? name : "");
    if (open) this.#onOpened(name);
  }

  #close(name) {
    this.show("");
    $(`show-${name}`).focus();
  }
}
