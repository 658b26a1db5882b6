// A fine-tuning on what was checked, and how far it is.

import * as api from "./api.js";
import { alarm, make, say } from "./say.js";
import { clock } from "./words.js";

const STATES = {
  none: "",
  running: "Learning…",
  stopping: "Stopping: the state is saved…",
  done: "Done.",
  stopped: "Stopped; what was learned until then is kept.",
  failed: "The fine-tuning failed:",
};

export class Learn {
  #events = null;
  #state = "none";

  /** `save()` resolves when what is changed is saved: only that is learned from. */
  constructor(panel, save) {
    this.panel = panel;
    this.save = save;
    this.minutes = make("input", { type: "number", min: 1, max: 1440, step: 1, value: 10 });
    this.start = make("button", { type: "button", className: "primary", textContent: "Learn", onclick: () => this.#begin() });
    this.stop = make("button", { type: "button", textContent: "Stop", hidden: true, onclick: () => this.#end() });
    this.bar = make("progress", { max: 1, value: 0, hidden: true, aria: { label: "Learning" } });
    this.facts = make("dl", { className: "facts" });
    this.state = make("p", { className: "state" });
    this.lines = make("pre", { tabIndex: 0, aria: { label: "What the command says" } });
    const more = make("details", {}, make("summary", { textContent: "What the command says" }), this.lines);
    this.panel.append(
      make("p", {}, "Starts a fine-tuning of the model on the segments that are checked. It is measured by the model's own validation set, or by one segment in six, which is not learned from."),
      make("p", {}, make("label", {}, "Minutes ", this.minutes), " ", this.start, " ", this.stop),
      this.bar,
      this.state,
      this.facts,
      more,
    );
  }

  /** Look how far it is, now and while the panel is open. */
  watch() {
    if (this.#events) return;
    this.#events = api.learnEvents();
    this.#events.onmessage = (event) => this.#show(JSON.parse(event.data));
    this.#events.onerror = () => {
      if (this.#events.readyState === EventSource.CLOSED) this.rest();
    };
  }

  rest() {
    this.#events?.close();
    this.#events = null;
  }

  async #begin() {
    this.start.disabled = true;
    try {
      await this.save();
      this.#show(await api.learn(Number(this.minutes.value)));
      this.watch();
      say("Learning has begun.");
    } catch (error) {
      this.start.disabled = false;
      this.state.textContent = error.message;
      alarm(error.message);
    }
  }

  async #end() {
    try {
      this.#show(await api.stopLearning());
    } catch (error) {
      alarm(error.message);
    }
  }

  #show(now) {
    const isRunning = ["running", "stopping"].includes(now.state);
    this.start.disabled = isRunning;
    this.stop.hidden = !isRunning;
    this.bar.hidden = !isRunning;
    this.bar.value = now.minutes ? Math.min(1, now.time_s / (60 * now.minutes)) : 0;
    this.lines.textContent = now.said.join("\n");
    const last = now.state === "failed" ? ` ${now.said.at(-1) ?? ""}` : "";
    this.state.textContent = `${STATES[now.state]}${last}`;
    if (now.state !== this.#state && this.#state === "running") say(this.state.textContent);
    this.#state = now.state;
    const percent = (value) => `${(100 * value).toFixed(1)} %`;
    const rows = [
      ["Labels", now.labels && `${now.labels}, ${clock(now.seconds, 0)}`],
      ["Held out", now.held_out || null],
      ["Updates", now.step || null],
      ["Time", now.time_s ? `${clock(now.time_s, 0)} of ${clock(60 * now.minutes, 0)}` : null],
      ["Loss", now.loss?.toFixed(3)],
      ["Words wrong", now.wer === null ? null : percent(now.wer)],
      ["Letters wrong", now.cer === null ? null : percent(now.cer)],
      ["Model", now.model || null],
    ];
    const known = rows.filter(([, value]) => value);
    this.facts.replaceChildren(
      ...known.flatMap(([name, value]) => [make("dt", { textContent: name }), make("dd", { textContent: value })]),
    );
  }
}
