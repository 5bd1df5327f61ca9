/** The HTTP API of prodrec (docs/api.md), as promises. Every failure is a `Problem`. */

const KEY = "prodrec-key";
// Where a busy server does not say when to come back, seconds. Source: assumed.
const PATIENCE_S = 2;

/** Why there is no answer: the server's problem document, or `unreachable`. */
export class Problem extends Error {
  constructor({ code, status = 0, detail = "", hint = "", retryAfterS = PATIENCE_S, requestId = "" }) {
    super(detail || code);
    Object.assign(this, { code, status, detail, hint, retryAfterS, requestId });
  }
}

/** What is on one image. */
export function recognize(file, signal) {
  return postImage("/v1/recognize?top_k=5", file, signal);
}

/** The heat map of one image: {label, probability, method, heat, frame, width, height}. */
export function explain(file, { method, label }, signal) {
  return postImage(`/v1/explain?${new URLSearchParams({ method, label })}`, file, signal);
}

/** What the server serves. */
export function readBundle(signal) {
  return send("/v1/bundle", { signal });
}

// Photos that were asked for with a key, by their path. They are small, and the same for ever.
const photos = new Map();

/** Where the photo at a path of the server can be shown from. A picture sends no key, so with one it is fetched. */
export async function readPhoto(path) {
  if (!hasKey()) return path;
  if (!photos.has(path)) {
    const response = await fetch(path, { headers: { Authorization: `Bearer ${sessionStorage.getItem(KEY)}` } });
    if (!response.ok) throw await problemOf(response);
    photos.set(path, URL.createObjectURL(await response.blob()));
  }
  return photos.get(path);
}

/** Whether the server can answer now. */
export async function isReady(signal) {
  try {
    return (await fetch("/readyz", { cache: "no-store", signal })).ok;
  } catch {
    return false;
  }
}

/** Keeps the API key for this tab. False where it is none that a header can hold. */
export function useKey(key) {
  if (!/^[\x21-\x7e]+$/.test(key)) return false;
  sessionStorage.setItem(KEY, key);
  return true;
}

/** @returns {boolean} whether a key is kept. */
export function hasKey() {
  return sessionStorage.getItem(KEY) !== null;
}

function postImage(path, file, signal) {
  // The type that the browser guesses from the name is not sent: the server looks at the bytes.
  return send(path, { method: "POST", body: file, signal, headers: { "Content-Type": "application/octet-stream" } });
}

async function send(path, { headers = {}, ...options }) {
  const key = sessionStorage.getItem(KEY);
  const all = { Accept: "application/json", ...headers, ...(key ? { Authorization: `Bearer ${key}` } : {}) };
  try {
    const response = await fetch(path, { ...options, headers: all, cache: "no-store" });
    if (response.ok) return await response.json();
    throw await problemOf(response);
  } catch (error) {
    if (error instanceof Problem || options.signal?.aborted) throw error;
    throw new Problem({ code: "unreachable" });
  }
}

async function problemOf(response) {
  const told = await response.json().catch(() => ({}));
  const { status, headers } = response;
  const waitS = Number.parseInt(headers.get("Retry-After") ?? "", 10);
  return new Problem({
    status,
    code: typeof told?.code === "string" ? told.code : codeOf(status),
    detail: typeof told?.detail === "string" ? told.detail : "",
    hint: typeof told?.hint === "string" ? told.hint : "",
    retryAfterS: Number.isFinite(waitS) ? Math.max(1, waitS) : PATIENCE_S,
    requestId: headers.get("X-Request-ID") ?? "",
  });
}

/** What a proxy in front of the server means, which writes no problem document. */
function codeOf(status) {
  return { 401: "no_key", 413: "too_large", 429: "busy", 502: "unreachable", 503: "busy", 504: "timeout" }[status] ?? "internal";
}
