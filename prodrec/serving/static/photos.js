/** Photos as they come in - dropped, pasted, chosen - and thumbnails of them. */

import { byId } from "./dom.js";

const CARD_PX = 320;
const LINK_PX = 96;
// Pictures are opened one after the other: twelve megapixels take 50 MB.
let turn = Promise.resolve();

/** Calls `take` with the files of each drop, paste or choice. */
export function listen(take) {
  for (const input of [byId("files"), byId("camera")]) {
    input.addEventListener("change", () => {
      const files = [...input.files];
      // So that the same file can be chosen once more.
      input.value = "";
      if (files.length) take(files);
    });
  }
  document.addEventListener("paste", (event) => {
    const files = [...event.clipboardData.files];
    if (!files.length) return;
    event.preventDefault();
    take(files);
  });
  listenToDrops(take);
}

function listenToDrops(take) {
  const show = (shown) => (byId("drop-here").hidden = !shown);
  const hasFiles = (event) => event.dataTransfer?.types.includes("Files");
  document.addEventListener("dragover", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    show(true);
  });
  document.addEventListener("dragleave", (event) => event.relatedTarget === null && show(false));
  document.addEventListener("drop", (event) => {
    show(false);
    if (!hasFiles(event)) return;
    event.preventDefault();
    const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry?.());
    const files = [...event.dataTransfer.files].filter((_, i) => !entries[i]?.isDirectory);
    take(files);
  });
}

/** {card, link}: JPEGs of a picture as data URLs, upright; nulls where the browser cannot read it. */
export function thumbnails(file, signal) {
  const made = turn.then(async () => {
    if (signal.aborted) return { card: null, link: null };
    const picture = await createImageBitmap(file).catch(() => null);
    if (picture === null) return { card: null, link: null };
    const both = { card: shrink(picture, CARD_PX), link: shrink(picture, LINK_PX) };
    picture.close();
    return both;
  });
  turn = made;
  return made;
}

function shrink(picture, side) {
  const scale = Math.min(1, side / Math.max(picture.width, picture.height));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(picture.width * scale));
  canvas.height = Math.max(1, Math.round(picture.height * scale));
  const context = canvas.getContext("2d");
  // JPEG has no transparency: what is clear would turn black.
  context.fillStyle = "#fff";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.imageSmoothingQuality = "high";
  context.drawImage(picture, 0, 0, canvas.width, canvas.height);
  return canvas.toDataURL("image/jpeg", 0.72);
}
