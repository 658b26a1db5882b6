// The sound: one audio element, and the time at each frame of the screen while it plays.

export const SPEEDS = [0.5, 0.6, 0.75, 0.9, 1, 1.15, 1.3, 1.5, 1.75, 2];

/** Events: "time" (each frame while it plays, and when the place changes), "state". */
export class Player extends EventTarget {
  #frame = 0;
  #stopAt = Infinity;
  #pending = null;

  constructor(audio) {
    super();
    this.audio = audio;
    audio.preservesPitch = true;
    for (const name of ["play", "pause", "ended", "ratechange", "error", "loadedmetadata"]) {
      audio.addEventListener(name, () => this.dispatchEvent(new Event("state")));
    }
    audio.addEventListener("play", () => this.#tick());
    audio.addEventListener("loadedmetadata", () => this.#place());
    for (const name of ["seeking", "seeked", "pause"]) {
      audio.addEventListener(name, () => this.#tell());
    }
  }

  /** Another sound; the place and the playing go on where it is the `same` recording. */
  load(url, { same = false } = {}) {
    const time = same ? this.time : 0;
    const isPlaying = same && this.isPlaying;
    this.#stopAt = Infinity;
    this.audio.src = new URL(url, location.href).href;
    this.#pending = time;
    this.#tell();
    if (isPlaying) this.play();
  }

  /** Seconds. */
  get time() {
    return this.#pending ?? this.audio.currentTime;
  }

  set time(seconds) {
    this.#stopAt = Infinity;
    this.#pending = Math.max(0, seconds);
    this.#place();
    this.#tell();
  }

  get isPlaying() {
    return !this.audio.paused && !this.audio.ended;
  }

  get speed() {
    return this.audio.playbackRate;
  }

  set speed(value) {
    this.audio.defaultPlaybackRate = value; // also of the next sound
    this.audio.playbackRate = value;
  }

  /** One step slower or faster. */
  changeSpeed(step) {
    const nearest = SPEEDS.reduce((a, b) =>
      Math.abs(b - this.speed) < Math.abs(a - this.speed) ? b : a,
    );
    const next = SPEEDS[SPEEDS.indexOf(nearest) + step];
    if (next) this.speed = next;
  }

  /** Play from here, or from `start` to `end`. */
  async play(start = null, end = Infinity) {
    if (start !== null) this.time = start;
    this.#stopAt = end;
    try {
      await this.audio.play();
    } catch (error) {
      if (error.name !== "AbortError") this.dispatchEvent(new CustomEvent("failed", { detail: error }));
    }
  }

  pause() {
    this.audio.pause();
  }

  toggle() {
    if (this.isPlaying) this.pause();
    else this.play();
  }

  skip(seconds) {
    this.time = this.time + seconds;
  }

  #place() {
    if (this.#pending === null || this.audio.readyState < 1) return;
    this.audio.currentTime = this.#pending;
    this.#pending = null;
  }

  #tick() {
    cancelAnimationFrame(this.#frame);
    const step = () => {
      if (this.time >= this.#stopAt) {
        this.#stopAt = Infinity;
        this.pause();
      }
      this.#tell();
      if (this.isPlaying) this.#frame = requestAnimationFrame(step);
    };
    this.#frame = requestAnimationFrame(step);
  }

  #tell() {
    this.dispatchEvent(new Event("time"));
  }
}
