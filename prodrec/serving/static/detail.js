/** One photo: the picture, which product it is, the decision and its reasons, what is on it. */

import { Boxes } from "./boxes.js";
import { byId, make, percent } from "./dom.js";
import { reference } from "./reference.js";
import { DECISIONS, headline, nameOf, problemWords, QUALITY, reasonTitle } from "./words.js";

// From here on a title is written smaller. Source: assumed, by eye.
const LONG_CHARS = 60;

export class Detail {
  #item = null;
  #url = null;

  /** @param retry is called with an item whose answer is wanted once more. */
  constructor(retry) {
    this.retry = retry;
    this.boxes = new Boxes(byId("boxes"), byId("tags"));
    byId("photo").addEventListener("error", () => this.#showPlaceholder("Your browser cannot show this file."));
    byId("photo").addEventListener("load", () => shape(byId("photo").naturalWidth, byId("photo").naturalHeight));
  }

  /** Shows an item, whole or as far as it is known. */
  show(item) {
    if (item !== this.#item) this.#showPhoto(item);
    this.#item = item;
    const { answer, problem, name } = item;
    byId("caption").textContent = [name, answer && `${answer.width} × ${answer.height} px`].filter(Boolean).join(" · ");
    byId("detail").setAttribute("aria-busy", String(!answer && !problem));
    byId("answer").hidden = !answer;
    byId("problem").hidden = !problem;
    this.boxes.clear();
    showDecision(answer);
    if (answer) this.#showAnswer(item);
    else if (problem) this.#showProblem(item);
    else title("Looking at the photo …");
  }

  /** Lets the picture go. */
  close() {
    this.#item = null;
    byId("photo").removeAttribute("src");
    if (this.#url) URL.revokeObjectURL(this.#url);
    this.#url = null;
  }

  #showPhoto({ file, thumbnail }) {
    this.close();
    if (file) this.#url = URL.createObjectURL(file);
    const source = this.#url ?? thumbnail;
    byId("placeholder").hidden = true;
    byId("photo").hidden = false;
    shape(4, 3);
    if (source) byId("photo").src = source;
    else this.#showPlaceholder("The photo is not part of the link.");
  }

  #showPlaceholder(text) {
    byId("photo").hidden = true;
    byId("placeholder").hidden = false;
    byId("placeholder").textContent = text;
  }

  #showAnswer({ answer, file }) {
    shape(answer.width, answer.height);
    const best = answer.products[0];
    title(headline(answer), best ? facts(best, percent(best.probability)) : []);
    if (best?.photo) byId("reference").replaceChildren(reference(best, `Reference photo of ${nameOf(best)}`), make("span", { class: "small" }, "Reference"));
    byId("photo").alt = `The photo: ${headline(answer)}`;
    byId("reasons").replaceChildren(...reasonItems(answer.reasons));
    byId("candidates-section").hidden = answer.products.length < 2;
    byId("candidates").classList.toggle("with-photos", answer.products.some(({ photo }) => photo));
    byId("candidates").replaceChildren(...answer.products.map(candidate));
    this.boxes.show(answer.tags, answer.width, answer.height);
    byId("quality").replaceChildren(...qualityParts(answer));
    byId("link-field").hidden = true;
    Object.assign(byId("link"), { hidden: !file, textContent: "Copy link to this result" });
    byId("link").nextElementSibling.textContent = file
      ? "The link holds the answer and a thumbnail, not the photo."
      : "Opened from a link, which holds the answer and a thumbnail. The photo itself was never stored.";
  }

  #showProblem(item) {
    const { title: words, detail, hint, retry } = problemWords(item.problem);
    title(words);
    byId("photo").alt = "";
    byId("problem").replaceChildren(
      hint ? make("p", {}, hint) : "",
      detail ? make("p", { class: "small" }, `The server says: ${detail}`) : "",
      retry ? make("button", { type: "button", click: () => this.retry(item) }, "Try again") : "",
    );
  }
}

function shape(width, height) {
  byId("stage").style.setProperty("--ratio", width / height);
}

/** Names may be of any script, so each is isolated from what stands around it. */
function title(text, below = []) {
  byId("product").replaceChildren(make("bdi", {}, text));
  byId("product").classList.toggle("long", text.length > LONG_CHARS);
  byId("group").replaceChildren(...below);
  byId("reference").replaceChildren();
}

/** What is told first, the group, the id where a title stands above it, and the way to the shop; each in a span. */
function facts({ label, title: name, group, group_title, link }, ...first) {
  const texts = [...first, group_title ?? (group === label ? null : group), name ? label : null].filter(Boolean);
  const spans = texts.map((text) => make("span", {}, make("bdi", {}, text)));
  // The shop must not learn from where its page was opened, nor get hold of this one.
  const shop = link && make("a", { href: link, rel: "noopener noreferrer", target: "_blank" }, "Open in the shop", make("span", { class: "unseen" }, ` (${name ?? label}, in a new tab)`));
  return shop ? [...spans, make("span", {}, shop)] : spans;
}

function showDecision(answer) {
  const place = byId("decision");
  place.hidden = !answer;
  if (!answer) return;
  const { sign, name, words } = DECISIONS[answer.decision];
  place.dataset.decision = answer.decision;
  place.replaceChildren(make("span", { class: "sign", "aria-hidden": "true" }, sign), make("strong", {}, name), make("span", {}, words));
}

function reasonItems(reasons) {
  if (!reasons.length) return [make("li", {}, make("span", {}, "Nothing speaks against it."))];
  return reasons.map(({ code, action, detail, hint }) =>
    make("li", { "data-decision": action }, make("strong", {}, reasonTitle(code)), make("span", {}, detail), make("span", { class: "hint" }, hint)),
  );
}

function candidate(product) {
  const { probability } = product;
  const bar = make("span", { class: "bar", "aria-hidden": "true" }, make("span"));
  bar.firstChild.style.width = `${100 * probability}%`;
  const name = make("span", { class: "label", title: nameOf(product) }, make("bdi", {}, nameOf(product)));
  const below = make("span", { class: "small facts" }, ...facts(product));
  return make("li", {}, reference(product), name, make("span", { class: "value" }, percent(probability)), bar, below);
}

function qualityParts({ quality, reasons }) {
  if (!quality) return [make("p", { class: "small" }, "It was not measured.")];
  const faults = new Map(reasons.map((reason) => [reason.code, reason]));
  const known = Object.entries(QUALITY).filter(([score]) => typeof quality[score] === "number");
  const hints = known.flatMap(([, [, , code]]) => faults.get(code)?.hint ?? []);
  const rows = known.map(([score, [name, write, code]]) =>
    make("div", { "data-fault": faults.has(code) }, make("dt", {}, name), make("dd", {}, write(quality[score]), faults.has(code) ? make("strong", {}, " !") : null)),
  );
  const summary = hints.length ? make("ul", { class: "hints" }, ...hints.map((hint) => make("li", {}, hint))) : make("p", {}, "✓ Nothing is wrong with it.");
  return [summary, make("details", {}, make("summary", {}, "All scores"), make("dl", { class: "scores" }, ...rows))];
}
