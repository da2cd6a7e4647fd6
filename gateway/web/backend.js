/**
 * The page's side of the demo backend: it stands for Nextcloud, which knows rooms, people and who is in a call.
 */

async function post(path, body) {
  const response = await fetch(path, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
  });
  if (!response.ok) throw new Error((await response.text()).trim() || `the demo backend said ${response.status}`);
  return response.json();
}

/**
 * Become a participant of a room.
 * @param {{name: string, room: string, person: string, previous: string}} who `person` is a secret that makes a second
 *   join the same user, `previous` the session that this one replaces
 * @returns {Promise<{session, roomid, userid, url, ticket, token, iceServers}>}
 */
export function join(who) {
  return post("demo/api/join", who);
}

/** Enter the call with these flags, or leave it with 0. */
export function call(session, flags) {
  return post("demo/api/call", { session, flags });
}
