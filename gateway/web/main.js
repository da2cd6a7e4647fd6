/**
 * The call page: the lobby, the controls, and one stay in a room at a time.
 */

import * as sentences from "./sentences.js";
import { prepareChoices } from "./settings.js";
import { SignalingError } from "./signaling.js";
import { Stay } from "./stay.js";
import { View } from "./view.js";

const WIDE = "(min-width: 60rem)"; // wide enough for the list of people beside the pictures

const $ = (id) => document.getElementById(id);
const view = new View();
let stay = null; // the stay in a room; null in the lobby

async function join(event) {
  event.preventDefault();
  const [name, room] = [$("name").value.trim(), $("room").value.trim()];
  if (stay || !name || !room) return;
  view.notices.clearAll();
  $("join").disabled = true;
  const own = new Stay(view, { name, room, wanted: $("wanted").value, size: $("size").value, onEnd: leave });
  stay = own;
  try {
    await own.start();
  } catch (error) {
    if (stay === own) leave(error instanceof SignalingError ? sentences.refused(error) : `Joining failed: ${error.message}.`);
    return;
  }
  if (stay !== own) return; // left meanwhile
  $("room-title").textContent = room;
  document.title = `${room} – Portunus`;
  history.replaceState(null, "", `?room=${encodeURIComponent(room)}`);
  show("call");
  showPeople(matchMedia(WIDE).matches);
  $("room-title").focus(); // a screen reader says where we are; the next Tab goes on from here
}

/** Go back to the lobby; a sentence says why when it was not the person's wish. */
function leave(sentence) {
  stay?.stop();
  stay = null;
  view.clear();
  show("lobby");
  $("room-title").textContent = "Join a call";
  document.title = "Portunus – call";
  view.say("Not connected", "idle");
  if (sentence) view.notices.show("left", sentence);
  $("join").focus();
}

function show(shown) {
  document.body.dataset.view = shown;
  $("join").disabled = false;
  $("lobby").hidden = shown !== "lobby";
  $("stage").hidden = $("controls").hidden = shown !== "call";
}

function showPeople(shown) {
  $("people").hidden = !shown;
  $("show-people").setAttribute("aria-expanded", String(shown));
}

function start() {
  prepareChoices();
  const room = new URLSearchParams(location.search).get("room");
  if (room) $("room").value = room;
  $("join-form").addEventListener("submit", join);
  const controls = {
    mute: () => stay?.toggleMute(),
    camera: () => stay?.toggleCamera(),
    share: () => stay?.toggleShare(),
    leave: () => leave(""),
    "show-people": () => showPeople($("people").hidden),
    "show-settings": () => $("settings").showModal(),
  };
  for (const [id, run] of Object.entries(controls)) $(id).addEventListener("click", run);
  $("settings").addEventListener("close", () => $("settings").returnValue === "apply" && stay?.rewish());
  $("share").hidden = !navigator.mediaDevices?.getDisplayMedia;
  addEventListener("pagehide", () => stay && leave("")); // the browser may show this page again as it was left
  if (!globalThis.RTCPeerConnection) view.notices.show("webrtc", sentences.NO_WEBRTC);
}

start();

/** For the developer's console. */
globalThis.portunus = {
  get call() {
    return stay?.call ?? null;
  },
  get signaling() {
    return stay?.signaling ?? null;
  },
};
