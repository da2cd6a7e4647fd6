/**
 * The statistics on a tile, from two readings of getStats().
 */

const last = new WeakMap(); // RTCPeerConnection -> Map of the id of an RTP stream's statistics -> its counters

/**
 * Read the codec, resolution, bitrate and loss of each RTP stream that a connection sends or receives.
 * @param {RTCPeerConnection} pc
 * @param {"inbound-rtp"|"outbound-rtp"} direction
 * @returns {Promise<{kind, codec, width, height, bitrate, loss}[]>} one per RTP stream, video first;
 *   bitrate (kbit/s) and loss (percent) since the last reading, `null` at the first one; the loss of a sent stream is that
 *   of the receiver's latest report, `null` without one
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
    streams.push({
      kind: entry.kind,
      codec: codecName(report.get(entry.codecId)),
      width: entry.frameWidth ?? 0,
      height: entry.frameHeight ?? 0,
      ...computeRates(counters, before.get(entry.id)),
    });
  }
  last.set(pc, now);
  return streams.sort((one, other) => (other.kind === "video") - (one.kind === "video"));
}

/** Format a reading for a tile, a line for each RTP stream: codec, resolution, kbit/s, loss. */
export function describe(streams) {
  // Not shown: a stream without packets, such as a camera that is off, and the first reading.
  const shown = streams.filter((stream) => stream.codec && stream.bitrate);
  return shown.map(describeStream).join("\n");
}

function describeStream({ kind, codec, width, height, bitrate, loss }) {
  const parts = [codec];
  if (kind === "video" && width) parts.push(`${width}×${height}`);
  parts.push(`${bitrate} kbit/s`);
  if (loss !== null) parts.push(`${loss >= 0.05 ? loss.toFixed(1) : 0} % loss`);
  return parts.join(" · ");
}

function codecName(codec) {
  const name = codec?.mimeType?.split("/")[1] ?? "";
  return name === "opus" ? "Opus" : name; // the only name that browsers do not write in capitals
}

/** Return the counters of an RTP stream; of a sent one `fractionLost`, which the receiver reports, for the loss. */
function readCounters(entry, report) {
  if (entry.type === "inbound-rtp") {
    const lost = Math.max(0, entry.packetsLost ?? 0);
    return { bytes: entry.bytesReceived, lost, packets: (entry.packetsReceived ?? 0) + lost, time: entry.timestamp };
  }
  const remote = report.get(entry.remoteId);
  return { bytes: entry.bytesSent, fractionLost: remote?.fractionLost, time: entry.timestamp };
}

/** Return bitrate (kbit/s) and loss (percent) between two readings of the counters. */
function computeRates(counters, before) {
  if (!before || counters.time <= before.time) return { bitrate: null, loss: null };
  const bitrate = Math.round(((counters.bytes - before.bytes) * 8) / (counters.time - before.time));
  if (counters.lost === undefined) {
    return { bitrate, loss: counters.fractionLost === undefined ? null : counters.fractionLost * 100 };
  }
  const packets = counters.packets - before.packets;
  return { bitrate, loss: packets > 0 ? (100 * Math.max(0, counters.lost - before.lost)) / packets : 0 };
}
