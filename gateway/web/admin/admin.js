/**
 * The admin page: log-in, the state of the gateway every two seconds, and the operator's requests.
 *
 * Source: docs/operations.md, "The admin page".
 */

import { Requests, UnauthenticatedError } from "./requests.js";
import { element, fillTable, showTimeline, showExplanation, showSteps } from "./tables.js";

const PERIOD = 2000; // milliseconds between two looks at the state

const $ = (id) => document.getElementById(id);
const requests = new Requests();
let timer = null;
let isPressed = false; // tables must not change between the two halves of a click

/** Run a request; an error is shown, and the end of the log-in leads back to the form. */
async function attempt(work) {
  try {
    await work();
    showMessage("");
  } catch (error) {
    if (error instanceof UnauthenticatedError) showLogin("The log-in has ended.");
    else showMessage(`${error.message}.`);
  }
}

function showMessage(text) {
  if ($("message").textContent !== text) $("message").textContent = text;
  $("message").hidden = !text;
}

function showLogin(message = "") {
  clearTimeout(timer);
  $("overview").hidden = $("log-out").hidden = true;
  $("login").hidden = false;
  $("insecure").hidden = globalThis.isSecureContext;
  showState("Not logged in", "idle");
  showMessage(message);
  $("secret").focus();
}

function showOverview(login) {
  $("login").hidden = true;
  $("overview").hidden = $("log-out").hidden = false;
  $("doctor-run").disabled = !login.doctor;
  if (!login.doctor) $("doctor-lead").textContent = "This gateway has no configuration file that the doctor could read.";
  look();
}

function showState(text, level) {
  if ($("state").textContent !== text) $("state").textContent = text;
  $("state").dataset.level = level;
}

/** Show the state, and again after a pause unless the page is hidden. */
async function look() {
  clearTimeout(timer);
  if (!document.hidden && !isPressed) {
    try {
      showSnapshot(await requests.get("snapshot"));
    } catch (error) {
      if (error instanceof UnauthenticatedError) {
        showLogin("The log-in has ended.");
        return;
      }
      showState(`The gateway does not answer: ${error.message}`, "bad");
    }
  }
  timer = setTimeout(look, PERIOD);
}

function showSnapshot(snapshot) {
  const levels = { ok: "ok", degraded: "busy", away: "bad" };
  showState(`Version ${snapshot.version}: ${snapshot.state}`, levels[snapshot.state] ?? "idle");
  const totals = [
    ["sessions", snapshot.sessions],
    ["rooms", snapshot.rooms],
    ["in calls", snapshot.in_calls],
    ["publications", snapshot.publications],
    ["subscriptions", snapshot.subscriptions],
  ];
  $("totals").replaceChildren(
    ...totals.map(([name, count]) => element("div", {}, element("dt", {}, name), element("dd", {}, String(count)))),
  );
  showDependencies(snapshot);
  showDrain(snapshot.drain);
  showRefusals(snapshot);
  fillTable($("rooms"), snapshot.room_rows, [
    ["Room", (row) => opener(row.id, () => openExplanation(row))],
    ["Backend", (row) => row.backend],
    ["Sessions", (row) => row.sessions],
    ["In call", (row) => row.in_call],
    ["Publications", (row) => row.publications],
    ["Subscriptions", (row) => row.subscriptions],
    ["In, kbit/s", (row) => kbits(row.received)],
    ["Out, kbit/s", (row) => kbits(row.sent)],
    ["History", (row) => opener("timeline", () => openTimeline(row.id, row.backend), `Timeline of room ${row.id}`)],
  ]);
  fillTable($("streams"), snapshot.stream_rows, [
    ["Session", (row) => row.session],
    ["Room", (row) => row.room],
    ["Stream", (row) => (row.type === "screen" ? "screen" : "camera")],
    ["Media", (row) => row.kind],
    ["Codec", (row) => row.codec || "–"],
    ["In, kbit/s", (row) => kbits(row.received)],
    ["Lost packets", (row) => row.lost ?? "–"],
    ["Subscriptions", (row) => row.subscriptions],
    ["Out, kbit/s", (row) => kbits(row.sent)],
    ["Lost packets, out", (row) => row.sent_lost ?? "–"],
  ]);
  fillTable($("sessions"), snapshot.session_rows, [
    ["Session", (row) => opener(row.id, () => openTimeline(row.id), `Timeline of session ${row.id}`)],
    ["Backend", (row) => row.backend],
    ["Client", (row) => row.client],
    ["Room", (row) => row.room || "–"],
    ["State", (row) => `${row.in_call ? "in call" : "not in call"}${row.connected ? "" : ", disconnected"}`],
  ]);
}

