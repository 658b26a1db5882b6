// The spectrogram of what is visible, from the service's tiles of ten seconds.
//
// wavesurfer's own plugin computes it from the whole decoded sound, which of three hours would take
// 700 MB here.

import * as api from "./api.js";
import { color, prepare } from "./canvas.js";
import { make } from "./say.js";

const TILE_S = 10;
const MAX_SHOWN_S = 120;
const MAX_KEPT = 60;
const WAIT_MS = 80;

export class Spectrogram {
  #id = null;
  #tiles = new Map(); // number -> canvas, or null while it is on its way
  #aborter = new AbortController();
  #drawn = null;
  #timer = 0;
  #cursor = make("div", { className: "cursor" });

  constructor(canvas, { waveform, player }) {
    Object.assign(this, { canvas, waveform, player });
    waveform.addEventListener("view", () => this.draw());
    player.addEventListener("time", () => this.#move());
    canvas.after(this.#cursor);
    canvas.addEventListener("click", (event) => {
      const { start, end } = waveform.view;
      player.time = start + (event.offsetX / canvas.clientWidth) * (end - start);
    });
  }

  open(id) {
    this.#aborter.abort();
    this.#aborter = new AbortController();
    this.#id = id;
    this.#tiles.clear();
    this.draw();
  }

  /** With the colours of the other theme. */
  recolor() {
    this.#tiles.clear();
    this.draw();
  }

  draw() {
    this.#drawn ??= requestAnimationFrame(() => {
      this.#drawn = null;
      this.#paint();
    });
  }

  /** Where it plays; the image is not drawn again for that. */
  #move() {
    const { start, end } = this.waveform.view;
    const share = (this.player.time - start) / (end - start);
    this.#cursor.hidden = !(share >= 0 && share <= 1);
    this.#cursor.style.left = `${100 * share}%`;
  }

  #paint() {
    const { context, width, height } = prepare(this.canvas);
    const { start, end } = this.waveform.view;
    if (!this.#id || !width || !(end > start)) return;
    if (end - start > MAX_SHOWN_S) {
      context.fillStyle = color("--dim");
      context.font = getComputedStyle(this.canvas).font;
      context.fillText("Show less of the recording (+) to see the spectrogram.", 8, height / 2);
      return;
    }
    const x = (time) => ((time - start) / (end - start)) * width;
    context.imageSmoothingEnabled = true;
    let isWhole = true;
    for (let number = Math.floor(start / TILE_S); number * TILE_S < end; number++) {
      const tile = this.#tiles.get(number);
      if (tile) {
        const left = x(number * TILE_S);
        const right = x(number * TILE_S + tile.width / tile.perSecond);
        context.drawImage(tile, left, 0, right - left, height);
      } else if (tile === undefined) isWhole = false;
    }
    this.#move();
    if (!isWhole) {
      clearTimeout(this.#timer); // not while one scrolls by
      this.#timer = setTimeout(() => this.#fetchMissing(), WAIT_MS);
    }
  }

  #fetchMissing() {
    const { start, end } = this.waveform.view;
    if (end - start > MAX_SHOWN_S) return;
    for (let number = Math.floor(start / TILE_S); number * TILE_S < end; number++) {
      if (!this.#tiles.has(number)) this.#fetch(number);
    }
    for (const number of this.#tiles.keys()) {
      if (this.#tiles.size <= MAX_KEPT) break;
      if (number * TILE_S > end || (number + 1) * TILE_S < start) this.#tiles.delete(number);
    }
  }

  async #fetch(number) {
    const id = this.#id;
    const tiles = this.#tiles;
    tiles.set(number, null);
    try {
      const gain = Math.round(20 * Math.log10(this.waveform.gain));
      const tile = await api.spectrogramTile(id, number, Math.min(40, gain), this.#aborter.signal);
      if (id === this.#id && tiles.has(number)) tiles.set(number, paint(tile));
      this.draw();
    } catch {
      tiles.delete(number); // asked for again when it is seen again
    }
  }
}

/** A canvas of a tile, the lowest frequency at the bottom. */
function paint({ bytes, rows, perSecond }) {
  const columns = bytes.length / rows;
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, columns);
  canvas.height = rows;
  canvas.perSecond = perSecond;
  if (!columns) return canvas;
  const palette = paletteOf(["--spectrum-0", "--spectrum-1", "--spectrum-2", "--spectrum-3"]);
  const image = new ImageData(columns, rows);
  const pixels = new Uint32Array(image.data.buffer);
  for (let row = 0; row < rows; row++) {
    const from = (rows - 1 - row) * columns;
    for (let k = 0; k < columns; k++) pixels[row * columns + k] = palette[bytes[from + k]];
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}

/** 256 colours between those of the style sheet, as bytes of an image. */
function paletteOf(names) {
  const context = new OffscreenCanvas(256, 1).getContext("2d");
  const gradient = context.createLinearGradient(0, 0, 256, 0);
  names.forEach((name, k) => gradient.addColorStop(k / (names.length - 1), color(name)));
  context.fillStyle = gradient;
  context.fillRect(0, 0, 256, 1);
  return new Uint32Array(context.getImageData(0, 0, 256, 1).data.buffer);
}
