/**
 * The call page: the lobby, the controls, and one participation in a room at a time.
 */

import { requiredText } from "./fields.js";
import { Panels } from "./panels.js";
import { Participation } from "./participation.js";
import { randomId } from "./random.js";
import { keepCall, takeCall } from "./saved_call.js";
import * as sentences from "./sentences.js";
import { DeviceLists } from "./devices.js";
import { LevelMeter } from "./level.js";
import { Preview } from "./preview.js";
import { prepareChoices } from "./settings.js";
import { copyLink } from "./share_link.js";
import { SignalingError } from "./signaling.js";
import { isAvailable, setUnavailable } from "./unavailable.js";
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
const panels = new Panels(["people", "chat"], (name) => name === "chat" && view.chat.opened());
let participation = null; // null in the lobby
let person = randomId(); // identifies the user to the demo backend in a later join

function submit(event) {
  event.preventDefault();
  if (participation) return;
  const [name, room] = [requiredText($("name"), sentences.NO_NAME), requiredText($("room"), sentences.NO_ROOM)];
  if (name && room) join({ name, room, wanted: $("wanted").value, size: $("size").value, person });
  else (name ? $("room") : $("name")).focus();
}

/** Take part in a room; the options are those of Participation. */
async function join(options) {
  const { room } = options;
  view.notices.clearAll();
  preview.close();
  $("join").disabled = true;
  const joined = new Participation(view, { ...options, onEnd: leave });
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
  panels.show(matchMedia(WIDE).matches ? "people" : "");
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
  $("stage").hidden = $("controls").hidden = $("change-layout").hidden = $("copy-link").hidden = name !== "call";
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
  $("join-form").addEventListener("submit", submit);
  const controls = {
    mute: () => participation?.toggleMute(),
    camera: () => participation?.toggleCamera(),
    share: () => participation?.toggleShare(),
    leave: () => leave(""),
    hand: () => participation?.call.hands.toggle(),
    "copy-link": () => copyLink(location.href, view),
    "show-settings": showSettings,
  };
  for (const [id, run] of Object.entries(controls)) $(id).addEventListener("click", () => isAvailable(id) && run());
  view.chat.onSend = (text) => participation?.call.chat.send(text) ?? false;
  $("settings").addEventListener("close", () => {
    meter.stop();
    if ($("settings").returnValue === "apply") participation?.applyPreferences();
  });
  $("share").hidden = isSecureContext && !navigator.mediaDevices?.getDisplayMedia; // as on phones
  setUnavailable("share", isSecureContext ? "" : sentences.unavailable.share);
  addEventListener("pagehide", unload);
  addEventListener("pageshow", ({ persisted }) => persisted && takeCall()); // this page again, in the lobby
  if (!globalThis.RTCPeerConnection) view.notices.show("webrtc", sentences.NO_WEBRTC);
  else continueCall(takeCall());
}

/** Leave, because the browser may show this page again in its last state; a reload joins again. */
function unload() {
  if (!participation) return;
  keepCall(participation.options());
  leave("");
}

/** Join the call in which this page was reloaded, with the same name and devices. */
function continueCall(kept) {
  if (!kept) return;
  for (const id of ["name", "room", "wanted", "size"]) $(id).value = kept[id];
  person = kept.person;
  join(kept);
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
