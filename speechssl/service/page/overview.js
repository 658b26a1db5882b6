// The whole recording in one line: its loudness, what is checked, what is seen, where it plays.

import { color, prepare } from "./canvas.js";
import { make } from "./say.js";

export class Overview {
  #peaks = null;
  #drawn = null;
  #frame = make("div", { className: "frame", hidden: true });
  #cursor = make("div", { className: "cursor" });

  constructor(canvas, { waveform, player, store }) {
    Object.assign(this, { canvas, waveform, player, store });
    canvas.after(this.#frame, this.#cursor);
    waveform.addEventListener("level0", (event) => {
      this.#peaks = event.detail;
      this.draw();
    });
    waveform.addEventListener("view", () => this.#move());
    player.addEventListener("time", () => this.#move());
    for (const name of ["change", "reset"]) store.addEventListener(name, () => this.draw());
    new ResizeObserver(() => this.draw()).observe(canvas);
    const seek = (event) => {
      if (event.buttons !== 1 || !waveform.duration) return;
      const box = canvas.getBoundingClientRect();
      const share = Math.min(1, Math.max(0, (event.clientX - box.left) / box.width));
      player.time = share * waveform.duration;
      waveform.show(player.time);
    };
    canvas.addEventListener("pointerdown", seek);
    canvas.addEventListener("pointermove", seek);
  }

  clear() {
    this.#peaks = null;
    this.#frame.hidden = true;
    prepare(this.canvas);
  }

  /** What moves while it plays is moved, and the rest not drawn again. */
  #move() {
    const { duration, view } = this.waveform;
    if (!duration) return;
    this.#frame.hidden = false;
    const percent = (time) => `${(100 * time) / duration}%`;
    this.#frame.style.left = percent(view.start);
    this.#frame.style.width = percent(view.end - view.start);
    this.#cursor.style.left = percent(this.player.time);
  }

  /** At the next frame, once. */
  draw() {
    this.#drawn ??= requestAnimationFrame(() => {
      this.#drawn = null;
      this.#paint();
    });
  }

  #paint() {
    const { context, width, height } = prepare(this.canvas);
    const { duration, gain } = this.waveform;
    if (!duration || !width) return;
    const x = (time) => (time / duration) * width;
    context.fillStyle = color("--checked-soft");
    for (const segment of this.store.segments) {
      if (segment.checked) {
        const from = x(segment.start_s);
        context.fillRect(from, 0, Math.max(1, x(segment.end_s) - from), height);
      }
    }
    context.fillStyle = color("--wave");
    const middle = height / 2;
    const { up, down } = this.#peaks ?? { up: [], down: [] };
    for (let column = 0; column < width && up.length; column++) {
      const from = Math.floor((column / width) * up.length);
      const until = Math.max(from + 1, Math.floor(((column + 1) / width) * up.length));
      let high = 0;
      let low = 0;
      for (let k = from; k < until; k++) {
        if (up[k] > high) high = up[k];
        if (down[k] > low) low = down[k];
      }
      const top = high * gain * middle;
      context.fillRect(column, middle - top, 1, Math.max(1, top + low * gain * middle));
    }
    this.#move();
  }
}
