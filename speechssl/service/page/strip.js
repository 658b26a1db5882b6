// The segments below the waveform, at their times.

import { color, prepare } from "./canvas.js";
import { doubt, segmentAt, timedWords } from "./words.js";

const MIN_LABEL = 24;

export class Strip {
  #drawn = null;

  constructor(canvas, { waveform, store, select }) {
    Object.assign(this, { canvas, waveform, store, selected: null });
    waveform.addEventListener("view", () => this.draw());
    for (const name of ["change", "reset"]) store.addEventListener(name, () => this.draw());
    canvas.addEventListener("click", (event) => {
      const { start, end } = waveform.view;
      const time = start + (event.offsetX / canvas.clientWidth) * (end - start);
      const place = segmentAt(store.segments, time);
      if (place >= 0 && store.segments[place].end_s >= time) select(place, time);
    });
  }

  draw() {
    this.#drawn ??= requestAnimationFrame(() => {
      this.#drawn = null;
      this.#paint();
    });
  }

  #paint() {
    const { context, width, height } = prepare(this.canvas);
    const { start, end } = this.waveform.view;
    const { segments } = this.store;
    if (!width || !(end > start)) return;
    const x = (time) => ((time - start) / (end - start)) * width;
    context.font = getComputedStyle(this.canvas).font;
    context.textBaseline = "middle";
    let place = Math.max(0, segmentAt(segments, start) - 3);
    for (; place < segments.length && segments[place].start_s < end; place++) {
      const segment = segments[place];
      const left = x(segment.start_s);
      const wide = Math.max(1, x(segment.end_s) - left - 1);
      const isSelected = segment.id === this.selected;
      context.fillStyle = color(isSelected ? "--select" : segment.checked ? "--checked-soft" : "--soft");
      context.fillRect(left, 0, wide, height);
      if (end - start < 120) this.#doubts(context, segment, x, height);
      if (isSelected) {
        context.strokeStyle = color("--accent");
        context.lineWidth = 2;
        context.strokeRect(left + 1, 1, Math.max(1, wide - 2), height - 2);
      }
      if (wide > MIN_LABEL) this.#label(context, segment, left, wide, height);
    }
  }

  #doubts(context, segment, x, height) {
    context.fillStyle = color("--doubt");
    for (const word of timedWords(segment)) {
      const level = segment.checked ? 0 : doubt(word.confidence);
      if (level) {
        const left = x(word.start_s);
        context.fillRect(left, height - 2 * level, Math.max(2, x(word.end_s) - left), 2 * level);
      }
    }
  }

  #label(context, segment, left, wide, height) {
    const from = Math.max(left, 0); // visible while the beginning is not
    context.save();
    context.beginPath();
    context.rect(left, 0, wide, height);
    context.clip();
    context.fillStyle = color("--ink");
    context.fillText(`${segment.checked ? "✓ " : ""}${segment.text}`, from + 5, height / 2);
    context.restore();
  }
}
