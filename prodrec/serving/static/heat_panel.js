/** The controls of the heat map. A map is asked for once per photo, product and method. */

import { explain } from "./api.js";
import { byId, make, percent } from "./dom.js";
import { paint, paintScale } from "./heat.js";
import { nameAndId, problemWords } from "./words.js";

export class HeatPanel {
  #item = null;
  #answer = null;
  #aborter = new AbortController();
  #maps = new Map();

  /** @param patience waits for the server. */
  constructor(patience) {
    this.patience = patience;
    byId("heat-on").addEventListener("change", () => this.#update());
    byId("heat-label").addEventListener("change", () => this.#update());
    for (const radio of document.getElementsByName("method")) radio.addEventListener("change", () => this.#update());
    byId("heat-opacity").addEventListener("input", fade);
    paintScale(byId("heat-scale"));
    fade();
  }

  /** Offers the heat map of a photo; null, or a photo without a product or a file, offers none. */
  show(item) {
    if (item?.answer && item.answer === this.#answer) return;
    this.#item = item;
    this.#answer = item?.answer;
    this.#maps.clear();
    const products = item?.file ? (item.answer?.products ?? []) : [];
    byId("heat-panel").hidden = products.length === 0;
    byId("heat-label").replaceChildren(...products.map((product) => make("option", { value: product.label }, nameAndId(product))));
    if (products.length === 0) byId("heat-on").checked = false;
    this.#update();
  }

  async #update() {
    this.#aborter.abort();
    const isOn = byId("heat-on").checked;
    byId("heat-controls").hidden = !isOn;
    byId("heat").hidden = true;
    byId("heat-words").textContent = "";
    if (!isOn || !this.#item) return;
    const { signal } = (this.#aborter = new AbortController());
    try {
      const map = await this.#map({ label: byId("heat-label").value, method: document.querySelector("[name=method]:checked").value }, signal);
      if (!signal.aborted) present(map);
    } catch (problem) {
      if (signal.aborted) return;
      const { title, detail, hint } = problemWords(problem);
      byId("heat-words").textContent = [title, detail, hint].filter(Boolean).join(". ");
    }
  }

  async #map(wanted, signal) {
    const key = JSON.stringify(wanted);
    const [item, maps] = [this.#item, this.#maps];
    if (!maps.has(key)) {
      byId("heat-words").textContent = wanted.method === "occlusion" ? "Hiding one place after the other …" : "Looking …";
      const map = await this.patience.run(() => explain(item.file, wanted, signal), signal);
      if (item === this.#item) maps.set(key, map);
      return map;
    }
    return maps.get(key);
  }
}

function present(map) {
  paint(byId("heat"), map);
  byId("heat").hidden = false;
  const meaning = map.method === "occlusion" ? "hiding the hot places makes it less probable" : "the hot places speak for it";
  byId("heat-words").textContent = `${nameAndId(map)} with ${percent(map.probability)}: ${meaning}. The network sees what is in the dashed frame.`;
}

function fade() {
  byId("heat").style.opacity = byId("heat-opacity").value / 100;
}
