/** Waiting for the server: while it is busy or down, or until it is given a key. One wait serves all requests, and one notice tells of it. */

import { hasKey, isReady, Problem, useKey } from "./api.js";
import { byId } from "./dom.js";

// Between two looks at a server that is down, seconds: the first, and the longest. Source: assumed.
const FIRST_LOOK_S = 1;
const LONGEST_LOOK_S = 8;
// How often a connection may break while the server is up before the file is to blame. Source: assumed.
const BREAKS = 2;
// What waiting mends, and how to wait.
const WAITS = { busy: "busy", unreachable: "down", not_ready: "down", no_key: "key" };

export class Patience {
  // {over: a promise, finish: resolves it, skip: ends the countdown now}; null while nothing is waited for.
  #wait = null;

  constructor() {
    byId("notice-retry").addEventListener("click", () => this.#wait?.skip());
    window.addEventListener("online", () => this.#wait?.skip());
    byId("key-form").addEventListener("submit", (event) => {
      event.preventDefault();
      if (useKey(byId("key").value.trim())) this.forget();
      else tell("This is no key.", "A key has no spaces and only plain characters.");
    });
  }

  /** Makes a request again and again until it has an answer, or a problem that waiting does not mend. */
  async run(request, signal) {
    for (let breaks = 0; ; ) {
      try {
        return await request(signal);
      } catch (problem) {
        if (signal.aborted || !(problem instanceof Problem) || !(problem.code in WAITS)) throw problem;
        if (problem.code === "unreachable" && breaks++ === BREAKS) throw problem;
        if (!this.#wait) this.#begin(problem);
        await this.#wait.over;
        signal.throwIfAborted();
      }
    }
  }

  /** Ends the wait. */
  forget() {
    byId("notice").hidden = true;
    const wait = this.#wait;
    this.#wait = null;
    clearInterval(wait?.ticks);
    wait?.finish();
  }

  #begin(problem) {
    const wait = { skip: () => undefined };
    wait.over = new Promise((finish) => (wait.finish = finish));
    this.#wait = wait;
    const kind = WAITS[problem.code];
    byId("notice").dataset.kind = kind;
    byId("notice-retry").hidden = kind === "key";
    byId("key-form").hidden = kind !== "key";
    byId("notice-countdown").textContent = "";
    if (kind === "busy") this.#outlastBusy(wait, problem.retryAfterS);
    else if (kind === "down") this.#outlastDown(wait, FIRST_LOOK_S);
    else askForKey();
  }

  #outlastBusy(wait, seconds) {
    tell("The server is busy.", "The photo is sent again by itself.");
    countDown(wait, seconds, () => this.forget());
  }

  async #outlastDown(wait, seconds) {
    const ready = await isReady();
    if (this.#wait !== wait) return;
    if (ready) return this.forget();
    tell(navigator.onLine ? "The server does not answer." : "You are offline.", "Your photos are kept on this page and sent when it is back.");
    countDown(wait, seconds, () => this.#outlastDown(wait, Math.min(seconds * 2, LONGEST_LOOK_S)));
  }
}

function askForKey() {
  tell(hasKey() ? "This key is not accepted." : "A key is needed.", "Ask whoever runs the server for one. It is kept for this tab only.");
  byId("key").value = "";
  byId("key").focus();
}

function tell(title, text) {
  byId("notice-title").textContent = title;
  byId("notice-text").textContent = text;
  byId("notice").hidden = false;
}

function countDown(wait, seconds, then) {
  const end = performance.now() + seconds * 1000;
  wait.skip = () => {
    clearInterval(wait.ticks);
    wait.skip = () => undefined;
    byId("notice-countdown").textContent = "Trying now …";
    then();
  };
  const show = () => {
    const left = Math.ceil((end - performance.now()) / 1000);
    if (left <= 0) wait.skip();
    else byId("notice-countdown").textContent = `Trying again in ${left} s`;
  };
  wait.ticks = setInterval(show, 200);
  show();
}
