/**
 * The check of camera and microphone before the call: picture, level, and the lists of devices with their names.
 */

import { openDevices } from "./devices.js";
import { LevelMeter } from "./level.js";
import * as sentences from "./sentences.js";

const $ = (id) => document.getElementById(id);

export class Preview {
  #root = $("preview");
  #meter = new LevelMeter(this.#root);
  #lists;
  #tracks = [];
  #opened = 0; // counts requests for devices; only the latest is shown

  /** @param {DeviceLists} lists */
  constructor(lists) {
    this.#lists = lists;
    this.#root.addEventListener("toggle", () => (this.#root.open ? this.reopen() : this.stop()));
  }

  /** Open the chosen devices, if the preview is shown. */
  async reopen() {
    if (!this.#root.open) return;
    this.stop();
    const opened = (this.#opened += 1);
    const { tracks, failure } = await openAvailable();
    if (opened !== this.#opened) {
      for (const track of tracks) track.stop();
      return;
    }
    this.#tracks = tracks;
    this.#show(failure);
    await this.#lists.refresh();
  }

  /** Close the devices. */
  stop() {
    this.#opened += 1;
    for (const track of this.#tracks) track.stop();
    this.#tracks = [];
    this.#meter.stop();
    $("preview-picture").srcObject = null;
    $("preview-picture").hidden = true;
  }

  /** Close devices and preview, because the call opens them. */
  close() {
    this.stop();
    this.#root.open = false;
  }

  #show(failure) {
    const [audio, video] = ["audio", "video"].map((kind) => this.#tracks.find((track) => track.kind === kind));
    $("preview-picture").srcObject = video ? new MediaStream([video]) : null;
    $("preview-picture").hidden = !video;
    if (audio) this.#meter.start(audio);
    $("preview-words").textContent = failure && sentences.preview[failure];
  }
}

/** Open camera and microphone, as far as there are any; `failure` is "", or a key of sentences.preview. */
async function openAvailable() {
  if (!navigator.mediaDevices?.getUserMedia) return { tracks: [], failure: "insecure" };
  const [audio, video] = [{}, { width: { ideal: 640 } }];
  const tracks = [];
  let failure = "";
  for (const constraints of [{ audio, video }, { audio }, { video }]) {
    try {
      tracks.push(...(await openDevices(constraints)).getTracks());
      if (constraints.audio && constraints.video) break;
    } catch (error) {
      if (error.name === "NotAllowedError") return { tracks, failure: "permission" };
      if (!(constraints.audio && constraints.video)) failure = constraints.audio ? "microphone" : failure ? "devices" : "camera";
    }
  }
  return { tracks, failure };
}
