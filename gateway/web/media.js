/**
 * The local tracks: camera and microphone, or a generated picture and silence in their place.
 */

import { openDevices } from "./devices.js";

const PICTURE_RATE = 12; // frames per second of the generated picture

const CAMERA_SIZES = { 360: { width: { ideal: 640 }, height: { ideal: 360 } }, 720: { width: { ideal: 1280 }, height: { ideal: 720 } } };

/** Return whether the browser gives devices to this page, as it does on https and localhost only. */
export function devicesReachable() {
  return Boolean(navigator.mediaDevices?.getUserMedia);
}

/** The local audio and video track; each can be switched on and off. A device can be lost at any time. */
export class LocalMedia {
  #name;
  #size;
  #wanted = "both";
  #microphoneWanted = true; // as the user switched it last, also while there is none
  #cameraWanted = false;
  #failures = { audio: "", video: "" }; // why a device is missing: "permission" | "insecure" | "missing" | "lost"
  #picture = null;

  constructor(name, size) {
    this.#name = name;
    this.#size = CAMERA_SIZES[size] ?? CAMERA_SIZES[720];
    this.audio = null;
    this.video = null;
    this.audioOn = false;
    this.realAudio = false;
    this.realVideo = false;
    this.onEnded = () => {}; // called with the kind of track when a device is gone, whose track is replaced already
  }

  /**
   * Open the wanted devices, as far as they exist.
   * @param {"both"|"audio"|"generated"|"listen"} wanted
   * @param {{audio: boolean, video: boolean}} on false for a device that is switched off at first; the camera stays closed
   */
  async open(wanted, on = { audio: true, video: true }) {
    this.#wanted = wanted;
    this.#microphoneWanted = on.audio;
    this.#cameraWanted = on.video && (wanted === "both" || wanted === "generated");
    await this.reopen();
  }

