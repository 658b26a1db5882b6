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
    className: `segment${segment.checked ? " checked" : ""}${state.isSelected ? " selected" : ""}`,
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
  if (state.isSelected) {
    row.setAttribute("aria-current", "true");
    row.append(tools(segment, index, state.count, act));
  }
  return row;
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
      act.pick(index, place === undefined ? null : Number(place));
    },
    ondblclick: (event) => {
      const place = event.target.closest("[data-word]")?.dataset.word;
      const word = place === undefined ? null : timedWords(segment)[Number(place)];
      act.edit(index, word ? word.at : null);
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

function tools(segment, index, count, act) {
  const button = (text, label, run, isOff = false) =>
    make("button", { type: "button", textContent: text, title: label, disabled: isOff, onclick: run });
  const time = (name, label) =>
    make(
      "label",
      {},
      label,
      make("input", {
        type: "number",
        step: 0.05,
        min: 0,
        value: segment[name].toFixed(2),
        size: 8,
        data: { field: name },
        onchange: (event) => act.times(index, { [name]: Number(event.target.value) }),
      }),
    );
  const speaker = make("input", {
    value: segment.speaker,
    size: 8,
    dir: "auto",
    data: { field: "speaker" },
    onchange: (event) => act.speaker(index, event.target.value.trim()),
  });
  speaker.setAttribute("list", "speakers");
  const isChanged = segment.hypothesis && segment.hypothesis !== segment.text;
  return make(
    "div",
    { className: "tools", role: "toolbar", aria: { label: `Segment ${index + 1}` } },
    button("Edit", "Edit the text (Enter)", () => act.edit(index, null)),
    button("Split", "Split at the cursor, or where it plays (Shift+Enter)", () => act.split(index)),
    button("Join", "Join with the next one (Ctrl+J)", () => act.join(index), index + 1 >= count),
    make("label", {}, "Speaker ", speaker),
    time("start_s", "From "),
    time("end_s", "to "),
    button("Delete", "Take this segment out", () => act.remove(index)),
    isChanged
      ? make("p", { className: "was" }, "Model: ", make("bdi", { textContent: segment.hypothesis }))
      : null,
  );
}
