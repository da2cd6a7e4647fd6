/**
 * The members of the room and of the call, from the room's events.
 *
 * Source: signaling API, "Room events" and "Participants list events"; reference 4.3 and 7.
 */

export const FLAG_IN_CALL = 1;
export const FLAG_AUDIO = 2;
export const FLAG_VIDEO = 4;

const GUEST = "Guest"; // without a name

export class Roster {
  #members = new Map(); // session id -> {sessionId, userId, name}
  #flags = new Map(); // session id -> inCall; an update may come before the join event of its session

  /** Apply an event; returns whether it is about the members of the room or call. */
  apply(event) {
    if (event.target === "room" && event.type === "join") {
      for (const entry of event.join ?? []) this.#join(entry);
    } else if (event.target === "room" && event.type === "leave") {
      for (const sessionId of event.leave ?? []) this.#leave(sessionId);
    } else if (event.target === "participants" && event.type === "update") {
      this.#update(event.update ?? {});
    } else {
      return false;
    }
    return true;
  }

  clear() {
    this.#members.clear();
    this.#flags.clear();
  }

  /**
   * Return the members of the room, sorted by name.
   * @returns {{sessionId: string, userId: string, name: string, flags: number}[]} flags: inCall (reference 7)
   */
  members() {
    return [...this.#members.values()]
      .map((member) => ({ ...member, flags: this.#flags.get(member.sessionId) ?? 0 }))
      .sort((one, other) => one.name.localeCompare(other.name) || one.sessionId.localeCompare(other.sessionId));
  }

  /** Return the members that are in the call, as members() does. */
  callMembers() {
    return this.members().filter((member) => member.flags & FLAG_IN_CALL);
  }

  /** Return the name of a member of the room. */
  nameOf(sessionId) {
    return this.#members.get(sessionId)?.name ?? GUEST;
  }

  /** Set the name of a member; an empty name changes nothing. */
  rename(sessionId, name) {
    const member = this.#members.get(sessionId);
    if (member && name) member.name = name;
  }

  #join(entry) {
    const name = entry.user?.displayname || entry.userid || GUEST;
    this.#members.set(entry.sessionid, { sessionId: entry.sessionid, userId: entry.userid ?? "", name });
  }

  #leave(sessionId) {
    this.#members.delete(sessionId);
    this.#flags.delete(sessionId);
  }

  #update(update) {
    if (update.all) {
      for (const sessionId of this.#members.keys()) this.#flags.set(sessionId, Number(update.incall));
      return;
    }
    for (const user of update.users ?? []) {
      const sessionId = user.sessionId ?? user.sessionid;
      if (sessionId && user.inCall !== undefined) this.#flags.set(sessionId, Number(user.inCall));
    }
  }
}
