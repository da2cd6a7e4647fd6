/**
 * Sentences for screen readers: what is seen at a glance and has no text of its own on the page.
 */

const PAUSE_MS = 100; // sentences of one moment are read together

export class Announcer {
  #root;
  #sentences = [];
  #timer = 0;

  /** @param {HTMLElement} root a live region */
  constructor(root) {
    this.#root = root;
  }

  say(sentence) {
    this.#sentences.push(sentence);
    this.#timer ||= setTimeout(() => this.#read(), PAUSE_MS);
  }

  #read() {
    const text = document.createElement("p"); // a new element, so that a repeated sentence is read again
    text.textContent = this.#sentences.join(" ");
    this.#root.replaceChildren(text);
    this.#sentences = [];
    this.#timer = 0;
  }
}
