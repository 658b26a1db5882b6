// The recordings of the desk: the list, and how others come in.

import * as api from "./api.js";
import { Recorder } from "./recorder.js";
import { alarm, make, say } from "./say.js";
import { clock } from "./words.js";

/** Events: "open" with detail {id}; "listed" with detail of the service's answer. */
export class Recordings extends EventTarget {
  rows = [];
  current = null;
  #uploads = new Map(); // element -> share

  constructor({ list, drop, choose, files, record, meter }) {
    super();
    Object.assign(this, { list, meter });
    this.#acceptDrops(drop);
    choose.addEventListener("click", () => files.click());
    files.addEventListener("change", () => {
      this.add([...files.files]);
      files.value = "";
    });
    this.recorder = new Recorder();
    record.addEventListener("click", () => this.#record(record));
  }

  async refresh() {
    const answer = await api.recordings();
    this.rows = answer.recordings;
    this.draw();
    this.dispatchEvent(new CustomEvent("listed", { detail: answer }));
  }

  /** What is known of one without asking again. */
  update(id, fields) {
    const row = this.rows.find((each) => each.id === id);
    if (!row) return;
    Object.assign(row, fields);
    const old = this.list.querySelector(`[data-id="${id}"]`);
    const isFocused = old?.contains(document.activeElement);
    const fresh = this.#row(row);
    old?.replaceWith(fresh);
    if (isFocused) fresh.querySelector("button").focus();
  }

  draw() {
    const uploads = [...this.#uploads.keys()];
    const rows = this.rows.map((row) => this.#row(row));
    const nothing = make("li", { className: "empty", textContent: "There is no recording in the desk yet." });
    this.list.replaceChildren(...uploads, ...(rows.length || uploads.length ? rows : [nothing]));
  }

  /** Send files to the desk, one after the other. */
  async add(files) {
    for (const file of files) {
      const bar = make("progress", { max: 1, value: 0, aria: { label: file.name } });
      const item = make("li", { className: "upload" }, make("bdi", { textContent: file.name }), bar);
      this.#uploads.set(item, bar);
      this.list.prepend(item);
      let made = null;
      try {
        made = await api.upload(file.name, file, (share) => (bar.value = share));
        say(`${made.name} is in the desk.`);
      } catch (error) {
        alarm(error.message);
        item.replaceChildren(make("p", { className: "problem", textContent: error.message }));
        setTimeout(() => item.remove(), 15000);
      }
      this.#uploads.delete(item);
      if (made) item.remove();
      await this.refresh();
      if (made && files.length === 1) this.#open(made.id);
    }
  }

  #row(row) {
    const share = row.segments ? row.checked / row.segments : 0;
    const state = row.problem
      ? row.problem
      : row.is_transcribed
        ? `${row.checked} of ${row.segments} checked`
        : "no text yet";
    const button = make(
      "button",
      { type: "button", onclick: () => this.#open(row.id) },
      make("span", { className: "name", dir: "auto", textContent: row.name }),
      make("span", { className: "facts" }, make("span", { textContent: clock(row.duration_s, 0) }), ` · ${state}`),
      make("progress", { max: 1, value: share, aria: { hidden: true } }),
    );
    if (row.id === this.current) button.setAttribute("aria-current", "true");
    const classes = row.problem ? "entry bad" : "entry";
    return make("li", { className: classes, data: { id: row.id } }, button);
  }

  #open(id) {
    this.dispatchEvent(new CustomEvent("open", { detail: { id } }));
  }

  /** Files may be dropped anywhere on the page. */
  #acceptDrops(drop) {
    let depth = 0;
    const hasFiles = (event) => event.dataTransfer?.types.includes("Files");
    const mark = (step) => {
      depth = Math.max(0, depth + step);
      drop.classList.toggle("over", depth > 0);
    };
    addEventListener("dragenter", (event) => hasFiles(event) && mark(1));
    addEventListener("dragleave", (event) => hasFiles(event) && mark(-1));
    addEventListener("dragover", (event) => hasFiles(event) && event.preventDefault());
    addEventListener("drop", (event) => {
      if (!hasFiles(event)) return;
      event.preventDefault();
      mark(-depth);
      this.add([...event.dataTransfer.files]);
    });
  }

  async #record(button) {
    if (this.recorder.isRunning) {
      button.setAttribute("aria-pressed", "false");
      button.textContent = "● Record";
      this.meter.hidden = true;
      const blob = await this.recorder.stop();
      const when = new Date().toISOString().slice(0, 19).replaceAll(":", "-");
      const file = new File([blob], `recording-${when}.wav`, { type: "audio/wav" });
      return this.add([file]);
    }
    const [bar, time] = this.meter.children;
    try {
      await this.recorder.start((level, seconds) => {
        bar.style.width = `${Math.round(100 * Math.min(1, level * 1.4))}%`;
        time.textContent = clock(seconds, 0);
      });
    } catch (error) {
      return alarm(`There is no microphone for this page: ${error.message}`);
    }
    this.meter.hidden = false;
    button.setAttribute("aria-pressed", "true");
    button.textContent = "■ Stop";
    return say("Recording.");
  }
}
