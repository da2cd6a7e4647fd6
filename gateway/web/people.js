/**
 * The list of the room's members, each with its state in words.
 */

import { handWords } from "./hands.js";
import { FLAG_AUDIO, FLAG_IN_CALL, FLAG_VIDEO } from "./roster.js";
import { element } from "./tiles.js";

export class PeopleList {
  #root;
  #shown = "";

  constructor(root) {
    this.#root = root;
  }

  /**
   * Show these members, if anything has changed.
   * @param {{name, flags, audio: ?boolean, video: ?boolean, sharing: boolean, hand: number}[]} members
   *   `audio` and `video` are null while they are not known; `hand` is the place among the raised hands, from 1
   */
  show(members) {
    const lines = [...members]
      .sort((one, other) => (one.hand || Infinity) - (other.hand || Infinity) || 0) // 0: Infinity - Infinity is NaN
      .map((member) => [member.name, stateWords(member)]);
    const shown = JSON.stringify(lines);
    if (shown === this.#shown) return;
    this.#shown = shown;
    this.#root.replaceChildren(...lines.map(([name, words]) => listItem(name, words)));
  }
}

function stateWords({ flags, audio, video, sharing, hand }) {
  if (!(flags & FLAG_IN_CALL)) return "in the room, not in the call";
  const words = [];
  if (hand) words.push(handWords(hand));
  if (!(flags & (FLAG_AUDIO | FLAG_VIDEO))) return [...words, "listening", ...(sharing ? ["shares the screen"] : [])].join(", ");
  if (sharing) words.push("shares the screen");
  if (audio !== null) words.push(audio ? "microphone on" : "muted");
  if (video !== null) words.push(video ? "camera on" : "camera off");
  return words.join(", ") || "in the call";
}

function listItem(name, words) {
  const item = element("li");
  const [label, state] = [element("span", "person-name"), element("span", "person-state")];
  label.textContent = name;
  state.textContent = words;
  item.append(label, state);
  return item;
}
