/**
 * Choices of the user that this browser keeps for later calls: layout and devices. Tabs that are open do not follow each other.
 */

const PREFIX = "portunus.";
const known = new Map(); // those that this page has read or made

/** Return a choice; "" if there is none. */
export function recall(name) {
  if (!known.has(name)) known.set(name, stored(name));
  return known.get(name);
}

/** Keep a choice; "" forgets it. */
export function keep(name, choice) {
  known.set(name, choice);
  try {
    if (choice) localStorage.setItem(PREFIX + name, choice);
    else localStorage.removeItem(PREFIX + name);
  } catch {
    // The browser keeps nothing for this page: the choice holds until the page is closed.
  }
}

function stored(name) {
  try {
    return localStorage.getItem(PREFIX + name) ?? "";
  } catch {
    return "";
  }
}
