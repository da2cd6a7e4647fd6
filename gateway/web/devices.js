/**
 * The choice of camera, microphone and speaker: lists of the present devices, and the kept choices.
 *
 * A choice names a device that may be missing: then the browser takes another one.
 */

import { canChooseSpeaker, SPEAKER, useSpeakerForAll } from "./speaker.js";
import { keep, recall } from "./stored_choices.js";

const NAMES = { audioinput: "Microphone", videoinput: "Camera", [SPEAKER]: "Speaker" };
const KINDS = { audio: "audioinput", video: "videoinput" };
const ALIASES = ["default", "communications"]; // ids in Chromium of devices that are listed by their own ids, too

/**
 * Open the chosen devices of the wanted media kinds, and others in place of those that are missing; throws as getUserMedia.
 * @param {{audio?: object|false, video?: object|false}} constraints further ones, of the wanted kinds
 */
export async function openDevices(constraints) {
  const chosen = Object.keys(KINDS).filter((kind) => constraints[kind] && recall(KINDS[kind]));
  const attempts = [chosen, ...(chosen.length > 1 ? [["video"], ["audio"]] : [])]; // chosen kinds that are insisted on
  for (const kinds of attempts) {
    try {
      return await navigator.mediaDevices.getUserMedia(withChoices(constraints, kinds));
    } catch (error) {
      if (error.name !== "OverconstrainedError") throw error;
    }
  }
  return navigator.mediaDevices.getUserMedia(constraints);
}

/** Return the constraints with the ids of the chosen devices; with "ideal" Chromium may take another device. */
function withChoices(constraints, kinds) {
  const insisted = kinds.map((kind) => [kind, { ...constraints[kind], deviceId: { exact: recall(KINDS[kind]) } }]);
  return { ...constraints, ...Object.fromEntries(insisted) };
}

/** Return whether a track is of another device than the chosen one. */
export function isOfOtherDevice(track) {
  const id = recall(KINDS[track.kind]);
  return Boolean(id) && track.getSettings().deviceId !== id;
}

/** Fills each select of the page that has data-device, and keeps selects of one kind equal. */
export class DeviceLists {
  #present = new Map(); // "kind id" -> device
  #onChosen;
  #onArrived;

  /**
   * @param {(kind: string) => void} onChosen called with the kind of device of which the user has chosen another
   * @param {(kinds: string[]) => void} onArrived called with the kinds of devices that were plugged in
   */
  constructor(onChosen, onArrived) {
    this.#onChosen = onChosen;
    this.#onArrived = onArrived;
    for (const select of document.querySelectorAll("select[data-device]")) {
      select.addEventListener("change", () => this.#choose(select.dataset.device, select.value));
    }
    navigator.mediaDevices?.addEventListener("devicechange", () => this.#devicesChanged());
    this.#paint();
  }

  /** List the present devices; their names are known once the page was allowed to use one. */
  async refresh() {
    const devices = (await navigator.mediaDevices?.enumerateDevices()) ?? [];
    const named = devices.filter(({ deviceId }) => deviceId && !ALIASES.includes(deviceId));
    this.#present = new Map(named.map((device) => [`${device.kind} ${device.deviceId}`, device]));
    this.#paint();
  }

  async #devicesChanged() {
    const before = this.#present;
    await this.refresh();
    useSpeakerForAll();
    const arrived = [...this.#present].filter(([key]) => !before.has(key)).map(([, { kind }]) => kind);
    if (arrived.length) this.#onArrived([...new Set(arrived)]);
  }

  #choose(kind, id) {
    keep(kind, id);
    keep(`${kind}.name`, this.#present.get(`${kind} ${id}`)?.label ?? "");
    this.#paint();
    if (kind === SPEAKER) useSpeakerForAll();
    else this.#onChosen(kind);
  }

  #paint() {
    for (const select of document.querySelectorAll("select[data-device]")) {
      const kind = select.dataset.device;
      const chosen = recall(kind);
      const devices = [...this.#present.values()].filter((device) => device.kind === kind);
      const options = devices.map(({ deviceId, label }, index) => new Option(label || `${NAMES[kind]} ${index + 1}`, deviceId));
      if (chosen && !devices.some(({ deviceId }) => deviceId === chosen)) {
        const name = recall(`${kind}.name`) || NAMES[kind];
        options.push(new Option(this.#present.size ? `${name} (not connected)` : name, chosen));
      }
      select.replaceChildren(new Option("As the system is set", ""), ...options);
      select.value = chosen;
      if (kind === SPEAKER) select.disabled = !canChooseSpeaker();
    }
    for (const note of document.querySelectorAll(".speaker-note")) note.hidden = canChooseSpeaker();
  }
}
