/**
 * The preferences that go into an offer: codecs that this browser can send, and a bitrate.
 *
 * Source: signaling API, "Start publishing": audiocodec, videocodec, bitrate.
 */

const NAMES = { vp8: "VP8", vp9: "VP9", h264: "H.264", av1: "AV1", h265: "H.265", opus: "Opus", g722: "G.722", pcmu: "PCMU", pcma: "PCMA" };
const VIDEO = ["vp8", "vp9", "h264", "av1", "h265"];
const AUDIO = ["opus", "g722", "pcmu", "pcma"];
const BITRATES = [2_000_000, 1_000_000, 500_000, 200_000]; // bit/s

/** Fill each select of the page that has data-choice, and keep selects of the same choice equal. */
export function prepareChoices() {
  fill("videocodec", "Automatic", sendable("video", VIDEO));
  fill("audiocodec", "Automatic", sendable("audio", AUDIO));
  fill("bitrate", "As the server allows", BITRATES.map((bits) => [bits, `${(bits / 1000).toLocaleString("en")} kbit/s`]));
  for (const select of document.querySelectorAll("select[data-choice]")) {
    select.addEventListener("change", () => choose(select.dataset.choice, select.value));
  }
}

/** @returns {{videocodec?: string, audiocodec?: string, bitrate?: number}} the members to send; none for no choice */
export function preferences() {
  const chosen = {};
  for (const choice of ["videocodec", "audiocodec"]) if (value(choice)) chosen[choice] = value(choice);
  if (Number(value("bitrate"))) chosen.bitrate = Number(value("bitrate"));
  return chosen;
}

/** Return the preferences for the screen: the codec, but not the bitrate, which is for the camera. */
export function screenPreferences() {
  const { videocodec } = preferences();
  return videocodec ? { videocodec } : {};
}

function choose(choice, chosen) {
  for (const select of selects(choice)) select.value = chosen;
}

function value(choice) {
  return selects(choice)[0].value;
}

function selects(choice) {
  return document.querySelectorAll(`select[data-choice="${choice}"]`);
}

function sendable(kind, names) {
  const known = new Set(
    (globalThis.RTCRtpSender?.getCapabilities?.(kind)?.codecs ?? []).map(({ mimeType }) => mimeType.split("/")[1].toLowerCase()),
  );
  return names.filter((name) => known.has(name)).map((name) => [name, NAMES[name]]);
}

function fill(choice, automatic, choices) {
  for (const select of selects(choice)) {
    select.replaceChildren(...[["", automatic], ...choices].map(([chosen, label]) => new Option(label, chosen)));
  }
}
