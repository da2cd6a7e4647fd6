/**
 * The current problems: one sentence for each cause, read by screen readers and dismissible.
 */

import { element, icon } from "./tiles.js";

export class Notices {
  #root;
  #shown = new Map(); // key -> element

  constructor(root) {
    this.#root = root;
  }

  /** Show a sentence about a problem in place of the previous one with the same key; `action` is {label, run}. */
  show(key, text, action) {
    const old = this.#shown.get(key);
    if (old?.dataset.text === text) return;
    const notice = element("div", "notice");
    notice.dataset.key = key;
    notice.dataset.text = text;
    notice.setAttribute("role", "alert");
    const sentence = element("p");
    sentence.textContent = text;
    notice.append(sentence);
    if (action) notice.append(this.#button(action.label, "", action.run));
    notice.append(this.#button("", `Dismiss: ${text}`, () => this.clear(key)));
    if (old) old.replaceWith(notice);
    else this.#root.prepend(notice); // the newest at the top
    this.#shown.set(key, notice);
  }

  clear(key) {
    this.#shown.get(key)?.remove();
    this.#shown.delete(key);
  }

  clearAll() {
    for (const key of [...this.#shown.keys()]) this.clear(key);
  }

  #button(label, name, run) {
    const button = element("button", label ? "notice-action" : "notice-dismiss");
    button.type = "button";
    if (label) button.textContent = label;
    else {
      button.setAttribute("aria-label", name);
      button.append(icon("close"));
    }
    button.addEventListener("click", run);
    return button;
  }
}
