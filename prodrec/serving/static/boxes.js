/** Boxes over a photo: drawn, listed in words, and switched by label. */

import { make } from "./dom.js";
import { reference } from "./reference.js";
import { nameAndId, nameOf } from "./words.js";

// Light enough for dark text and for dark photos; the dark rim of each box keeps them visible on light ones.
const COLOURS = ["#ffd43b", "#4dd0ff", "#8ce99a", "#ffa94d", "#d0bfff", "#ff9ec4", "#b2f200", "#dee2e6"];

export class Boxes {
  #hidden = new Set();

  /**
   * @param layer lies over the photo.
   * @param list takes the switches and the boxes in words.
   */
  constructor(layer, list) {
    Object.assign(this, { layer, list });
  }

  clear() {
    this.layer.replaceChildren();
    this.list.replaceChildren();
  }

  /** Shows tags, whose boxes are x1, y1, x2, y2 in pixels of an upright photo of that size. A label that was switched off stays off. */
  show(tags, width, height) {
    this.clear();
    if (tags === null) this.list.append(make("p", { class: "small" }, "This server looks for no things on photos."));
    else if (tags.length === 0) this.list.append(make("p", {}, "Nothing was found."));
    else this.#draw(tags, width, height);
  }

  #draw(tags, width, height) {
    const labels = [...new Set(tags.map((tag) => tag.label))].sort((a, b) => a.localeCompare(b, undefined, { numeric: true }));
    const groups = new Map(labels.map((label, i) => [label, { colour: COLOURS[i % COLOURS.length], boxes: [], tag: tags.find((tag) => tag.label === label) }]));
    for (const tag of tags) {
      const group = groups.get(tag.label);
      const box = drawn(tag, group.colour, width, height);
      group.boxes.push(box);
      this.layer.append(box);
    }
    this.list.append(
      make("div", { class: "switches", role: "group", "aria-label": "Boxes by label" }, ...labels.map((label) => this.#switch(label, groups.get(label)))),
      make("details", {}, make("summary", {}, "Boxes in words"), make("ul", { class: "small" }, ...tags.map((tag) => make("li", {}, inWords(tag))))),
    );
  }

  #switch(label, { colour, boxes, tag }) {
    const apply = (shown) => {
      for (const box of boxes) box.hidden = !shown;
      if (shown) this.#hidden.delete(label);
      else this.#hidden.add(label);
    };
    const light = (lit) => () => boxes.forEach((box) => box.classList.toggle("lit", lit));
    const swatch = make("span", { class: "swatch", "aria-hidden": "true" });
    swatch.style.backgroundColor = colour;
    const input = make("input", { type: "checkbox", change: (event) => apply(event.target.checked) });
    input.checked = !this.#hidden.has(label);
    apply(input.checked);
    const events = { mouseenter: light(true), mouseleave: light(false), focusin: light(true), focusout: light(false) };
    return make("label", { class: "switch", ...events }, input, swatch, tag.photo ? reference(tag) : "", make("bdi", {}, nameAndId(tag)), " ", make("span", { class: "small" }, `(${boxes.length})`));
  }
}

function drawn(tag, colour, width, height) {
  const [left, top, right, bottom] = tag.box;
  const box = make("div", { class: "box", "data-label": tag.label }, make("span", {}, make("bdi", {}, nameOf(tag)), ` ${tag.score.toFixed(2)}`));
  const percent = (length, whole) => `${(100 * length) / whole}%`;
  Object.assign(box.style, { left: percent(left, width), top: percent(top, height) });
  Object.assign(box.style, { width: percent(right - left, width), height: percent(bottom - top, height) });
  box.style.setProperty("--colour", colour);
  // There is no room for a name above a box at the top, and none to the right of one at the right.
  box.classList.toggle("inside", top < 0.06 * height);
  box.classList.toggle("leftward", left > 0.7 * width);
  return box;
}

function inWords(tag) {
  const { score, box } = tag;
  const [left, top, right, bottom] = box.map(Math.round);
  return `${nameAndId(tag)}, score ${score.toFixed(2)}: ${left} px from the left, ${top} px from the top, ${right - left} × ${bottom - top} px`;
}
