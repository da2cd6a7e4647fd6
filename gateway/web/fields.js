/**
 * Text fields that must not be empty: a sentence at the field says so.
 */

import { element } from "./tiles.js";

const INVISIBLE = /[\p{C}\p{Z}\u115f\u1160\u2800\u3164\uffa0]/gu; // blanks, controls, and letters without a shape

/** Return the trimmed text of a field; if nothing of it can be seen, show a sentence at the field and return "". */
export function requiredText(field, sentence) {
  const text = field.value.trim();
  const empty = text.replace(INVISIBLE, "") === "";
  showError(field, empty ? sentence : "");
  return empty ? "" : text;
}

function showError(field, sentence) {
  const id = `${field.id}-error`;
  document.getElementById(id)?.remove();
  if (!sentence) {
    for (const name of ["aria-invalid", "aria-describedby"]) field.removeAttribute(name);
    return;
  }
  const words = element("p", "field-error");
  Object.assign(words, { id, textContent: sentence });
  field.after(words);
  field.setAttribute("aria-invalid", "true");
  field.setAttribute("aria-describedby", id);
}
