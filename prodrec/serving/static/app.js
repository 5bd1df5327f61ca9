/** The page: takes photos, asks the server, and shows one photo, several, or a result from a link. */

import { readBundle, recognize } from "./api.js";
import { Detail } from "./detail.js";
import { announce, byId } from "./dom.js";
import { Grid } from "./grid.js";
import { HeatPanel } from "./heat_panel.js";
import { fromLink, isLink, toLink } from "./link.js";
import { Patience } from "./patience.js";
import { listen, thumbnails } from "./photos.js";
import { DECISIONS, headline, problemWords } from "./words.js";

// Requests at once; the server joins them to a batch. Source: assumed.
const LANES = 4;
// Of a file's name, characters. Source: assumed.
const NAME_CHARS = 200;

const patience = new Patience();
const heat = new HeatPanel(patience);
const detail = new Detail((item) => {
  recognizeAll([item]);
  byId("product").focus();
});
const grid = new Grid(open);
let items = [];
let shown = null;
let aborter = new AbortController();

/** A new set of photos takes the place of the last; what is still on its way is given up. */
function take(files) {
  if (!files.length) return announce((byId("intake-words").textContent = "Folders are not read: open the folder, and drop its photos."));
  start(files.map((file) => ({ name: file.name.slice(0, NAME_CHARS), file, thumbnail: null, small: null, answer: null, problem: null })));
  // The step back leads to what was before the first photos, not to photos that are gone.
  const step = history.state ? "replaceState" : "pushState";
  history[step]({ at: items.length === 1 ? 0 : -1 }, "", location.pathname);
  show(items.length === 1 ? items[0] : null);
  announce(items.length === 1 ? "Looking at the photo" : `Looking at ${items.length} photos`);
  recognizeAll(items);
}

function start(next) {
  aborter.abort();
  aborter = new AbortController();
  patience.forget();
  items = next;
  grid.show(items);
}

async function recognizeAll(wanted) {
  const { signal } = aborter;
  for (const item of wanted) Object.assign(item, { answer: null, problem: null });
  const queue = wanted.values();
  const lane = async () => {
    for (const item of queue) await recognizeOne(item, signal);
  };
  wanted.forEach(refresh);
  await Promise.all(Array.from({ length: LANES }, lane));
  if (!signal.aborted && wanted.length > 1) announce(`${wanted.length} photos are done`);
}

async function recognizeOne(item, signal) {
  if (!item.thumbnail) addThumbnails(item, signal);
  try {
    item.answer = await patience.run(() => recognize(item.file, signal), signal);
  } catch (problem) {
    if (signal.aborted) return;
    item.problem = problem;
  }
  if (signal.aborted) return;
  refresh(item);
  if (item === shown) announce(spoken(item));
}

async function addThumbnails(item, signal) {
  const { card, link } = await thumbnails(item.file, signal);
  Object.assign(item, { thumbnail: card, small: link });
  if (!signal.aborted) grid.update(item);
}

function spoken({ answer, problem }) {
  if (problem) return problemWords(problem).title;
  return `${headline(answer)}. ${DECISIONS[answer.decision].name}: ${DECISIONS[answer.decision].words}.`;
}

function refresh(item) {
  grid.update(item);
  if (item !== shown) return;
  detail.show(item);
  heat.show(item);
}

/** Opens one of several, and leaves a step to go back to. */
function open(item) {
  history.pushState({ at: items.indexOf(item) }, "");
  show(item);
  byId("product").focus();
}

function show(item) {
  const left = shown;
  shown = item;
  const isMany = item === null && items.length > 1;
  document.body.dataset.view = item ? "detail" : isMany ? "grid" : "empty";
  byId("intake-title").textContent = "Which product is this?";
  byId("intake-title").hidden = byId("intake-privacy").hidden = Boolean(item) || isMany;
  byId("intake-words").textContent = item || isMany ? "Drop or paste other photos, or choose some." : "Drop a photo here, paste it, or choose one. Several at once are fine.";
  byId("grid").hidden = !isMany;
  byId("detail").hidden = !item;
  document.title = `${item ? item.name : isMany ? `${items.length} photos` : "Which product is this?"} · prodrec`;
  if (item) showDetail(item);
  else {
    detail.close();
    heat.show(null);
    if (isMany && left) grid.focus(left);
  }
}

function showDetail(item) {
  const at = items.indexOf(item);
  byId("steps").hidden = items.length < 2;
  byId("position").textContent = `${at + 1} of ${items.length}`;
  byId("previous").disabled = at === 0;
  byId("next").disabled = at === items.length - 1;
  detail.show(item);
  heat.show(item);
}

function step(by) {
  const item = items[items.indexOf(shown) + by];
  if (!item) return;
  history.replaceState({ at: items.indexOf(item) }, "");
  show(item);
  announce(item.answer || item.problem ? `${item.name}: ${spoken(item)}` : item.name);
}

async function openAddress() {
  const { hash } = location;
  if (!isLink(hash)) return show(items.length === 1 ? items[0] : (items[history.state?.at] ?? null));
  const found = await fromLink(hash).catch(() => null);
  // Meanwhile a photo may have come.
  if (location.hash !== hash) return;
  start(found ? [{ ...found, small: found.thumbnail, file: null, problem: null }] : []);
  show(items[0] ?? null);
  if (found) return announce(`A result from a link: ${spoken(items[0])}`);
  byId("intake-title").textContent = "This link holds no result";
  byId("intake-words").textContent = "It may have been cut short. Ask for it again, or choose a photo.";
}

async function copyLink() {
  const link = await toLink(shown, shown.small);
  byId("link-text").value = link;
  try {
    await navigator.clipboard.writeText(link);
    announce("The link is copied");
    byId("link").textContent = "Link copied";
    setTimeout(() => (byId("link").textContent = "Copy link to this result"), 3000);
  } catch {
    // No clipboard without HTTPS, or without leave.
    byId("link-field").hidden = false;
    byId("link-text").select();
  }
}

async function showBundle() {
  const { classifier, tagger } = await patience.run(() => readBundle(), new AbortController().signal);
  const parts = [
    classifier && `Classifier ${classifier.arch}, ${classifier.labels} products${classifier.groups ? ` in ${classifier.groups} groups` : ""} (${classifier.id.slice(0, 8)})`,
    tagger && `Tagger ${tagger.arch}, ${tagger.labels} labels (${tagger.id.slice(0, 8)})`,
  ];
  byId("bundle").textContent = parts.filter(Boolean).join(" · ");
}

listen(take);
byId("back").addEventListener("click", () => history.back());
byId("previous").addEventListener("click", () => step(-1));
byId("next").addEventListener("click", () => step(1));
byId("link").addEventListener("click", copyLink);
window.addEventListener("popstate", openAddress);
openAddress();
showBundle().catch(() => (byId("bundle").textContent = ""));
