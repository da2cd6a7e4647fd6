/**
 * Requests to the demo backend, which takes Nextcloud's part: rooms, participants and call membership.
 */

async function post(path, body) {
  const response = await fetch(path, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
  });
  if (!response.ok) throw new Error((await response.text()).trim() || `the demo backend answered ${response.status}`);
  return response.json();
}

/**
 * Become a participant of a room.
 * @param {{name: string, room: string, person: string, previous: string}} participant `person` is a secret that makes a
 *   second join the same user, `previous` the session that this one replaces
 * @returns {Promise<{session, roomid, userid, url, ticket, token, iceServers}>}
 */
export function join(participant) {
  return post("demo/api/join", participant);
}

/** Enter the call with these flags, or leave it with 0. */
export function call(session, flags) {
  return post("demo/api/call", { session, flags });
}
