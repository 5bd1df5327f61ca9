/** The document: finding and making elements. Text goes in as text, never as markup. */

/** @returns {any} the element with that id. */
export function byId(id) {
  return document.getElementById(id);
}

/** An element with attributes (`false` and null leave one out; a function becomes a listener) and children (elements or text). */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name, value);
    else if (value !== false && value !== null) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

/** Tells a screen reader, without moving the focus. */
export function announce(text) {
  byId("status").textContent = text;
}

/** A share as a percentage; what is not quite all is never shown as all. */
export function percent(share) {
  if (share < 1 && share >= 0.9995) return ">99.9%";
  return `${(share * 100).toFixed(1)}%`;
}
