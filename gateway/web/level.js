/**
 * A meter of a microphone's level, with a hint in words.
 */

import { audioContext } from "./media.js";

const PERIOD_MS = 80; // between two readings
const FLOOR_DB = -60; // the level at which the meter is empty
const SOUND = 0.25; // share of the meter from which on a sound is somebody's, not the room's
const SILENT_MS = 4000; // after which the hint asks to speak

const WORDS = { sound: "The microphone hears you.", silent: "Nothing to hear yet: say something, or choose another microphone.", muted: "The microphone is muted." };

export class LevelMeter {
  #meter;
  #words;
  #source = null;
  #timer = 0;

  /** @param root contains an element of role meter and one for the words */
  constructor(root) {
    this.#meter = root.querySelector("[role=meter]");
    this.#words = root.querySelector(".level-words");
  }

  /** Show the level of a track, in place of the previous one. */
  start(track) {
    this.stop();
    const context = audioContext();
    const analyser = new AnalyserNode(context, { fftSize: 2048 });
    const samples = new Float32Array(analyser.fftSize);
    this.#source = context.createMediaStreamSource(new MediaStream([track]));
    this.#source.connect(analyser);
    const started = performance.now();
    let heard = -Infinity;
    this.#timer = setInterval(() => {
      analyser.getFloatTimeDomainData(samples);
      const level = meterLevel(samples);
      if (level >= SOUND) heard = performance.now();
      this.#show(level);
      const silence = performance.now() - Math.max(heard, started);
      if (!track.enabled) this.#say("muted");
      else if (silence >= SILENT_MS) this.#say("silent");
      else if (heard > 0) this.#say("sound");
    }, PERIOD_MS);
  }

  stop() {
    clearInterval(this.#timer);
    this.#source?.disconnect();
    this.#source = null;
    this.#show(0);
    this.#words.textContent = "";
  }

  #show(level) {
    this.#meter.style.setProperty("--level", level.toFixed(2));
    this.#meter.setAttribute("aria-valuenow", String(Math.round(level * 100)));
  }

  #say(key) {
    if (this.#words.textContent !== WORDS[key]) this.#words.textContent = WORDS[key];
  }
}

/** Return the level of samples between 0 and 1, linear in decibels. */
function meterLevel(samples) {
  const power = samples.reduce((sum, sample) => sum + sample * sample, 0) / samples.length;
  return Math.max(0, Math.min(1, 1 - (10 * Math.log10(power + 1e-12)) / FLOOR_DB));
}
