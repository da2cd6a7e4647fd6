/**
 * The speaker on which the others are played, in browsers that let a page choose it.
 */

import { recall } from "./stored_choices.js";

export const SPEAKER = "audiooutput";

export function canChooseSpeaker() {
  return "setSinkId" in HTMLMediaElement.prototype;
}

/** Play an element on the chosen speaker; on the system's while the chosen one is missing. */
export async function useSpeaker(media) {
  if (!canChooseSpeaker()) return;
  try {
    await media.setSinkId(recall(SPEAKER));
  } catch {
    await media.setSinkId("").catch(() => {}); // it plays on as before
  }
}

/** Play all tiles on the chosen speaker, after the choice or the devices have changed. */
export function useSpeakerForAll() {
  for (const video of document.querySelectorAll(".tile:not(.own) video")) useSpeaker(video);
}
