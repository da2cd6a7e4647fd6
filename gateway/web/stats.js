/**
 * Readings of a connection's statistics: each is the difference of two calls of getStats().
 *
 * Source: W3C, Identifiers for WebRTC's Statistics API.
 */

const last = new WeakMap(); // RTCPeerConnection -> Map of the id of an RTP stream's statistics -> its counters

/**
 * Read the RTP streams that a connection sends or receives, and its path.
 * @param {RTCPeerConnection} pc
 * @param {"inbound-rtp"|"outbound-rtp"} direction
 * @returns {Promise<{streams: object[], roundTrip: ?number, available: ?number}>} `roundTrip` in ms and `available` (bitrate of
 *   the upload, kbit/s) as the browser estimates them, null if unknown; `streams` as readStream returns them, video first
 */
export async function readStats(pc, direction) {
  const report = await pc.getStats();
  const before = last.get(pc) ?? new Map();
  const now = new Map();
  const streams = [];
  for (const entry of report.values()) {
    if (entry.type !== direction) continue;
    const counters = readCounters(entry, report);
    now.set(entry.id, counters);
    streams.push(readStream(entry, report, counters, before.get(entry.id)));
  }
  last.set(pc, now);
  streams.sort((one, other) => (other.kind === "video") - (one.kind === "video"));
  const pair = [...report.values()].find(({ type, state, nominated }) => type === "candidate-pair" && nominated && state === "succeeded");
  const { currentRoundTripTime: seconds, availableOutgoingBitrate: bits } = pair ?? {};
  return { streams, roundTrip: seconds === undefined ? null : seconds * 1000, available: bits === undefined ? null : bits / 1000 };
}

/** Format a stream in a line: codec, resolution, kbit/s, loss. */
export function describeStream({ kind, codec, width, height, bitrate, loss }) {
  const parts = [codec];
  if (kind === "video" && width) parts.push(`${width}×${height}`);
  parts.push(`${bitrate} kbit/s`);
  if (loss !== null) parts.push(`${loss >= 0.05 ? loss.toFixed(1) : 0} % loss`);
  return parts.join(" · ");
}

/** Return the streams that send or receive: without packets is a camera that is off, and the first reading. */
export function flowing({ streams }) {
  return streams.filter((stream) => stream.codec && stream.bitrate);
}

/**
 * Return a reading of one RTP stream.
 * @returns {{kind, codec, width, height, bitrate, loss, frameRate, concealed, limitedBy}} bitrate (kbit/s), loss (percent),
 *   frameRate (per second) and concealed (percent of the sound that was made up for lost packets) since the last reading, `null`
 *   at the first one; the loss of a sent stream is that of the receiver's latest report, `null` without one; `limitedBy` is
 *   "bandwidth" or "cpu" if it limits a sent video, or else ""
 */
function readStream(entry, report, counters, before) {
  const { kind, frameWidth: width = 0, frameHeight: height = 0, qualityLimitationReason: reason } = entry;
  const limitedBy = reason === "bandwidth" || reason === "cpu" ? reason : "";
  return { kind, codec: codecName(report.get(entry.codecId)), width, height, limitedBy, ...computeRates(counters, before) };
}

function codecName(codec) {
  const name = codec?.mimeType?.split("/")[1] ?? "";
  return name === "opus" ? "Opus" : name; // the only name that browsers do not write in capitals
}

/** Return the counters of an RTP stream; of a sent one `fractionLost`, which the receiver reports, for the loss. */
function readCounters(entry, report) {
  const time = entry.timestamp;
  if (entry.type === "inbound-rtp") {
    const lost = Math.max(0, entry.packetsLost ?? 0);
    const concealed = (entry.concealedSamples ?? 0) - (entry.silentConcealedSamples ?? 0);
    const samples = entry.totalSamplesReceived ?? 0;
    return { time, bytes: entry.bytesReceived, frames: entry.framesDecoded ?? 0, lost, packets: (entry.packetsReceived ?? 0) + lost, concealed, samples };
  }
  const remote = report.get(entry.remoteId);
  return { time, bytes: entry.bytesSent, frames: entry.framesEncoded ?? 0, fractionLost: remote?.fractionLost };
}

function computeRates(counters, before) {
  if (!before || counters.time <= before.time) return { bitrate: null, loss: null, frameRate: null, concealed: null };
  const rate = (name) => (counters[name] - before[name]) / (counters.time - before.time);
  const shared = { bitrate: Math.round(rate("bytes") * 8), frameRate: rate("frames") * 1000 };
  if (counters.lost === undefined) {
    return { ...shared, loss: counters.fractionLost === undefined ? null : counters.fractionLost * 100, concealed: 0 };
  }
  const share = (part, whole) => (counters[whole] > before[whole] ? (100 * Math.max(0, counters[part] - before[part])) / (counters[whole] - before[whole]) : 0);
  return { ...shared, loss: share("lost", "packets"), concealed: share("concealed", "samples") };
}
