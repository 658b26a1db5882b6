// What is said aloud by a screen reader, and small helpers to build elements.

const byId = (id) => document.getElementById(id);

/** Say a sentence when there is a pause. */
export function say(text) {
  const live = byId("live");
  live.textContent = live.textContent === text ? `${text}\u00a0` : text;
}

/** Say at once that something went wrong. */
export function alarm(text) {
  byId("alarm").textContent = text;
}

/** An element with properties, `data` and `aria` attributes and children (nodes or texts). */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name === "data") Object.assign(element.dataset, value);
    else if (name === "aria") {
      for (const [key, text] of Object.entries(value)) element.setAttribute(`aria-${key}`, text);
    } else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name in element) element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}
