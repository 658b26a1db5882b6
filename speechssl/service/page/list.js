// A list of thousands of rows of which only those near the window exist.
//
// Heights are estimated until a row was drawn. What is above the window is made up for by padding,
// and rows keep their place on the screen when those above turn out taller or shorter.

const MARGIN_PX = 400;

export class VirtualList {
  #heights = new Float64Array(0); // 0: not known
  #rows = new Map(); // index -> element
  #estimate = 64;
  #count = 0;
  #scheduled = 0;

  /**
   * `makeRow(index)` gives an element; `keep(index)` says that a row must stay although it is not
   * visible, since the focus is in it.
   */
  constructor(scroller, list, { makeRow, keep }) {
    Object.assign(this, { scroller, list, makeRow, keep });
    scroller.addEventListener("scroll", () => this.schedule(), { passive: true });
    new ResizeObserver(() => this.#widthChanged()).observe(scroller);
  }

  /** Rows from 0 to `count` - 1, all of them new, as high as those before were. */
  reset(count) {
    const heights = new Float64Array(count);
    heights.set(this.#heights.subarray(0, count));
    this.#heights = heights;
    this.#count = count;
    this.#clear();
    this.render();
  }

  /** No row, and at the top. */
  empty() {
    this.reset(0);
    this.scroller.scrollTop = 0;
  }

  /** `removed` rows from `at` on became `inserted` ones. */
  splice(at, removed, inserted) {
    const heights = new Float64Array(this.#count - removed + inserted);
    heights.set(this.#heights.subarray(0, at));
    heights.set(this.#heights.subarray(at + removed), at + inserted);
    this.#heights = heights;
    this.#count = heights.length;
    const moved = new Map();
    for (const [index, row] of this.#rows) {
      if (index < at) moved.set(index, row);
      else if (removed === inserted && index >= at + removed) moved.set(index, row);
      else row.remove();
    }
    this.#rows = moved;
    this.render();
  }

  row(index) {
    return this.#rows.get(index) ?? null;
  }

  /** Indices that are drawn now. */
  get drawn() {
    return this.#rows.keys();
  }

  /** Draw one row anew. */
  refresh(index) {
    const old = this.#rows.get(index);
    if (!old) return;
    const row = this.makeRow(index);
    old.replaceWith(row);
    this.#rows.set(index, row);
    this.#heights[index] = row.offsetHeight;
  }

  /** A row has become taller or shorter by itself. */
  measure(index) {
    const row = this.#rows.get(index);
    if (row) this.#heights[index] = row.offsetHeight;
  }

  /** Scroll so that a row is visible; in the middle where it was not. */
  show(index) {
    const top = this.#top(index);
    const height = this.#height(index);
    const { scrollTop, clientHeight } = this.scroller;
    if (top < scrollTop + 8 || top + height > scrollTop + clientHeight - 8) {
      this.scroller.scrollTop = Math.max(0, top - (clientHeight - height) / 2);
    }
    this.render();
    // now that its neighbours are measured
    const row = this.#rows.get(index);
    if (row) {
      const box = row.getBoundingClientRect();
      const frame = this.scroller.getBoundingClientRect();
      if (box.top < frame.top || box.bottom > frame.bottom) row.scrollIntoView({ block: "center" });
    }
  }

  schedule() {
    this.#scheduled ||= requestAnimationFrame(() => this.render());
  }

  render() {
    cancelAnimationFrame(this.#scheduled);
    this.#scheduled = 0;
    const { scrollTop, clientHeight } = this.scroller;
    if (!clientHeight) return;
    const first = this.#indexAt(scrollTop - MARGIN_PX);
    const last = Math.min(this.#count - 1, this.#indexAt(scrollTop + clientHeight + MARGIN_PX));
    const wanted = new Set();
    for (let index = first; index <= last; index++) wanted.add(index);
    for (const index of this.#rows.keys()) if (this.keep(index)) wanted.add(index);
    for (const [index, row] of this.#rows) {
      if (!wanted.has(index)) {
        row.remove();
        this.#rows.delete(index);
      }
    }
    let before = null;
    for (const index of [...wanted].sort((a, b) => a - b)) {
      if (index >= this.#count) continue;
      let row = this.#rows.get(index);
      if (!row) {
        row = this.makeRow(index);
        this.#rows.set(index, row);
        if (before) before.after(row);
        else this.list.prepend(row);
      }
      before = row;
    }
    this.#place(first, last);
  }

  #place(first, last) {
    let known = 0;
    let sum = 0;
    let shift = 0;
    const visible = this.#indexAt(this.scroller.scrollTop);
    for (const [index, row] of this.#rows) {
      const height = row.offsetHeight;
      if (index < visible) shift += height - this.#height(index);
      this.#heights[index] = height;
      known++;
      sum += height;
    }
    if (known > 5) this.#estimate = sum / known;
    this.list.style.height = `${this.#top(this.#count)}px`;
    for (const [index, row] of this.#rows) row.style.top = `${this.#top(index)}px`;
    if (Math.abs(shift) > 1 && first > 0) this.scroller.scrollTop += shift;
    if (last < this.#count - 1 && known) {
      const bottom = this.#top(last + 1);
      if (bottom < this.scroller.scrollTop + this.scroller.clientHeight) this.schedule();
    }
  }

  #clear() {
    for (const row of this.#rows.values()) row.remove();
    this.#rows.clear();
  }

  #height(index) {
    return this.#heights[index] || this.#estimate;
  }

  #top(index) {
    let top = 0;
    for (let k = 0; k < index; k++) top += this.#heights[k] || this.#estimate;
    return top;
  }

  #indexAt(place) {
    let top = 0;
    for (let index = 0; index < this.#count; index++) {
      top += this.#height(index);
      if (top > place) return index;
    }
    return Math.max(0, this.#count - 1);
  }

  #widthChanged() {
    this.#heights.fill(0);
    this.render();
  }
}
