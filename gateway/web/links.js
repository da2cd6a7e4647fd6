/**
 * Text with its web addresses as links.
 */

const ADDRESS = /\bhttps?:\/\/[^\s<>"“”]+/giu;
const AFTER = /[.,;:!?)\]}'’»…]+$/u; // punctuation of the sentence around an address

/** Return the nodes for a text. A link goes exactly to the address that is read, and tells the target nothing of this page. */
export function textWithLinks(text) {
  const nodes = [];
  let end = 0;
  for (const { 0: found, index } of text.matchAll(ADDRESS)) {
    const address = found.replace(AFTER, "");
    if (!isSafe(address)) continue;
    nodes.push(text.slice(end, index), link(address));
    end = index + address.length;
  }
  return [...nodes, text.slice(end)].filter((node) => node !== "");
}

/** Return whether an address leads where it seems to: no user name before the host, no look-alike letters in it. */
function isSafe(address) {
  if (!URL.canParse(address)) return false;
  const { protocol, username, password, host } = new URL(address);
  if (!["http:", "https:"].includes(protocol) || username || password) return false;
  return address.slice(protocol.length + 2).toLowerCase().startsWith(host); // the host as written, not converted
}

function link(address) {
  const made = document.createElement("a");
  made.href = address;
  made.textContent = address;
  made.target = "_blank";
  made.rel = "noopener noreferrer nofollow";
  return made;
}
