/**
 * The quality of a stream in a word, with the reasons in sentences.
 */

import { flowing } from "./stats.js";

const LEVELS = ["good", "fair", "poor"];

// From the first number on the quality is fair, from the second on poor. A round trip to the server of 400 ms is one way from
// person to person if the other's is as long: the limit of ITU-T G.114 for talking to each other.
const LIMITS = {
  loss: [2, 6], // percent
  concealed: [5, 20], // percent
  roundTrip: [400, 800], // ms
};
const SLOW_FRAMES = [10, 4]; // per second, of a camera
const SMALL_HEIGHT = [180, 100]; // pixels, of a camera
const LOW_LIMIT = [300, 100]; // kbit/s of the server for a camera
const NEAR_LIMIT = 0.9; // share of the limit from which on the limit is what keeps the bitrate low

/**
 * Judge a received stream.
 * @param reading as readStats returns it
 * @param {{screen: boolean, camera: boolean}} expected a screen has few frames while nothing moves; whether a picture should come
 * @returns {{level: ""|"good"|"fair"|"poor", reasons: string[]}} "" = not known yet
 */
export function judgeReceived(reading, { screen, camera }) {
  const judgement = new Judgement();
  const video = reading.streams.find(({ kind }) => kind === "video");
  for (const { kind, loss, concealed } of flowing(reading)) {
    judgement.above(loss, LIMITS.loss, `${rounded(loss)} % of the packets of the ${nameOf(kind)} are lost on the way to you.`);
    if (kind === "audio") judgement.above(concealed, LIMITS.concealed, "The sound has gaps.");
  }
  judgement.above(reading.roundTrip, LIMITS.roundTrip, `Packets need ${rounded(reading.roundTrip)} ms to the server and back.`);
  if (camera && video?.bitrate === 0) judgement.add("poor", "No picture arrives.");
  else if (camera && !screen && video?.bitrate) {
    judgement.below(video.frameRate, SLOW_FRAMES, `Only ${rounded(video.frameRate)} pictures a second arrive.`);
    judgement.below(video.height, SMALL_HEIGHT, "The picture is sent small: the sender's upload is slow, or a limit of the server is low.");
  }
  return judgement.result(reading);
}

/**
 * Judge a sent stream.
 * @param reading as readStats returns it
 * @param {{screen: boolean, camera: boolean, limit: ?number}} sent `limit` is that of the server for its video, in kbit/s
 */
export function judgeSent(reading, { screen, camera, limit }) {
  const judgement = new Judgement();
  const video = reading.streams.find(({ kind }) => kind === "video");
  for (const { kind, loss } of flowing(reading)) {
    judgement.above(loss, LIMITS.loss, `${rounded(loss)} % of the packets of your ${nameOf(kind)} are lost on the way to the server.`);
  }
  judgement.above(reading.roundTrip, LIMITS.roundTrip, `Packets need ${rounded(reading.roundTrip)} ms to the server and back.`);
  if (camera && video?.bitrate) {
    const policy = limit !== null && !screen && video.bitrate >= NEAR_LIMIT * limit;
    if (policy) judgement.below(limit, LOW_LIMIT, `The server allows ${rounded(limit)} kbit/s for your picture.`);
    if (video.limitedBy === "cpu") judgement.add("fair", "This device is too busy to send a better picture.");
    else if (video.limitedBy === "bandwidth" && slowUpload(reading, limit)) judgement.add("fair", "Your upload is too slow for a better picture.");
    if (!screen) judgement.below(video.frameRate, SLOW_FRAMES, `Only ${rounded(video.frameRate)} pictures a second are sent.`);
  }
  return judgement.result(reading);
}

/** Return the better of two successive judgements, so that one lost packet more or less is not shown. */
export function steadied(before, now) {
  if (!before?.level || !now.level) return now;
  return LEVELS.indexOf(before.level) < LEVELS.indexOf(now.level) ? before : now;
}

/** Return the limit in kbit/s that an answer of the server sets to the sender's video; null without one. */
export function videoLimit(sdp) {
  const section = (sdp ?? "").split(/^m=/m).find((one) => one.startsWith("video"));
  const bits = section?.match(/^b=TIAS:(\d+)/m)?.[1];
  const kilobits = section?.match(/^b=AS:(\d+)/m)?.[1];
  if (bits) return Number(bits) / 1000;
  return kilobits ? Number(kilobits) : null;
}

/** Collects the reasons against good quality. */
class Judgement {
  #level = "good";
  #reasons = [];

  add(level, reason) {
    if (LEVELS.indexOf(level) > LEVELS.indexOf(this.#level)) this.#level = level;
    this.#reasons.push(reason);
  }

  above(amount, [fair, poor], reason) {
    if (amount !== null && amount >= fair) this.add(amount >= poor ? "poor" : "fair", reason);
  }

  below(amount, [fair, poor], reason) {
    if (amount !== null && amount < fair) this.add(amount < poor ? "poor" : "fair", reason);
  }

  /** Return the judgement; without two readings of any stream there is none. */
  result({ streams }) {
    if (!streams.some(({ bitrate }) => bitrate !== null)) return { level: "", reasons: [] };
    return { level: this.#level, reasons: this.#reasons };
  }
}

/** Return whether the upload, rather than the server's limit, keeps the bitrate low. */
function slowUpload({ available }, limit) {
  return limit === null || (available !== null && available < limit);
}

function nameOf(kind) {
  return kind === "video" ? "picture" : "sound";
}

function rounded(amount) {
  return amount === null ? "" : Math.round(amount);
}
