// What to correct first, as `speechssl next` has chosen it.

import * as api from "./api.js";
import { make } from "./say.js";
import { clock } from "./words.js";

/** Events: "open" with detail {id, segment}. */
export class Queue extends EventTarget {
  #items = [];

  constructor(panel) {
    super();
    this.panel = panel;
  }

  async refresh() {
    try {
      this.#items = (await api.queue()).items;
      this.draw();
    } catch (error) {
      this.panel.replaceChildren(make("p", { className: "problem", textContent: error.message }));
    }
  }

  draw() {
    if (!this.#items.length) {
      this.panel.replaceChildren(
        make("p", { className: "empty" }, "Nothing is queued. ", make("code", { textContent: "speechssl next MODEL RECORDINGS --minutes 30 --out DESK" }), " chooses what teaches the model most."),
      );
      return;
    }
    const seconds = this.#items.reduce((sum, item) => sum + item.end_s - item.start_s, 0);
    const head = `${this.#items.length} segments, ${Math.ceil(seconds / 60)} min, the most useful first`;
    const rows = this.#items.slice(0, 500).map((item) => this.#row(item));
    this.panel.replaceChildren(
      make("p", { className: "facts", textContent: head }),
      make("ol", { className: "entries" }, ...rows),
    );
  }

  #row(item) {
    const { name, start_s, hypothesis, confidence, reason } = item;
    const facts = `${clock(start_s, 0)} · sure of ${Math.round(100 * confidence)} %`;
    return make(
      "li",
      { className: "entry" },
      make(
        "button",
        { type: "button", onclick: () => this.#open(item) },
        make("span", { className: "name", dir: "auto", textContent: hypothesis || "(no word)" }),
        make("span", { className: "facts" }, make("bdi", { textContent: name }), ` · ${facts}`),
        reason ? make("span", { className: "facts", textContent: reason }) : null,
      ),
    );
  }

  #open(item) {
    const detail = { id: item.recording, segment: item.segment, start_s: item.start_s };
    this.dispatchEvent(new CustomEvent("open", { detail }));
  }
}
