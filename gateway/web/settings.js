/**
 * The preferences that go into an offer: codecs that this browser can send, and a bitrate.
 *
 * Source: signaling API, "Start publishing": audiocodec, videocodec, bitrate.
 */

const CODEC_NAMES = { vp8: "VP8", vp9: "VP9", h264: "H.264", av1: "AV1", h265: "H.265", opus: "Opus", g722: "G.722", pcmu: "PCMU", pcma: "PCMA" };
const VIDEO_CODECS = ["vp8", "vp9", "h264", "av1", "h265"];
const AUDIO_CODECS = ["opus", "g722", "pcmu", "pcma"];
const BITRATES = [2_000_000, 1_000_000, 500_000, 200_000]; // bit/s

/** Fill each select of the page that has data-choice, and keep selects of the same choice equal. */
export function prepareChoices() {
  fillSelects("videocodec", "Automatic", sendableCodecs("video", VIDEO_CODECS));
  fillSelects("audiocodec", "Automatic", sendableCodecs("audio", AUDIO_CODECS));
  fillSelects("bitrate", "As the server allows", BITRATES.map((bits) => [bits, `${(bits / 1000).toLocaleString("en")} kbit/s`]));
  for (const select of document.querySelectorAll("select[data-choice]")) {
    select.addEventListener("change", () => setChoice(select.dataset.choice, select.value));
  }
}

/**
 * Return the chosen preferences; one that was left to the browser or server is missing.
 * @returns {{videocodec?: string, audiocodec?: string, bitrate?: number}} bitrate in bit/s
 */
export function preferences() {
  const chosen = {};
  for (const choice of ["videocodec", "audiocodec"]) if (chosenValue(choice)) chosen[choice] = chosenValue(choice);
  if (Number(chosenValue("bitrate"))) chosen.bitrate = Number(chosenValue("bitrate"));
  return chosen;
}

/** Return the preferences for the screen: the codec, but not the bitrate, which is for the camera. */
export function screenPreferences() {
  const { videocodec } = preferences();
  return videocodec ? { videocodec } : {};
}

function setChoice(choice, chosen) {
  for (const select of selectsOf(choice)) select.value = chosen;
}

function chosenValue(choice) {
  return selectsOf(choice)[0].value;
}

function selectsOf(choice) {
  return document.querySelectorAll(`select[data-choice="${choice}"]`);
}

function sendableCodecs(mediaKind, names) {
  const known = new Set(
    (globalThis.RTCRtpSender?.getCapabilities?.(mediaKind)?.codecs ?? []).map(({ mimeType }) => mimeType.split("/")[1].toLowerCase()),
  );
  return names.filter((name) => known.has(name)).map((name) => [name, CODEC_NAMES[name]]);
}

function fillSelects(choice, automatic, choices) {
  for (const select of selectsOf(choice)) {
    select.replaceChildren(...[["", automatic], ...choices].map(([chosen, label]) => new Option(label, chosen)));
  }
}
