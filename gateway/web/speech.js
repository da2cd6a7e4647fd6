/**
 * Detects speech for a SpeechDetector. Runs on the audio thread and gets every sample, also while the page is in the
 * background, where browsers run timers at most once a second.
 */

const SPEECH_LEVEL = 0.02; // RMS, where 1 is full scale; room noise is below
const HOLD = 0.6; // seconds without a loud window after which speech has ended; pauses between words are shorter
const WINDOW = 1024; // samples for one level

class SpeechProcessor extends AudioWorkletProcessor {
  #ended = false;
  #sum = 0;
  #count = 0;
  #lastSpeech = -Infinity; // time of the last loud window
  #speaking = false;

  constructor() {
    super();
    this.port.onmessage = () => (this.#ended = true);
  }

  process([[samples = []]]) {
    for (const sample of samples) this.#sum += sample * sample;
    this.#count += samples.length;
    if (this.#count >= WINDOW) {
      if (Math.sqrt(this.#sum / this.#count) > SPEECH_LEVEL) this.#lastSpeech = currentTime;
      this.#sum = this.#count = 0;
    }
    const speaking = currentTime - this.#lastSpeech < HOLD;
    if (speaking !== this.#speaking) this.port.postMessage((this.#speaking = speaking));
    return !this.#ended;
  }
}

registerProcessor("speech", SpeechProcessor);
