/**
 * The call that a reload of the page continues, in the tab's storage.
 */

const KEY = "portunus.call";
const MAX_AGE_MS = 60_000; // from the unloading of the page to its next script

/** Keep a call while the page is unloaded. A duplicated tab has none: it is copied from a page that goes on. */
export function keepCall(call) {
  try {
    sessionStorage.setItem(KEY, JSON.stringify({ ...call, time: Date.now() }));
  } catch {
    // The browser keeps nothing: after a reload the user joins by hand.
  }
}

/** Return the call that was kept when this page was reloaded, once; null if there is none. */
export function takeCall() {
  let kept = null;
  try {
    kept = JSON.parse(sessionStorage.getItem(KEY));
    sessionStorage.removeItem(KEY);
  } catch {
    // as above
  }
  const reloaded = performance.getEntriesByType("navigation")[0]?.type === "reload"; // not by the button Back
  return reloaded && kept && Date.now() - kept.time < MAX_AGE_MS ? kept : null;
}
