/**
 * The local tracks: camera and microphone, or a generated picture and silence in their place.
 */

const PICTURE_RATE = 12; // frames per second of the generated picture

const CAMERA_SIZES = { 360: { width: { ideal: 640 }, height: { ideal: 360 } }, 720: { width: { ideal: 1280 }, height: { ideal: 720 } } };

/** Return whether the browser gives devices to this page, as it does on https and localhost only. */
export function devicesReachable() {
  return Boolean(navigator.mediaDevices?.getUserMedia);
}

/** The local audio and video track; each can be switched on and off. */
export class LocalMedia {
  #name;
  #size;
  #wanted = "both";
  #picture = null;

  constructor(name, size) {
    this.#name = name;
    this.#size = CAMERA_SIZES[size] ?? CAMERA_SIZES[720];
    this.audio = null;
    this.video = null;
    this.audioOn = false;
    this.realAudio = false;
    this.realVideo = false;
    this.reasons = []; // why devices are missing: "permission" | "insecure" | "camera" | "microphone" | "devices"
    this.onEnded = () => {}; // called with the kind of track when a device is gone, whose track is replaced already
  }

  /**
   * Open the wanted devices, as far as they exist.
   * @param {"both"|"audio"|"generated"|"listen"} wanted
   */
  async open(wanted) {
    this.reasons = [];
    this.#wanted = wanted;
    if (wanted === "listen") return;
    if (wanted !== "generated") await this.#openWanted(wanted === "both");
    if (!this.video && wanted !== "audio") this.#generatePicture();
    if (!this.audio) this.audio = silence();
    this.audioOn = this.realAudio;
    this.audio.enabled = this.audioOn;
  }

  /** Unmute or mute the microphone; returns whether there is one. */
  setAudio(on) {
    if (!this.realAudio) return false;
    this.audioOn = on;
    this.audio.enabled = on;
    return true;
  }

  /** Stop the video track (and the camera) or open another one; returns the track to send, or null. */
  async setVideo(on) {
    if (!on) {
      this.#stopPicture();
      return null;
    }
    const failure = this.#wanted === "generated" ? "" : await this.#openDevices({ video: this.#size });
    if (this.#wanted === "generated") {
      this.#generatePicture();
    } else if (failure) {
      this.reasons = [failure === "missing" ? "camera" : failure];
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
    this.audioOn = this.realAudio = false;
  }

  async #openWanted(withVideo) {
    const failure = await this.#openDevices({ audio: true, video: withVideo && this.#size });
    if (!failure) return;
    if (failure === "insecure" || failure === "permission" || !withVideo) {
      this.reasons = [failure === "missing" ? "microphone" : failure];
      return;
    }
    // One of the two is missing, or both are: request each alone.
    if (await this.#openDevices({ audio: true })) this.reasons.push("microphone");
    if (await this.#openDevices({ video: this.#size })) this.reasons.push("camera");
    if (this.reasons.length === 2) this.reasons = ["devices"];
  }

  /** Open devices and use their tracks; returns "", or the failure: "permission", "missing", "insecure". */
  async #openDevices(constraints) {
    if (!devicesReachable()) return "insecure";
    try {
      const stream = await navigator.mediaDevices.getUserMedia(constraints);
      for (const track of stream.getTracks()) this.#useTrack(track);
      return "";
    } catch (error) {
      return error.name === "NotAllowedError" ? "permission" : "missing";
    }
  }

  #useTrack(track) {
    track.addEventListener("ended", () => this.#lose(track));
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

  /** Put silence, or no picture, in place of the track of a device that is gone. */
  #lose(track) {
    if (track === this.audio) {
      this.audio = silence();
      this.audio.enabled = this.audioOn = this.realAudio = false;
      this.reasons = [...new Set(["microphone", ...this.reasons])];
    } else if (track === this.video) {
      this.#stopPicture();
    } else {
      return; // another track has replaced it
    }
    this.onEnded(track.kind);
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

function audioContext() {
  sharedContext ??= new AudioContext();
  if (sharedContext.state === "suspended") sharedContext.resume();
  return sharedContext;
}

function silence() {
  return audioContext().createMediaStreamDestination().stream.getAudioTracks()[0];
}