  /** Open the wanted devices that are missing; the tracks of the others stay, and their loss is noticed meanwhile. */
  async reopen() {
    if (this.#wanted === "listen") return;
    if (this.#wanted !== "generated") await this.#openMissing();
    this.#fillIn();
    this.audio ??= silence();
    this.audio.enabled = this.audioOn;
  }

  /** Return which devices the user has switched on, as the argument of open(). */
  get on() {
    return { audio: this.#microphoneWanted, video: this.#cameraWanted };
  }

  /** Unmute or mute the microphone; returns whether there is one. */
  setAudio(on) {
    this.#microphoneWanted = on;
    if (!this.realAudio) return false;
    this.audioOn = on;
    this.audio.enabled = on;
    return true;
  }

  /** Open a camera, or generate a picture in its place. */
  async startVideo() {
    this.#cameraWanted = true;
    if (this.#wanted !== "generated") await this.#openDevices("video");
    this.#fillIn();
  }

  /** Open the chosen microphone in place of the present one, which stays if that fails; returns whether it succeeded. */
  async switchMicrophone() {
    if (!(await this.#openDevices("audio"))) return true;
    if (this.realAudio) this.#failures.audio = "";
    return false;
  }

  /** Open the chosen camera in place of the present one, which is closed first: phones have one open at a time. */
  async switchCamera() {
    this.#stopPicture();
    await this.startVideo();
  }

  /** Stop the video track, and the camera. */
  stopVideo() {
    this.#cameraWanted = false;
    this.#failures.video = "";
    this.#stopPicture();
  }

  /** Return why devices are missing, as a key of sentences.devices; "" if none is. */
  get reason() {
    const { audio, video } = this.#failures;
    const both = [audio, video];
    for (const reason of ["insecure", "permission"]) if (both.includes(reason)) return reason;
    if (audio && video) return video === "lost" ? "allLost" : "devices";
    if (audio) return "microphone";
    return video === "lost" ? "cameraLost" : video && "camera";
  }

  close() {
    this.#stopPicture();
    this.audio?.stop();
    this.audio = null;
    this.audioOn = this.realAudio = false;
  }

  async #openMissing() {
    const kinds = [!this.realAudio && "audio", this.#cameraWanted && !this.realVideo && "video"].filter(Boolean);
    if (!kinds.length) return;
    const failure = await this.#openDevices(...kinds);
    if (failure !== "missing" || kinds.length === 1) return;
    // One of the two is missing, or both are: request each alone.
    await this.#openDevices("audio");
    if (this.#cameraWanted) await this.#openDevices("video");
  }

  /** Open the devices of these kinds and use their tracks; returns "", or the failure. */
  async #openDevices(...kinds) {
    let tracks = [];
    let failure = "";
    if (!devicesReachable()) {
      failure = "insecure";
    } else {
      const constraints = { audio: kinds.includes("audio") && {}, video: kinds.includes("video") && this.#size };
      try {
        tracks = (await openDevices(constraints)).getTracks();
      } catch (error) {
        failure = error.name === "NotAllowedError" ? "permission" : "missing";
      }
    }
    for (const kind of kinds) this.#failures[kind] = kind === "audio" || this.#cameraWanted ? failure : "";
    for (const track of tracks) this.#useTrack(track);
    return failure;
  }

  #useTrack(track) {
    track.addEventListener("ended", () => this.#lose(track));
    if (track.kind === "audio") {
      this.audio?.stop();
      this.audio = track;
      this.realAudio = true;
      this.audioOn = track.enabled = this.#microphoneWanted;
    } else if (this.#cameraWanted) {
      this.#stopPicture();
      track.contentHint = "motion";
      this.video = track;
      this.realVideo = true;
    } else {
      track.stop(); // the user has switched the camera off meanwhile
    }
    if (track.readyState === "ended") this.#lose(track); // before the listener was added
  }

  /** Put silence, or no picture, in place of the track of a device that is gone. */
  #lose(track) {
    if (track === this.audio) {
      this.audio = silence();
      this.audio.enabled = this.audioOn = this.realAudio = false;
      this.#failures.audio = "missing";
    } else if (track === this.video) {
      this.#stopPicture();
      this.#failures.video = "lost";
    } else {
      return; // another track has replaced it
    }
    this.onEnded(track.kind);
  }

  /** Generate a picture in place of a camera that is wanted and cannot be opened. */
  #fillIn() {
    if (this.video || !this.#cameraWanted || this.#failures.video === "lost") return;
    this.#picture = new GeneratedPicture(this.#name);
    this.video = this.#picture.track;
    this.realVideo = false;
  }

  #stopPicture() {
    this.#picture?.stop();
    this.#picture = null;
    this.video?.stop();
    this.video = null;
    this.realVideo = false;
  }
}

/** A slowly moving picture with the user's initial, in place of a camera. */
class GeneratedPicture {
  #canvas = document.createElement("canvas");
  #timer;
  #hue;
  #initial;

  constructor(name) {
    Object.assign(this.#canvas, { width: 640, height: 360 });
    this.#hue = hueOf(name);
    this.#initial = initialOf(name);
    this.#draw();
    this.#timer = setInterval(() => this.#draw(), 1000 / PICTURE_RATE);
    [this.track] = this.#canvas.captureStream(PICTURE_RATE).getVideoTracks();
  }

  stop() {
    clearInterval(this.#timer);
    this.track.stop();
  }

  #draw() {
    const context = this.#canvas.getContext("2d");
    const angle = (performance.now() / 4000) * 2 * Math.PI;
    const { width, height } = this.#canvas;
    const gradient = context.createLinearGradient(0, 0, width, height);
    gradient.addColorStop(0, `hsl(${this.#hue} 45% 34%)`);
    gradient.addColorStop(1, `hsl(${this.#hue + 40} 50% 22%)`);
    context.fillStyle = gradient;
    context.fillRect(0, 0, width, height);
    context.fillStyle = `hsl(${this.#hue + 20} 60% 60% / 25%)`;
    context.beginPath();
    context.arc(width / 2 + 150 * Math.cos(angle), height / 2 + 60 * Math.sin(angle), 90, 0, 2 * Math.PI);
    context.fill();
    context.fillStyle = "white";
    context.font = "600 130px system-ui, sans-serif";
    context.textAlign = "center";
    context.textBaseline = "middle";
    context.fillText(this.#initial, width / 2, height / 2 + 6);
  }
}

/** Detects speech on a microphone's track. */
export class SpeechDetector {
  #source;
  #node = null;
  #stopped = false;

  /** @param {(speaking: boolean) => void} onChange called on every change */
  constructor(track, onChange) {
    this.track = track;
    this.#source = audioContext().createMediaStreamSource(new MediaStream([track]));
    this.#start(onChange);
  }

  stop() {
    this.#stopped = true;
    this.#source.disconnect();
    this.#node?.disconnect();
    this.#node?.port.postMessage("end");
  }

  async #start(onChange) {
    const { context } = this.#source;
    speechLoaded ??= context.audioWorklet.addModule(new URL("speech.js", import.meta.url));
    await speechLoaded;
    if (this.#stopped) return;
    this.#node = new AudioWorkletNode(context, "speech", { channelCount: 1, channelCountMode: "explicit" });
    this.#node.port.onmessage = ({ data }) => !this.#stopped && onChange(data);
    this.#source.connect(this.#node).connect(context.destination); // silent; nodes without a destination are not processed
  }
}

/** Let the user choose a screen; returns its stream, `null` if the user cancels. Throws other errors of the browser. */
export async function openScreen() {
  try {
    const stream = await navigator.mediaDevices.getDisplayMedia({ video: { frameRate: { ideal: 15, max: 30 } }, audio: true });
    for (const track of stream.getVideoTracks()) track.contentHint = "detail";
    return stream;
  } catch (error) {
    if (error.name === "NotAllowedError" || error.name === "AbortError") return null;
    throw error;
  }
}

export function initialOf(name) {
  return [...name.trim()][0]?.toLocaleUpperCase() ?? "?";
}

/** Return the hue for a name, in degrees; the same one for the same name. */
export function hueOf(name) {
  return [...name].reduce((sum, letter) => (sum * 31 + letter.codePointAt(0)) % 360, 7);
}

let sharedContext = null;
let speechLoaded = null; // the promise that speech.js is loaded into it

export function audioContext() {
  sharedContext ??= new AudioContext();
  if (sharedContext.state === "suspended") sharedContext.resume();
  return sharedContext;
}

function silence() {
  return audioContext().createMediaStreamDestination().stream.getAudioTracks()[0];
}
