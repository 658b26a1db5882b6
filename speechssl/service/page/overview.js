// The whole recording in one line: its loudness, what is checked, what is seen, where it plays.

import { color, prepare } from "./canvas.js";

export class Overview {
  #peaks = null;
  #drawn = null;

  constructor(canvas, { waveform, player, store }) {
    Object.assign(this, { canvas, waveform, player, store });
    waveform.addEventListener("level0", (event) => {
      this.#peaks = event.detail;
      this.draw();
    });
    waveform.addEventListener("view", () => this.draw());
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
    player.addEventListener("time", () => this.draw());
  }

  clear() {
    this.#peaks = null;
    prepare(this.canvas);
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
    const { duration, view, gain } = this.waveform;
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
    context.strokeStyle = color("--accent");
    context.lineWidth = 2;
    const left = x(view.start);
    context.strokeRect(left + 1, 1, Math.max(4, x(view.end) - left - 2), height - 2);
    context.fillStyle = color("--cursor");
    context.fillRect(x(this.player.time) - 1, 0, 2, height);
  }
}
