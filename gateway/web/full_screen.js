/**
 * Full screen of a tile. Safari on phones shows only a video in full screen, without the tile's name.
 */

/** Return whether this browser has a full screen for tiles or videos. */
export function hasFullScreen() {
  return Boolean(document.fullscreenEnabled || HTMLVideoElement.prototype.webkitEnterFullscreen);
}

/** Show a tile in full screen, or end its full screen. */
export async function toggleFullScreen({ element, video }) {
  if (document.fullscreenElement === element) await document.exitFullscreen();
  else if (element.requestFullscreen) await element.requestFullscreen().catch(() => {}); // refused by user or system
  else video.webkitEnterFullscreen();
}
