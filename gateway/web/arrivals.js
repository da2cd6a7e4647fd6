/**
 * Comings and goings in words, those of a short time in one sentence.
 */

const PAUSE_MS = 1500; // a page that is loaded again is back within it
const NAMES = 3; // in a sentence; more people are counted

export class Arrivals {
  #say;
  #known = null; // user or session id -> name, as last told; null = nothing told yet
  #present = new Map();
  #timer = 0;

  /** @param {(sentence: string) => void} say */
  constructor(say) {
    this.#say = say;
  }

  /** @param {{sessionId: string, userId: string, name: string}[]} members the others that are in the call */
  update(members) {
    this.#present = new Map(members.map(({ sessionId, userId, name }) => [userId || sessionId, name]));
    const [known, present] = [[...(this.#known ?? new Map()).keys()], [...this.#present.keys()]];
    const same = known.length === present.length && present.every((id) => this.#known.has(id));
    if (!same) this.#timer ||= setTimeout(() => this.#tell(), PAUSE_MS);
  }

  clear() {
    clearTimeout(this.#timer);
    this.#timer = 0;
    this.#known = null;
    this.#present = new Map();
  }

  #tell() {
    this.#timer = 0;
    const known = this.#known ?? new Map();
    const came = namesOnlyIn(this.#present, known);
    const gone = namesOnlyIn(known, this.#present);
    const verb = this.#known ? "joined the call" : came.length === 1 ? "is in the call" : "are in the call";
    this.#known = new Map(this.#present);
    if (came.length) this.#say(`${listed(came)} ${verb}.`);
    if (gone.length) this.#say(`${listed(gone)} left the call.`);
  }
}

function namesOnlyIn(one, other) {
  return [...one].filter(([id]) => !other.has(id)).map(([, name]) => name);
}

/** Join names as in "Ada, Bob and Cleo"; of many the first ones and a number. */
export function listed(names) {
  const shown = names.length > NAMES + 1 ? [...names.slice(0, NAMES), `${names.length - NAMES} others`] : names;
  return shown.length < 2 ? shown.join("") : `${shown.slice(0, -1).join(", ")} and ${shown.at(-1)}`;
}
