// The waveform (wavesurfer.js) from the service's peaks: no sound is decoded in the browser.

import WaveSurfer from "./vendor/wavesurfer/wavesurfer.esm.js";
import * as api from "./api.js";

/** Pixels a second; 0 shows all of it. */
export const ZOOMS = [0, 2, 5, 10, 25, 50, 100, 200, 400];
const PER_SECOND = [10, 50, 200]; // of the service's levels

const nonce = document.querySelector('meta[name="csp-nonce"]').content;
const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/**
 * Events: "view", whose detail is {start, end} in seconds: what is visible. "level0" with the
 * coarsest peaks, when they are there.
 */
export class Waveform extends EventTarget {
  view = { start: 0, end: 1 };
  duration = 0;
  gain = 1;
  #id = null;
  #levels = new Map();
  #shown = -1;
  #aborter = new AbortController();

  constructor(container, player) {
    super();
    this.player = player;
    this.zoom = 50;
    this.surfer = WaveSurfer.create({
      container,
      media: player.audio,
      height: 96,
      minPxPerSec: this.zoom,
      autoCenter: false, // a page at a time: less moves, and less is drawn
      dragToSeek: true,
      cursorWidth: 2,
      cspNonce: nonce,
      ...this.#colors(),
    });
    this.surfer.on("scroll", (start, end) => this.#see(start, end));
    for (const name of ["redraw", "resize", "ready"]) this.surfer.on(name, () => this.#look());
  }

  /** Draw another recording; resolves when it is drawn. The sound is loaded by the player. */
  async open(id, duration) {
    this.#aborter.abort();
    this.#aborter = new AbortController();
    this.#id = id;
    this.duration = duration;
    this.#levels.clear();
    this.#shown = -1;
    const coarse = await this.#level(0);
    if (this.#id !== id) return;
    let loudest = 0.02;
    for (const value of coarse.up) if (value > loudest) loudest = value;
    this.gain = 0.95 / loudest;
    this.surfer.setOptions({ barHeight: this.gain });
    this.dispatchEvent(new CustomEvent("level0", { detail: coarse }));
    await this.#draw();
  }

  close() {
    this.#aborter.abort();
    this.#id = null;
    this.duration = 0;
  }

  /** One step closer or farther. */
  async changeZoom(step) {
    const place = ZOOMS.indexOf(this.zoom) + step;
    if (place < 0 || place >= ZOOMS.length || !this.duration) return;
    this.zoom = ZOOMS[place];
    const { time } = this.player;
    this.surfer.setOptions({ minPxPerSec: this.zoom });
    await this.#draw();
    this.show(time);
  }

  /** Bring a time into the middle of what is visible. */
  show(time) {
    const { start, end } = this.view;
    this.surfer.setScrollTime(Math.max(0, time - (end - start) / 2));
    this.#look();
  }

  recolor() {
    this.surfer.setOptions(this.#colors());
  }

  #colors() {
    return {
      waveColor: color("--wave"),
      progressColor: color("--wave-done"),
      cursorColor: color("--cursor"),
    };
  }

  #level(level) {
    if (!this.#levels.has(level)) {
      this.#levels.set(level, api.peaks(this.#id, level, this.#aborter.signal));
    }
    return this.#levels.get(level);
  }

  async #draw() {
    const id = this.#id;
    const found = PER_SECOND.findIndex((perSecond) => this.zoom <= perSecond);
    const level = found < 0 ? PER_SECOND.length - 1 : found;
    if (this.#shown === level) return this.#look();
    const { up, down } = await this.#level(level);
    if (this.#id !== id) return;
    this.#shown = level;
    // with the address that the player has, wavesurfer leaves the sound alone
    await this.surfer.load(this.player.audio.src, [up, down], this.duration);
    this.#look();
  }

  #look() {
    if (!this.duration) return;
    const width = this.surfer.getWidth();
    const whole = this.zoom * this.duration;
    if (whole <= width) return this.#see(0, this.duration);
    const start = this.surfer.getScroll() / this.zoom;
    return this.#see(start, Math.min(this.duration, start + width / this.zoom));
  }

  #see(start, end) {
    this.view = { start, end };
    this.dispatchEvent(new CustomEvent("view", { detail: this.view }));
  }
}
