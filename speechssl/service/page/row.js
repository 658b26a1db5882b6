// A segment as a row of the list: to read, or to write in.

import { make } from "./say.js";
import { clock, doubt, timedWords } from "./words.js";

const DOUBTS = ["", "doubtful", "very doubtful"];

/**
 * The row of a segment. `state`: {index, count, isSelected, isEditing}; `act`: what the person can
 * do, functions of the index (editor.js).
 */
export function makeRow(segment, state, act) {
  const { index } = state;
  const row = make("li", {
    className: segment.checked ? "segment checked" : "segment",
    data: { index, id: segment.id },
    aria: { setsize: state.count, posinset: index + 1 },
  });
  const begin = clock(segment.start_s, 0);
  const side = make(
    "div",
    { className: "at" },
    make("button", {
      type: "button",
      className: "time",
      textContent: begin,
      aria: { label: `Play segment ${index + 1} from ${begin}` },
      onclick: () => act.play(index),
    }),
    segment.speaker ? make("span", { className: "speaker", dir: "auto", textContent: segment.speaker }) : null,
  );
  const check = make("input", {
    type: "checkbox",
    checked: segment.checked,
    aria: { label: `Segment ${index + 1} is checked` },
    onchange: (event) => act.check(index, event.target.checked),
  });
  const box = make(
    "label",
    { className: "check", title: "Checked: the text is what was said" },
    check,
    make("span", { aria: { hidden: true }, textContent: "checked" }),
  );
  row.append(side, state.isEditing ? writing(segment, index, act) : reading(segment, state, act), box);
  if (state.isSelected) mark(row, true);
  return row;
}

/** Show that a row is selected, or no longer: its words stay the elements that they are. */
export function mark(row, isSelected) {
  row.classList.toggle("selected", isSelected);
  if (isSelected) row.setAttribute("aria-current", "true");
  else row.removeAttribute("aria-current");
  const text = row.querySelector("div.text");
  if (text) text.tabIndex = isSelected ? 0 : -1;
}

/** The text with its words, which follow the sound. */
function reading(segment, { index, isSelected }, act) {
  const text = make("div", {
    className: "text",
    dir: "auto",
    tabIndex: isSelected ? 0 : -1,
    role: "group",
    aria: { label: `Segment ${index + 1}`, keyshortcuts: "Enter" },
    onclick: (event) => {
      const place = event.target.closest("[data-word]")?.dataset.word;
      const word = place === undefined ? null : Number(place);
      // no "dblclick": between two clicks the row may have become another element
      if (event.detail === 2) act.edit(index, word === null ? null : timedWords(segment)[word].at);
      else act.pick(index, word);
    },
  });
  const words = timedWords(segment);
  if (!words.length) text.append(make("span", { className: "nothing", textContent: "(nothing said)" }));
  words.forEach((word, place) => {
    const level = segment.checked ? 0 : doubt(word.confidence);
    const element = level
      ? make("mark", {
          className: `doubt-${level}`,
          title: `${DOUBTS[level]}: right with ${Math.round(100 * word.confidence)} %`,
          aria: { description: `${DOUBTS[level]}, ${Math.round(100 * word.confidence)} percent` },
        })
      : make("span");
    element.dataset.word = place;
    element.textContent = word.text;
    text.append(place ? " " : "", element);
  });
  return text;
}

/** The text to be written in. */
function writing(segment, index, act) {
  const field = make("textarea", {
    className: "text",
    dir: "auto",
    rows: 1,
    value: segment.text,
    spellcheck: false,
    autocapitalize: "off",
    aria: { label: `Text of segment ${index + 1}`, describedby: "keys-of-text" },
    oninput: () => {
      fit(field);
      act.write(index, field.value);
    },
    onblur: (event) => act.leave(index, event),
  });
  requestAnimationFrame(() => fit(field));
  return field;
}

/** As high as its text. */
export function fit(field) {
  field.style.height = "auto";
  field.style.height = `${field.scrollHeight}px`;
}
