/**
 * Requests to the gateway below admin/api/.
 *
 * Source: docs/operations.md, "The admin page". The cookie of the log-in goes with each; the CSRF token with those that
 * change something.
 */

/** The browser is not logged in. */
export class UnauthenticatedError extends Error {}

export class Requests {
  #csrfToken = "";

  /** Log in; returns the answer, {csrf_token, doctor}. */
  async logIn(secret) {
    return this.#opened(await this.#request("POST", "login", {}, JSON.stringify({ secret })));
  }

  /** Go on with the log-in that the cookie has, after a reload of the page; null: there is none. */
  async resume() {
    const login = this.#opened(await this.get("login"));
    return login.csrf_token ? login : null;
  }

  /** Return the answer to a request that changes nothing. */
  async get(path, parameters = {}) {
    return this.#request("GET", path, parameters);
  }

  /** Return the answer to a request that changes something. */
  async send(method, path, parameters = {}) {
    return this.#request(method, path, parameters);
  }

  #opened(login) {
    this.#csrfToken = login.csrf_token;
    return login;
  }

  async #request(method, path, parameters, body) {
    const headers = method === "GET" ? {} : { "X-CSRF-Token": this.#csrfToken };
    if (body) headers["Content-Type"] = "application/json";
    const query = new URLSearchParams(parameters).toString();
    const response = await fetch(`api/${path}${query ? `?${query}` : ""}`, { method, headers, body, credentials: "same-origin" });
    let answer = {};
    try {
      answer = await response.json();
    } catch {
      // an answer of a proxy
    }
    if (response.ok) return answer;
    const text = answer.error ? answer.error[0].toUpperCase() + answer.error.slice(1) : `Status ${response.status}`;
    throw response.status === 401 ? new UnauthenticatedError(text) : new Error(text);
  }
}
