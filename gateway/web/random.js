/**
 * Random ids. `crypto.randomUUID` is missing on pages that are neither on https nor on localhost.
 */

/** Return 128 random bits as hexadecimal digits. */
export function randomId() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
