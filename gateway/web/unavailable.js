/**
 * Buttons that have no effect at the moment, and the reason, which a pointer, the focus or a tap shows.
 *
 * They keep the focus (aria-disabled instead of disabled), or else the keyboard could not reach the reason.
 */

import { element } from "./tiles.js";

const $ = (id) => document.getElementById(id);

/** Give a button the reason for which it has no effect; "" makes it available. */
export function setUnavailable(id, reason) {
  const [button, words] = [$(id), tooltip(id)];
  if (words.textContent === reason) return;
  words.textContent = button.title = reason;
  words.hidden = !reason;
  for (const [attribute, value] of [["aria-disabled", "true"], ["aria-describedby", words.id]]) {
    if (reason) button.setAttribute(attribute, value);
    else button.removeAttribute(attribute);
  }
}

export function isAvailable(id) {
  return $(id).getAttribute("aria-disabled") !== "true";
}

/** Return the element with the reason, which stands after the button; created at the first call. */
function tooltip(id) {
  const known = $(`${id}-reason`);
  if (known) return known;
  const made = element("span", "reason");
  made.id = `${id}-reason`;
  made.setAttribute("role", "tooltip");
  made.hidden = true;
  $(id).after(made);
  return made;
}
