/**
 * Copies the link to the room.
 */

const COPIED = "The link to this room is copied.";
const SHOWN_MS = 2500;

/** Copy a link to the clipboard, and say so; where the browser gives no access, show the link to be copied by hand. */
export async function copyLink(link, { announcer, notices }) {
  if (!(await copied(link))) {
    notices.show("link", `The browser does not let this page copy. The link to this room: ${link}`);
    return;
  }
  announcer.say(COPIED);
  const label = document.getElementById("copy-link").querySelector("span");
  label.textContent = "Copied";
  setTimeout(() => (label.textContent = "Copy link"), SHOWN_MS);
}

async function copied(text) {
  try {
    await navigator.clipboard.writeText(text); // missing on pages that are neither on https nor on localhost
    return true;
  } catch {
    return copySelection(text);
  }
}

/** Copy by way of a selection, as browsers allow after a click on any page. */
function copySelection(text) {
  const [field, focused] = [document.createElement("textarea"), document.activeElement];
  field.value = text;
  field.className = "unseen";
  document.body.append(field);
  field.select();
  try {
    return document.execCommand("copy");
  } finally {
    field.remove();
    focused?.focus();
  }
}
