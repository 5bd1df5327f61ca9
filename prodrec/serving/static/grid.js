/** Several photos: a card each, counts by decision that filter, and the CSV. */

import { download, toCsv } from "./csv.js";
import { byId, make, percent } from "./dom.js";
import { DECISIONS, headline, problemWords } from "./words.js";

const FILTERS = { all: "All", accept: "Accept", review: "Review", reject: "Reject", failed: "No answer" };

export class Grid {
  #cards = new Map();
  #filter = "all";

  /** @param open is called with the item of a card that is opened. */
  constructor(open) {
    this.open = open;
    byId("csv").addEventListener("click", () => download("prodrec-results.csv", toCsv([...this.#cards.keys()])));
  }

  show(items) {
    this.#filter = "all";
    this.#cards = new Map(items.map((item) => [item, this.#card(item)]));
    byId("cards").replaceChildren(...this.#cards.values());
    byId("filters").replaceChildren(...Object.keys(FILTERS).map((filter) => this.#filterButton(filter)));
    for (const item of items) this.update(item);
  }

  /** Shows what is new of an item. */
  update(item) {
    const card = this.#cards.get(item);
    if (!card) return;
    card.firstChild.replaceChildren(picture(item), ...words(item));
    this.#count();
  }

  /** Sets the focus where a person left. */
  focus(item) {
    (this.#cards.get(item)?.firstChild ?? byId("grid-title")).focus();
  }

  #card(item) {
    return make("li", {}, make("button", { type: "button", class: "card", click: () => this.open(item) }));
  }

  #count() {
    const items = [...this.#cards.keys()];
    const done = items.filter((item) => stateOf(item) !== "waiting").length;
    byId("grid-title").textContent = done === items.length ? `${items.length} photos` : `${done} of ${items.length} photos`;
    Object.assign(byId("grid-progress"), { max: items.length, value: done, hidden: done === items.length });
    for (const button of byId("filters").children) this.#relabel(button, items);
    for (const [item, card] of this.#cards) card.hidden = !fits(item, this.#filter);
  }

  #filterButton(filter) {
    const choose = () => {
      this.#filter = filter;
      this.#count();
    };
    return make("button", { type: "button", class: "chip", "data-filter": filter, click: choose });
  }

  #relabel(button, items) {
    const { filter } = button.dataset;
    const count = items.filter((item) => fits(item, filter)).length;
    button.textContent = `${FILTERS[filter]} ${count}`;
    button.hidden = count === 0;
    button.setAttribute("aria-pressed", String(filter === this.#filter));
  }
}

function stateOf({ answer, problem }) {
  return answer ? answer.decision : problem ? "failed" : "waiting";
}

function fits(item, filter) {
  return filter === "all" || stateOf(item) === filter;
}

function picture({ thumbnail, name }) {
  if (thumbnail) return make("img", { src: thumbnail, alt: "" });
  const suffix = name.includes(".") ? name.split(".").pop().slice(0, 5).toUpperCase() : "?";
  return make("span", { class: "no-picture", "aria-hidden": "true" }, suffix);
}

function words(item) {
  const name = make("span", { class: "small name" }, item.name);
  const state = stateOf(item);
  if (state === "waiting") return [make("span", { class: "title" }, "Waiting …"), name];
  if (state === "failed") return [make("span", { class: "title" }, problemWords(item.problem).title), badge("failed", "✕", "No answer"), name];
  const best = item.answer.products[0];
  const { sign, name: decision } = DECISIONS[state];
  const sure = best ? make("span", { class: "small" }, [best.title ? best.label : null, percent(best.probability)].filter(Boolean).join(" · ")) : null;
  return [make("span", { class: "title" }, make("bdi", {}, headline(item.answer))), make("span", { class: "line" }, badge(state, sign, decision), sure ?? ""), name];
}

function badge(state, sign, text) {
  return make("span", { class: "badge", "data-decision": state }, make("span", { "aria-hidden": "true" }, `${sign} `), text);
}
