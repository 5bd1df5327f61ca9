/** A result as a link: the answer and a thumbnail, packed into the part of the address that no server sees. What comes in is hostile until read. */

const PREFIX = "#r=";
const VERSION = 1;
const FIELDS = ["width", "height", "products", "tags", "quality", "decision", "reasons", "bundle_id"];
// A link of 200 boxes has 8 kB; unpacked at most this much is read. Source: assumed.
const MOST_BYTES = 256 * 1024;
const MOST = { products: 20, tags: 500, reasons: 60 };
// A reason may hold two titles of 400 characters. Source: `prodrec.labels.LONGEST_TITLE`.
const LONGEST_TEXT = 1200;
const PHOTO = /^\/v1\/photos\/[0-9a-f]{16}$/;
const LARGEST_SIDE_PX = 1e6;
const THUMBNAIL = /^data:image\/jpeg;base64,[A-Za-z0-9+/]{1,40000}={0,2}$/;

/** The address of a result. */
export async function toLink({ name, answer }, thumbnail) {
  const kept = Object.fromEntries(FIELDS.map((field) => [field, answer[field]]));
  const packed = await through(new CompressionStream("deflate-raw"), new TextEncoder().encode(JSON.stringify({ v: VERSION, name, answer: kept, thumbnail })));
  const base64 = btoa(Array.from(packed, (byte) => String.fromCharCode(byte)).join(""));
  return location.origin + location.pathname + PREFIX + base64.replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
}

export function isLink(hash) {
  return hash.startsWith(PREFIX);
}

/** {name, answer, thumbnail} of an address. Throws where it holds no such thing. */
export async function fromLink(hash) {
  const base64 = hash.slice(PREFIX.length).replaceAll("-", "+").replaceAll("_", "/");
  const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
  const unpacked = await through(new DecompressionStream("deflate-raw"), bytes);
  const { v, name, answer, thumbnail } = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(unpacked));
  check(v === VERSION);
  check(thumbnail === null || (typeof thumbnail === "string" && THUMBNAIL.test(thumbnail)));
  return { name: text(name), answer: readAnswer(answer), thumbnail };
}

async function through(stream, bytes) {
  const parts = [];
  let size = 0;
  for await (const part of read(new Blob([bytes]).stream().pipeThrough(stream))) {
    size += part.length;
    check(size <= MOST_BYTES);
    parts.push(part);
  }
  return new Uint8Array(await new Blob(parts).arrayBuffer());
}

async function* read(stream) {
  const reader = stream.getReader();
  try {
    for (let step = await reader.read(); !step.done; step = await reader.read()) yield step.value;
  } finally {
    await reader.cancel().catch(() => undefined);
  }
}

function readAnswer(answer) {
  check(["accept", "review", "reject"].includes(answer.decision));
  const [width, height] = [number(answer.width, 1, LARGEST_SIDE_PX), number(answer.height, 1, LARGEST_SIDE_PX)];
  const quality = answer.quality && Object.fromEntries(Object.entries(answer.quality).slice(0, 20).map(([score, value]) => [text(score), number(value, 0, 1e6)]));
  return {
    width,
    height,
    quality,
    decision: answer.decision,
    bundle_id: text(answer.bundle_id),
    products: list(answer.products, MOST.products, readProduct),
    tags: answer.tags === null ? null : list(answer.tags, MOST.tags, (tag) => readTag(tag, width, height)),
    reasons: list(answer.reasons, MOST.reasons, readReason),
  };
}

/** Of a name what people read, and the photo that this server has; an address of elsewhere is not taken from strangers. */
function readNames({ title = null, group_title = null, photo = null }) {
  check(photo === null || PHOTO.test(text(photo)));
  return { title: textOrNull(title), group_title: textOrNull(group_title), photo, link: null };
}

function readProduct({ label, group, probability, ...names }) {
  return { label: text(label), group: textOrNull(group), probability: number(probability, 0, 1), ...readNames(names) };
}

function readTag({ label, score, box, ...names }, width, height) {
  const [left, top, right, bottom] = list(box, 4, (edge) => number(edge, -1, LARGEST_SIDE_PX));
  check(left <= right && right <= width + 1 && top <= bottom && bottom <= height + 1);
  return { label: text(label), score: number(score, 0, 1), box: [left, top, right, bottom], ...readNames(names) };
}

function readReason({ code, action, detail, hint }) {
  check(["review", "reject"].includes(action));
  return { code: text(code), action, detail: text(detail), hint: text(hint) };
}

function list(values, most, readOne) {
  check(Array.isArray(values) && values.length <= most);
  return values.map(readOne);
}

function number(value, least, most) {
  check(typeof value === "number" && value >= least && value <= most);
  return value;
}

function text(value) {
  check(typeof value === "string" && value.length <= LONGEST_TEXT);
  return value;
}

function textOrNull(value) {
  return value === null ? null : text(value);
}

function check(holds) {
  if (!holds) throw new TypeError("the link holds no result");
}
