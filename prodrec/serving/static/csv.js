/** Results as a CSV file that a spreadsheet opens safely. */

import { nameAndId } from "./words.js";

const COLUMNS = ["name", "decision", "product", "title", "group", "group_title", "link", "probability", "reasons", "tags", "problem", "width", "height", "sha256", "bundle_id"];

/** CSV (RFC 4180, with the mark by which spreadsheets know UTF-8) of items, in their order. */
export function toCsv(items) {
  const rows = [COLUMNS, ...items.map((item) => COLUMNS.map((column) => valueOf(item)[column] ?? ""))];
  return `\ufeff${rows.map((row) => row.map(cell).join(",")).join("\r\n")}\r\n`;
}

/** Offers text as a download. */
export function download(name, text) {
  const url = URL.createObjectURL(new Blob([text], { type: "text/csv;charset=utf-8" }));
  const link = document.createElement("a");
  Object.assign(link, { href: url, download: name });
  link.click();
  // The browser has opened it by then. Source: assumed, a minute is ample.
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

function valueOf({ name, answer, problem }) {
  if (!answer) return { name, problem: problem ? `${problem.code}: ${problem.detail}` : "no answer yet" };
  const { label, title, group, group_title, link, probability } = answer.products[0] ?? {};
  const reasons = answer.reasons.map((reason) => `${reason.code}: ${reason.detail}`).join("; ");
  const tags = counts((answer.tags ?? []).map(nameAndId));
  const { decision, width, height, sha256, bundle_id } = answer;
  return { name, decision, product: label, title, group, group_title, link, probability, reasons, tags, width, height, sha256, bundle_id };
}

function counts(labels) {
  const found = new Map();
  for (const label of labels) found.set(label, (found.get(label) ?? 0) + 1);
  return [...found].map(([label, count]) => `${label} x${count}`).join("; ");
}

/** A text that a spreadsheet would take for a formula gets an apostrophe in front. Source: OWASP, CSV Injection. */
function cell(value) {
  if (typeof value === "number") return String(value);
  const safe = /^[\s]*[=+\-@＝＋－＠]|^[\t\r\n]/.test(value) ? `'${value}` : value;
  return /[",\r\n;']/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}
