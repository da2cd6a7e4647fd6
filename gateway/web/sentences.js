/**
 * The page's texts about problems: one sentence for each cause.
 */

const CAMERA_LOST = "The camera was unplugged or taken by another program. The others do not see you.";

const DEVICES = {
  permission:
    "Your browser was told not to let this page use the camera and microphone: you take part with a generated picture and without sound.",
  insecure:
    "Browsers give a camera and microphone only to pages on https or localhost: you take part with a generated picture and without sound.",
  devices: "No camera or microphone was found: you take part with a generated picture and without sound.",
  camera: "No camera was found. The others hear you and see a generated picture.",
  unused: "You take part without a microphone; choose “Camera and microphone” when you join to be heard.",
  microphone: "No microphone was found. The others see you but cannot hear you.",
  cameraLost: CAMERA_LOST,
  allLost: "No camera or microphone was found. The others neither see nor hear you.",
};

export const MICROPHONE_REFUSED = "The chosen microphone could not be opened: another program may use it. The others hear you by the former one.";

/** Why the check before the call lacks a device. */
export const preview = {
  permission: "Your browser was told not to let this page use the camera and microphone.",
  insecure: "Browsers give a camera and microphone only to pages on https or localhost.",
  devices: "No camera and no microphone was found.",
  camera: "No camera was found.",
  microphone: "No microphone was found.",
};

export const LISTENING = "You take part as a listener: you see and hear the others, they neither see nor hear you.";

export function devices(reason) {
  return DEVICES[reason] ?? DEVICES.devices;
}

export const NO_NAME = "Type a name by which the others know you; blanks alone are none.";
export const NO_ROOM = "Type the name of a room; blanks alone are none.";

/** Why a button has no effect, by its id. */
export const unavailable = {
  mute: "You take part as a listener, without a microphone. Leave and join with one to be heard.",
  camera: "You take part as a listener, without a camera. Leave and join with one to be seen.",
  share: "Browsers share a screen only from pages on https or localhost.",
};

export const deviceGone = {
  audio: "The microphone was unplugged or taken by another program. The others cannot hear you.",
  video: CAMERA_LOST,
};

export const GATEWAY_AWAY =
  "The gateway cannot be reached. Pictures and sound go on as long as they can; the page connects again by itself.";

export const OFFLINE = "Your device is offline. The page connects again by itself when the network is back.";

export function ownMediaFailed(retrying) {
  const failed = "The media connection failed: your picture and sound do not reach the server.";
  return retrying ? `${failed} Connecting again.` : `${failed} A firewall may block it (UDP).`;
}

export function theirMediaFailed(name, retrying) {
  const failed = `The media connection failed: the stream of ${name} does not arrive.`;
  return retrying ? `${failed} Connecting again.` : `${failed} A firewall may block it (UDP).`;
}

export function ownNotPublished(code) {
  if (code === "not_allowed") return "You may not publish in this room (not_allowed). You take part as a listener.";
  if (code === "client_not_found") {
    return "The gateway could not publish your stream (client_not_found): its media server did not take it. Trying again.";
  }
  return `The gateway did not take your stream (${code}). Trying again.`;
}

export function theirsNotFound(name, code, retrying) {
  const found =
    code === "client_not_found"
      ? `The gateway does not find the stream of ${name} (client_not_found).`
      : `The gateway does not give you the stream of ${name} (${code}).`;
  return retrying ? `${found} Asking again.` : found;
}

export const NO_SUCH_SESSION = "The gateway no longer knows this session (no_such_session). You are joining anew.";

export function refused(error) {
  const known = {
    auth_failed: "The gateway does not accept you",
    invalid_backend: "The gateway does not know this backend",
    session_limit_exceeded: "The gateway is full",
    no_such_room: "This room does not exist, or you are not invited",
    shutdown_scheduled: "The gateway is about to end; try again in a while",
    too_many_requests: "There were too many failed attempts from your address; wait a while",
    duplicate_session: "You are in this room already",
    timeout: "The gateway did not answer in time",
  };
  const text = known[error.code] ?? `Joining failed: ${error.message}`;
  return error.code ? `${text} (${error.code}).` : `${text}.`;
}

const ENDED = {
  session_resumed: "This session goes on in another window.",
  room_session_reconnected: "You joined this room from another window.",
};

export function ended(reason) {
  return ENDED[reason] ?? "The gateway ended this session.";
}

export const SCREEN_FAILED = "The screen could not be shared: the browser did not give it.";
export const AUTOPLAY = "Your browser waits for a click before it plays sound.";
export const NO_WEBRTC = "This browser has no WebRTC: it cannot take part in calls.";
