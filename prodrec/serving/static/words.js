/** What codes mean to a person. The server's own words (`detail`, `hint`) stand beside them. */

export const DECISIONS = {
  accept: { sign: "✓", name: "Accept", words: "it may go live" },
  review: { sign: "?", name: "Review", words: "a person should look" },
  reject: { sign: "✕", name: "Reject", words: "it cannot be used" },
};

const REASONS = {
  not_calibrated: "The classifier is not calibrated",
  part_of_listing: "One photo of a listing is not enough",
  unknown_product: "It looks like none of the known products",
  unsure: "Not sure enough",
  category_mismatch: "Another category than declared",
  nothing_found: "Nothing is found on the photo",
  several_products: "Several things are on the photo",
  too_small: "The photo is small",
  long_side: "The photo is very long",
  blurred: "The photo is blurred",
  too_dark: "The photo is dark",
  overexposed: "The photo is overexposed",
  low_contrast: "The photo has little contrast",
  blank: "The photo is nearly empty",
  wide_border: "The photo has a wide border",
  background_not_white: "The background is not white",
};

const PROBLEMS = {
  not_an_image: ["This is not an image", "Choose a photo: JPEG, PNG, WebP, GIF, BMP, TIFF, HEIC or AVIF."],
  unsupported_format: ["This kind of file is not supported", "Save it as JPEG or PNG, and try again."],
  truncated: ["The file is damaged or incomplete", "Copy or export it once more."],
  too_large: ["The file is too large", "Save the photo smaller, and try again."],
  too_many_pixels: ["The photo has too many pixels", "Save it smaller, and try again."],
  too_slow_body: ["Sending took too long", "Check the connection, and try again."],
  too_costly: ["The photo is built so that reading it takes too long", "Save it anew as JPEG, and try again."],
  too_slow: ["The photo took too long to read", "Save it as JPEG, and try again."],
  crashed: ["The photo could not be read", "Save it as JPEG, and try again."],
  timeout: ["The server took too long", "Try again in a moment."],
  unreachable: ["The connection broke each time", "The file may be too large, or it has changed or moved since you chose it."],
  cannot_explain: ["There is no heat map for this", "Try the other method."],
  internal: ["Something went wrong on the server", "Try again; if it stays so, tell whoever runs it."],
};

// Another try may end otherwise.
const PASSING = new Set(["timeout", "too_slow_body", "unreachable", "internal", "crashed", "too_slow"]);

/** A score of a photo: its name, how it is written, and the reason that says it is a fault. */
export const QUALITY = {
  short_side: ["Short side", (score) => `${score} px`, "too_small"],
  aspect: ["Long to short side", (score) => `${score.toFixed(2)} : 1`, "long_side"],
  sharpness: ["Sharpness", (score) => score.toFixed(2), "blurred"],
  brightness: ["Brightness", share, null],
  darkness: ["Missing light", share, "too_dark"],
  contrast: ["Contrast", share, "low_contrast"],
  blown: ["Blown out", share, "overexposed"],
  blank: ["One flat colour", share, "blank"],
  border: ["Border", share, "wide_border"],
  white_background: ["White rim", share, "background_not_white"],
};

function share(score) {
  return `${Math.round(score * 100)}%`;
}

export function reasonTitle(code) {
  return REASONS[code] ?? PROBLEMS[code]?.[0] ?? plain(code);
}

/** {title, detail, hint, retry: whether another try may help} of a `Problem`. */
export function problemWords(problem) {
  const [title, hint] = PROBLEMS[problem.code] ?? [plain(problem.code), ""];
  const trace = problem.code === "internal" && problem.requestId ? `Request ${problem.requestId}` : "";
  return { title, detail: problem.detail || trace, hint: hint || problem.hint, retry: PASSING.has(problem.code) };
}

/** What people call a product or tag. */
export function nameOf({ title, label }) {
  return title ?? label;
}

/** The same, with its id where that is another word. */
export function nameAndId({ title, label }) {
  return title ? `${title} (${label})` : label;
}

/** What an answer shows, in a few words. */
export function headline(answer) {
  const best = answer.products[0];
  if (best) return nameOf(best);
  const labels = [...new Set((answer.tags ?? []).map(nameOf))];
  return labels.length ? labels.slice(0, 3).join(", ") : "No product";
}

function plain(code) {
  const words = code.replaceAll("_", " ");
  return words.charAt(0).toUpperCase() + words.slice(1);
}
