// What can be done to the segment that is selected. It stands in one place above the list, so that
// no row moves when another one is selected.

import { make } from "./say.js";

export class Tools {
  /** `act`: functions of the index (editor.js). */
  constructor(bar, act) {
    this.bar = bar;
    this.index = -1;
    const button = (text, title, run) =>
      make("button", { type: "button", textContent: text, title, onclick: () => run(this.index) });
    const time = (name) =>
      make("input", {
        type: "number",
        step: 0.05,
        min: 0,
        onchange: (event) => act.times(this.index, { [name]: Number(event.target.value) }),
      });
    this.number = make("span", { className: "which" });
    this.edit = button("Edit", "Edit the text (Enter)", (index) => act.edit(index, null));
    this.split = button("Split", "Split at the cursor, or where it plays (Shift+Enter)", act.split);
    this.join = button("Join", "Join with the next one (Ctrl+J)", act.join);
    this.remove = button("Delete", "Take this segment out", act.remove);
    this.speaker = make("input", {
      dir: "auto",
      size: 9,
      onchange: (event) => act.speaker(this.index, event.target.value.trim()),
    });
    this.speaker.setAttribute("list", "speakers");
    this.start = time("start_s");
    this.end = time("end_s");
    this.hypothesis = make("bdi");
    this.was = make("p", { className: "was" }, "Model: ", this.hypothesis);
    const label = (text, field) => make("label", {}, text, " ", field);
    bar.append(this.number, this.edit, this.split, this.join, label("Speaker", this.speaker));
    bar.append(label("From", this.start), label("to", this.end), this.remove, this.was);
  }

  /** Show the segment, or nothing where there is none. */
  update(segment, index, count) {
    this.index = index;
    this.bar.hidden = !segment;
    if (!segment) return;
    this.number.textContent = `${index + 1} / ${count}`;
    this.join.disabled = index + 1 >= count;
    this.#set(this.speaker, segment.speaker);
    this.#set(this.start, segment.start_s.toFixed(2));
    this.#set(this.end, segment.end_s.toFixed(2));
    const isChanged = segment.hypothesis && segment.hypothesis !== segment.text;
    this.was.style.visibility = isChanged ? "visible" : "hidden"; // the place stays
    this.hypothesis.textContent = segment.hypothesis;
    this.was.title = segment.hypothesis;
  }

  #set(field, value) {
    if (field.value !== value) field.value = value;
  }
}
