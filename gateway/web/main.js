/**
 * The call page: the lobby, the controls, and one participation in a room at a time.
 */

import * as sentences from "./sentences.js";
import { DeviceLists } from "./devices.js";
import { LevelMeter } from "./level.js";
import { Preview } from "./preview.js";
import { prepareChoices } from "./settings.js";
import { SignalingError } from "./signaling.js";
import { Participation } from "./participation.js";
import { View } from "./view.js";

const WIDE = "(min-width: 60rem)"; // wide enough for the list of people beside the tiles

const $ = (id) => document.getElementById(id);
const view = new View();
const lists = new DeviceLists(
  (kind) => (participation ? participation.switchDevice(kind).then(showLevel) : preview.reopen()),
  (kinds) => (participation ? participation.devicesArrived(kinds).then(showLevel) : preview.reopen()),
);
const preview = new Preview(lists);
const meter = new LevelMeter($("settings"));
let participation = null; // null in the lobby

async function join(event) {
  event.preventDefault();
  const [name, room] = [$("name").value.trim(), $("room").value.trim()];
  if (participation || !name || !room) return;
  view.notices.clearAll();
  preview.close();
  $("join").disabled = true;
  const joined = new Participation(view, { name, room, wanted: $("wanted").value, size: $("size").value, onEnd: leave });
  participation = joined;
  try {
    await joined.start();
  } catch (error) {
    if (participation === joined) leave(error instanceof SignalingError ? sentences.refused(error) : `Joining failed: ${error.message}.`);
    return;
  }
  if (participation !== joined) return; // the user has left
  lists.refresh(); // so that it is known later which devices arrive
  $("room-title").textContent = room;
  document.title = `${room} – Portunus`;
  history.replaceState(null, "", `?room=${encodeURIComponent(room)}`);
  showView("call");
  showPeople(matchMedia(WIDE).matches);
  $("room-title").focus(); // a screen reader reads the room's name; the next Tab continues from here
}

/** Go back to the lobby; `sentence` is the reason, empty if the user chose to leave. */
function leave(sentence) {
  participation?.stop();
  participation = null;
  view.clear();
  showView("lobby");
  $("room-title").textContent = "Join a call";
  document.title = "Portunus – call";
  view.showStatus("Not connected", "idle");
  if (sentence) view.notices.show("left", sentence);
  $("join").focus();
}

/** Show the "lobby" or the "call". */
function showView(name) {
  document.body.dataset.view = name;
  $("join").disabled = false;
  $("lobby").hidden = name !== "lobby";
  $("stage").hidden = $("controls").hidden = $("change-layout").hidden = name !== "call";
}

function showPeople(shown) {
  $("people").hidden = !shown;
  $("show-people").setAttribute("aria-expanded", String(shown));
}

function showSettings() {
  $("settings").returnValue = "";
  $("settings").showModal();
  lists.refresh();
  showLevel();
}

/** Show the level of the own microphone while the settings are open. */
function showLevel() {
  const { realAudio, audio } = participation?.media ?? {};
  if ($("settings").open && realAudio) meter.start(audio);
  else meter.stop();
}

function start() {
  prepareChoices();
  const room = new URLSearchParams(location.search).get("room");
  if (room) $("room").value = room;
  $("join-form").addEventListener("submit", join);
  const controls = {
    mute: () => participation?.toggleMute(),
    camera: () => participation?.toggleCamera(),
    share: () => participation?.toggleShare(),
    leave: () => leave(""),
    "show-people": () => showPeople($("people").hidden),
    "show-settings": showSettings,
  };
  for (const [id, run] of Object.entries(controls)) $(id).addEventListener("click", run);
  $("settings").addEventListener("close", () => {
    meter.stop();
    if ($("settings").returnValue === "apply") participation?.applyPreferences();
  });
  $("share").hidden = !navigator.mediaDevices?.getDisplayMedia;
  addEventListener("pagehide", () => participation && leave("")); // the browser may show this page again in its last state
  if (!globalThis.RTCPeerConnection) view.notices.show("webrtc", sentences.NO_WEBRTC);
}

start();

/** The objects of the current participation, for the developer's console. */
globalThis.portunus = {
  get call() {
    return participation?.call ?? null;
  },
  get signaling() {
    return participation?.signaling ?? null;
  },
};
