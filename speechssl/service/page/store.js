// The segments of one recording, what was changed since they were saved, undo and redo.

const BURST_MS = 1500;
const MAX_STEPS = 1000;

/**
 * Events: "change", whose detail is {at, removed, inserted, isOwn}: at place `at` the segments
 * `removed` became `inserted`; `isOwn` where the one who changed them has drawn it already. And
 * "reset", where all may be others.
 */
export class Store extends EventTarget {
  segments = [];
  base = [];
  tag = '""';
  #done = [];
  #undone = [];

  /** Take what the service has; what is undone from here on was done from here on. */
  reset(segments, tag, base = segments) {
    this.segments = segments;
    this.base = base;
    this.tag = tag;
    this.#done = [];
    this.#undone = [];
    this.dispatchEvent(new Event("reset"));
  }

  /**
   * Put `inserted` in the place of `count` segments. Steps with the same `burst` in a short time
   * are undone together: the letters of a word.
   */
  replace(at, count, inserted, { burst = "", isOwn = false } = {}) {
    const removed = this.segments.slice(at, at + count);
    const step = { at, removed, inserted, burst, when: performance.now() };
    const last = this.#done.at(-1);
    if (burst && last?.burst === burst && last.at === at && step.when - last.when < BURST_MS) {
      last.inserted = inserted;
      last.when = step.when;
    } else {
      this.#done.push(step);
      if (this.#done.length > MAX_STEPS) this.#done.shift();
    }
    this.#undone = [];
    this.#apply(at, removed, inserted, isOwn);
  }

  undo() {
    return this.#move(this.#done, this.#undone, "inserted", "removed");
  }

  redo() {
    return this.#move(this.#undone, this.#done, "removed", "inserted");
  }

  get canUndo() {
    return this.#done.length > 0;
  }

  get canRedo() {
    return this.#undone.length > 0;
  }

  get isChanged() {
    return this.segments !== this.base;
  }

  /** The service has `segments` now, as `tag`. */
  saved(segments, tag) {
    this.base = segments;
    this.tag = tag;
  }

  indexOf(id) {
    return this.segments.findIndex((segment) => segment.id === id);
  }

  /**
   * What differs from the base: [{after, removed, inserted}], where `after` is the id of the
   * unchanged segment before, or null. Unchanged segments are the same objects.
   */
  hunks() {
    if (!this.isChanged) return [];
    const places = new Map(this.base.map((segment, place) => [segment, place]));
    const found = [];
    let from = 0;
    let here = 0;
    const close = (place, until) => {
      if (place > from || until > here) {
        const removed = this.base.slice(from, place);
        const after = from ? this.base[from - 1].id : null;
        found.push({ after, removed, inserted: this.segments.slice(here, until) });
      }
    };
    this.segments.forEach((segment, index) => {
      const place = places.get(segment);
      if (place === undefined || place < from) return;
      close(place, index);
      from = place + 1;
      here = index + 1;
    });
    close(this.base.length, this.segments.length);
    return found;
  }

  #move(source, target, from, to) {
    const step = source.pop();
    if (!step) return null;
    target.push({ ...step, burst: "" });
    this.#apply(step.at, step[from], step[to], false);
    return step;
  }

  #apply(at, removed, inserted, isOwn) {
    this.segments = this.segments.toSpliced(at, removed.length, ...inserted);
    const detail = { at, removed, inserted, isOwn };
    this.dispatchEvent(new CustomEvent("change", { detail }));
  }
}
