"""JavaScript that holds and refuses requests for devices, and loses devices."""

from __future__ import annotations

# Holds requests for devices in ``pending`` until they are granted, and keeps the granted tracks in ``granted``.
# ``refusal``: the name of an error with which requests are refused at once. ``endGranted``: granted tracks have ended.
HOLD_REQUESTS = """method => {
  const media = navigator.mediaDevices;
  const real = media[method].bind(media);
  Object.assign(globalThis, {pending: [], granted: [], refusal: "", endGranted: false});
  media[method] = async (...args) => {
    if (refusal) throw new DOMException("refused by the test", refusal);
    await new Promise(grant => pending.push(grant));
    const stream = await real(...args);
    if (endGranted) for (const track of stream.getTracks()) track.stop();
    granted.push(...stream.getTracks());
    return stream;
  };
}"""
GRANT = "for (const grant of pending.splice(0)) grant()"

# The browser reports that a device is gone.
LOSE_TRACK = """kind => {
  const senders = portunus.call.publishing.connection("video").getSenders();
  senders.find(({track}) => track?.kind === kind).track.dispatchEvent(new Event("ended"));
}"""
# The same, and the browser finds no device of this kind any more.
LOSE_DEVICE = f"""kind => {{
  const {{mediaDevices}} = navigator, open = mediaDevices.getUserMedia.bind(mediaDevices);
  mediaDevices.getUserMedia = async constraints => {{
    if (constraints[kind]) throw new DOMException("gone", "NotFoundError");
    return open(constraints);
  }};
  ({LOSE_TRACK})(kind);
}}"""