function showDependencies(snapshot) {
  const sfus = new Map(snapshot.sfus.map((sfu) => [sfu.name ? `sfu ${sfu.name}` : "sfu", sfu]));
  $("dependencies").replaceChildren(
    ...snapshot.dependencies.map((entry) => {
      const sfu = sfus.get(entry.name);
      const figures = sfu ? ` ${sfu.publications} publications, ${sfu.subscriptions} subscriptions, load ${sfu.load.toFixed(1)}.` : "";
      const level = element("span", { className: "level", level: entry.state }, entry.state);
      return element("li", {}, `${entry.name}: `, level, entry.reason ? ` – ${entry.reason}.` : ".", figures);
    }),
  );
}

function showDrain(drain) {
  const left = drain.seconds_left === null ? "without a deadline" : `${Math.round(drain.seconds_left)} s are left`;
  $("drain-state").textContent = drain.draining
    ? `Draining: ${drain.in_calls} sessions are in calls, ${left}; ${drain.refused} hellos were refused.`
    : "Not draining: new sessions are accepted.";
  $("drain-begin").hidden = drain.draining;
  $("drain-cancel").hidden = !drain.draining;
}

function showRefusals(snapshot) {
  const causes = Object.entries(snapshot.refused);
  $("refused").textContent = causes.length
    ? `Since the start: ${causes.map(([cause, count]) => `${cause} ${count}`).join(", ")}.`
    : "Nothing was refused since the start.";
  $("refusals").replaceChildren(
    ...snapshot.refusals.map(({ seconds_ago: ago, text }) =>
      element("li", {}, element("span", { className: "when" }, `${Math.round(ago)} s ago: `), text),
    ),
  );
}

const kbits = (bits) => (bits === null ? "–" : Math.round(bits / 1000));

/** Return a button of a table cell; `label` names it for screen readers where its text does not. */
function opener(text, open, label = "") {
  const button = element("button", {}, text);
  button.type = "button";
  if (label) button.setAttribute("aria-label", label);
  button.addEventListener("click", () => attempt(open));
  return button;
}

async function openExplanation(room) {
  const found = await requests.get("explain", { room: room.id, backend: room.backend });
  openDetails(`Room ${room.id}`, showExplanation(found.publishers));
}

async function openTimeline(of, backend = "") {
  const found = await requests.get("timeline", backend ? { of, backend } : { of });
  openDetails(`Timeline of ${of}`, showTimeline(found.events));
  const file = new Blob([JSON.stringify(found, null, 2)], { type: "application/json" });
  $("details-save").href = URL.createObjectURL(file);
  $("details-save").download = `portunus-timeline-${of}.json`;
  $("details-save").hidden = false;
}

function openDetails(title, ...body) {
  $("details-title").textContent = title;
  $("details-body").replaceChildren(...body);
  $("details-save").hidden = true;
  $("details").showModal();
}

async function logIn(event) {
  event.preventDefault();
  const secret = $("secret").value;
  $("secret").value = "";
  try {
    const login = await requests.logIn(secret);
    showMessage("");
    showOverview(login);
  } catch (error) {
    showMessage(`${error.message}.`);
  }
}

async function logOut() {
  await requests.send("DELETE", "login");
  showLogin();
}

async function beginDrain() {
  if (!confirm("Calls go on until the deadline, new sessions are refused, and then the process ends. Begin?")) return;
  const deadline = $("drain-deadline").value;
  showDrain(await requests.send("POST", "drain", deadline ? { deadline } : {}));
}

async function runDoctor() {
  $("doctor-run").disabled = true;
  $("doctor-state").textContent = "The doctor is at work …";
  try {
    const results = await requests.send("POST", "doctor");
    const failed = results.filter((result) => result.state === "failed").length;
    $("doctor-state").textContent = failed ? `${failed} of ${results.length} steps failed.` : `No step of ${results.length} failed.`;
    $("doctor-results").replaceChildren(...showSteps(results));
  } catch (error) {
    $("doctor-state").textContent = "";
    throw error;
  } finally {
    $("doctor-run").disabled = false;
  }
}

$("login-form").addEventListener("submit", logIn);
$("log-out").addEventListener("click", () => attempt(logOut));
$("drain-form").addEventListener("submit", (event) => {
  event.preventDefault();
  attempt(beginDrain);
});
$("drain-cancel").addEventListener("click", () => attempt(async () => showDrain(await requests.send("DELETE", "drain"))));
$("doctor-run").addEventListener("click", () => attempt(runDoctor));
$("details").addEventListener("close", () => URL.revokeObjectURL($("details-save").href));
document.addEventListener("pointerdown", () => (isPressed = true));
for (const end of ["pointerup", "pointercancel"]) document.addEventListener(end, () => (isPressed = false));
document.addEventListener("visibilitychange", () => !document.hidden && !$("overview").hidden && look());

try {
  const login = await requests.resume();
  if (login) showOverview(login);
  else showLogin();
} catch (error) {
  showLogin(`${error.message}.`);
}
