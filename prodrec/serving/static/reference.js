/** Reference photos of products, from the server. */

import { readPhoto } from "./api.js";
import { make } from "./dom.js";

/** A tile with the photo of a product or tag; empty where there is none, or where it cannot be had. `alt` is "" where words beside it say the same. */
export function reference({ photo }, alt = "") {
  const tile = make("span", { class: "reference" });
  if (!photo) return tile;
  const image = make("img", { alt, error: () => image.remove() });
  tile.append(image);
  readPhoto(photo).then((source) => (image.src = source)).catch(() => image.remove());
  return tile;
}
