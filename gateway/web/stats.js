/**
 * The statistics on a tile, from two readings of getStats().
 */

const last = new WeakMap(); // RTCPeerConnection -> Map of report id -> {bytes, lost, packets, time}

/**
 * Read the current codecs, resolution, bitrate and loss of a connection.
 * @param {RTCPeerConnection} pc
 * @param {"inbound-rtp"|"outbound-rtp"} direction
 * @returns {Promise<{codec, width, height, kbits, loss}[]>} one per medium, video first; kbits and loss (percent) since
 *   the last reading, `null` at the first one
 */
export async function readStats(pc, direction) {
  const report = await pc.getStats();
  const before = last.get(pc) ?? new Map();
  const now = new Map();
  const lines = [];
  for (const entry of report.values()) {
    if (entry.type !== direction) continue;
    const count = counted(entry, report);
    now.set(entry.id, count);
    lines.push({
      kind: entry.kind,
      codec: codecName(report.get(entry.codecId)),
      width: entry.frameWidth ?? 0,
      height: entry.frameHeight ?? 0,
      ...compared(count, before.get(entry.id)),
    });
  }
  last.set(pc, now);
  return lines.sort((one, other) => (other.kind === "video") - (one.kind === "video"));
}

/** Format a reading for a tile, a line for each medium: codec, resolution, kbit/s, loss. */
export function describe(lines) {
  // A medium without bits is switched off.
  const shown = lines.filter((line) => line.codec && line.kbits);
  return shown.map(describeLine).join("\n");
}

function describeLine({ kind, codec, width, height, kbits, loss }) {
  const parts = [codec];
  if (kind === "video" && width) parts.push(`${width}×${height}`);
  parts.push(`${kbits} kbit/s`);
  if (loss !== null) parts.push(`${loss >= 0.05 ? loss.toFixed(1) : 0} % loss`);
  return parts.join(" · ");
}

function codecName(codec) {
  const name = codec?.mimeType?.split("/")[1] ?? "";
  return name === "opus" ? "Opus" : name; // the only name that browsers do not write in capitals
}

/** Return the counters of a stream; for a sent stream the loss comes from the receiver's reports. */
function counted(entry, report) {
  if (entry.type === "inbound-rtp") {
    const lost = Math.max(0, entry.packetsLost ?? 0);
    return { bytes: entry.bytesReceived, lost, packets: (entry.packetsReceived ?? 0) + lost, time: entry.timestamp };
  }
  const remote = report.get(entry.remoteId);
  return { bytes: entry.bytesSent, fraction: remote?.fractionLost, time: entry.timestamp };
}

function compared(count, before) {
  if (!before || count.time <= before.time) return { kbits: null, loss: null };
  const kbits = Math.round(((count.bytes - before.bytes) * 8) / (count.time - before.time));
  if (count.lost === undefined) return { kbits, loss: count.fraction === undefined ? null : count.fraction * 100 };
  const packets = count.packets - before.packets;
  return { kbits, loss: packets > 0 ? (100 * Math.max(0, count.lost - before.lost)) / packets : 0 };
}
