/**
 * The local tracks: camera and microphone, or a generated picture and silence in their place.
 */

const PICTURE_RATE = 12; // frames per second of the generated picture

const SIZES = { 360: { width: { ideal: 640 }, height: { ideal: 360 } }, 720: { width: { ideal: 1280 }, height: { ideal: 720 } } };

/** Return whether the browser gives devices to this page: only on https and on localhost. */
export function devicesReachable() {
  return Boolean(navigator.mediaDevices?.getUserMedia);
}

/** The local audio and video track, switched on and off. */
export class LocalMedia {
  #name;
  #size;
  #wanted = "both";
  #picture = null;

  constructor(name, size) {
    this.#name = name;
    this.#size = SIZES[size] ?? SIZES[720];
    this.audio = null;
    this.video = null;
    this.audioOn = false;
    this.realAudio = false;
    this.realVideo = false;
    this.reasons = []; // why something is missing: "permission" | "insecure" | "camera" | "microphone" | "devices"
    this.onEnded = () => {}; // called with the track's kind when a device is gone
  }

  /**
   * Open the wanted devices, as far as they exist.
   * @param {"both"|"audio"|"generated"|"listen"} wanted
   */
  async open(wanted) {
    this.reasons = [];
    this.#wanted = wanted;
    if (wanted === "listen") return;
    if (wanted !== "generated") await this.#devices(wanted === "both");
    if (!this.video && wanted !== "audio") this.#generatePicture();
    if (!this.audio) this.audio = silence();
    this.audioOn = this.realAudio;
    this.audio.enabled = this.audioOn;
  }

  /** Mute or unmute; returns whether there is a microphone. */
  setAudio(on) {
    if (!this.realAudio) return false;
    this.audioOn = on;
    this.audio.enabled = on;
    return true;
  }

  /** Switch the video track off (and the camera's light) or on; returns the track to send. */
  async setVideo(on) {
    if (!on) {
      this.#stopPicture();
      return null;
    }
    const error = this.#wanted === "generated" ? "" : await this.#ask({ video: this.#size });
    if (this.#wanted === "generated") {
      this.#generatePicture();
    } else if (error) {
      this.reasons = [error === "missing" ? "camera" : error];
      this.#generatePicture();
    } else {
      this.reasons = this.reasons.filter((reason) => reason === "microphone");
    }
    return this.video;
  }

  close() {
    this.#stopPicture();
    this.audio?.stop();
    this.audio = null;
    this.audioOn = false;
  }

  async #devices(withVideo) {
    const both = await this.#ask({ audio: true, video: withVideo && this.#size });
    if (!both) return;
    if (both === "insecure" || both === "permission" || !withVideo) {
      this.reasons = [both === "missing" ? "microphone" : both];
      return;
    }
    // One of the two is missing; ask for each to find out which.
    if (await this.#ask({ audio: true })) this.reasons.push("microphone");
    if (await this.#ask({ video: this.#size })) this.reasons.push("camera");
    if (this.reasons.length === 2) this.reasons = ["devices"];
  }

  /** Request devices from the browser; returns "", or the failure: "permission", "missing", "insecure". */
  async #ask(constraints) {
    if (!devicesReachable()) return "insecure";
    try {
      const stream = await navigator.mediaDevices.getUserMedia(constraints);
      for (const track of stream.getTracks()) this.#use(track);
      return "";
    } catch (error) {
      return error.name === "NotAllowedError" ? "permission" : "missing";
    }
  }

  #use(track) {
    track.addEventListener("ended", () => this.onEnded(track.kind));
    if (track.kind === "audio") {
      this.audio?.stop();
      this.audio = track;
      this.realAudio = true;
    } else {
      this.#stopPicture();
      track.contentHint = "motion";
      this.video = track;
      this.realVideo = true;
    }
  }

  #generatePicture() {
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
    const paint = this.#canvas.getContext("2d");
    const turn = (performance.now() / 4000) * 2 * Math.PI;
    const { width, height } = this.#canvas;
    const ground = paint.createLinearGradient(0, 0, width, height);
    ground.addColorStop(0, `hsl(${this.#hue} 45% 34%)`);
    ground.addColorStop(1, `hsl(${this.#hue + 40} 50% 22%)`);
    paint.fillStyle = ground;
    paint.fillRect(0, 0, width, height);
    paint.fillStyle = `hsl(${this.#hue + 20} 60% 60% / 25%)`;
    paint.beginPath();
    paint.arc(width / 2 + 150 * Math.cos(turn), height / 2 + 60 * Math.sin(turn), 90, 0, 2 * Math.PI);
    paint.fill();
    paint.fillStyle = "white";
    paint.font = "600 130px system-ui, sans-serif";
    paint.textAlign = "center";
    paint.textBaseline = "middle";
    paint.fillText(this.#initial, width / 2, height / 2 + 6);
  }
}

/** Detects speech on a microphone's track. */
export class SpeechDetector {
  #source;
  #node = null;
  #stopped = false;

  /** @param {(speaking: boolean) => void} onChange called on every change */
  constructor(track, onChange) {
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

/** Request a screen; `null` if the user cancels. Throws any other error of the browser. */
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

/** Return a constant hue for a name, in degrees. */
export function hueOf(name) {
  return [...name].reduce((sum, letter) => (sum * 31 + letter.codePointAt(0)) % 360, 7);
}

let sharedContext = null;
let speechLoaded = null; // the promise of its speech.js

function audioContext() {
  sharedContext ??= new AudioContext();
  if (sharedContext.state === "suspended") sharedContext.resume();
  return sharedContext;
}

function silence() {
  return audioContext().createMediaStreamDestination().stream.getAudioTracks()[0];
}
