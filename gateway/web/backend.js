/**
 * Requests to the demo backend, which stands in for Nextcloud: rooms, participants and call membership.
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
 * Join a room as a participant.
 * @param {{name: string, room: string, person: string, previous: string}} participant `person` is a secret by
 *   which the backend recognises the user of a later join, `previous` the session that the new one replaces; in
 *   the answer `name` has a number if another participant has the same name
 * @returns {Promise<{name, session, roomid, userid, url, ticket, token, iceServers}>}
 */
export function join(participant) {
  return post("demo/api/join", participant);
}

/** Set the call flags of a session: enter the call, or leave it with 0. */
export function call(session, flags) {
  return post("demo/api/call", { session, flags });
}
