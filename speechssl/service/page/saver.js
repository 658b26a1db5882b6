// Saves by itself: first into this browser, a moment later into the desk.
//
// The service takes a version only from whoever has seen the one before (If-Match). Where somebody
// else has saved meanwhile, both are merged; what both have changed is shown to the person, and
// until then it stays in this browser.

import * as api from "./api.js";
import { dropDraft, findDraft, keepDraft } from "./draft.js";
import { applyHunks, resolve } from "./merge.js";

const QUIET_MS = 1200;
const LONGEST_MS = 5000;
const RETRY_MS = [2000, 5000, 15000];

/** Events: "state" with detail {state, text}; "conflicts" with detail {conflicts}. */
export class Saver extends EventTarget {
  conflicts = [];
  #id = null;
  #timer = 0;
  #since = 0;
  #failures = 0;
  #running = null;

  constructor(store) {
    super();
    this.store = store;
    store.addEventListener("change", () => this.#changed());
  }

  /** Take a recording as the service has it, with what an earlier tab left unsaved; gives whether
   * there was such. */
  open(id, segments, tag) {
    this.close();
    this.#id = id;
    this.conflicts = [];
    const draft = findDraft(id);
    if (draft) {
      const merged = applyHunks(segments, draft.hunks);
      this.store.reset(merged.segments, tag, segments);
      this.#setConflicts(merged.conflicts);
      this.#changed(true);
    } else {
      this.store.reset(segments, tag);
      this.#tell("saved", "Saved");
    }
    return Boolean(draft);
  }

  /** Save what is left; no longer of this recording. */
  async close() {
    clearTimeout(this.#timer);
    if (this.#id && this.isDirty) await this.save();
    this.#failures = 0;
  }

  get isDirty() {
    return this.store.hunks().length > 0;
  }

  /** Save now; one at a time. */
  async save() {
    clearTimeout(this.#timer);
    if (this.#running) await this.#running;
    if (!this.#id || !this.isDirty || this.conflicts.length) return;
    this.#running = this.#put().finally(() => (this.#running = null));
    await this.#running;
  }

  /** The tab is being closed: what fits into a last request is sent, the draft has the rest. */
  leave() {
    if (!this.#id || !this.isDirty || this.conflicts.length) return;
    api.save(this.#id, this.store.segments, this.store.tag, true).catch(() => {});
  }

  /** `keepMine` of each conflict in turn; then all is saved. */
  async settle(choices) {
    let { segments } = this.store;
    this.conflicts.forEach((conflict, k) => (segments = resolve(segments, conflict, choices[k])));
    this.store.reset(segments, this.store.tag, this.store.base);
    this.#setConflicts([]);
    this.#changed(true);
    await this.save();
  }

  #changed(atOnce = false) {
    this.#keep();
    if (this.conflicts.length) return;
    if (!this.isDirty) {
      clearTimeout(this.#timer);
      this.#since = 0;
      this.#tell("saved", "Saved");
      return;
    }
    const now = performance.now();
    this.#since ||= now;
    this.#tell("dirty", "Not saved yet");
    clearTimeout(this.#timer);
    const wait = atOnce ? 0 : Math.max(0, Math.min(QUIET_MS, this.#since + LONGEST_MS - now));
    this.#timer = setTimeout(() => this.save(), wait);
  }

  #keep() {
    const hunks = this.store.hunks();
    // what waits for a choice is kept as it was changed here
    const open = this.conflicts.map(({ removed, mine }) => ({ after: null, removed, inserted: mine }));
    if (!hunks.length && !open.length) dropDraft(this.#id);
    else {
      keepDraft(this.#id, this.store.tag, [...hunks, ...open], () =>
        this.#tell("failed", "This browser has no room for a draft: stay until it is saved"),
      );
    }
  }

  async #put() {
    const id = this.#id;
    const { segments, tag } = this.store;
    this.#tell("saving", "Saving…");
    try {
      const fresh = await api.save(id, segments, tag);
      if (id !== this.#id) return dropDraft(id);
      this.store.saved(segments, fresh);
      this.#failures = 0;
      this.#since = 0;
      this.#changed();
    } catch (error) {
      if (id !== this.#id) return;
      if (error.status === 412) await this.#merge(id);
      else this.#failed(error);
    }
  }

  #failed(error) {
    const wait = RETRY_MS[Math.min(this.#failures++, RETRY_MS.length - 1)];
    this.#tell("failed", `Not saved, kept in this browser. ${error.message}`);
    clearTimeout(this.#timer);
    if (error.status === 0 || error.status >= 500 || error.status === 429) {
      this.#timer = setTimeout(() => this.save(), wait);
    }
  }

  async #merge(id) {
    try {
      const { recording, tag } = await api.recording(id);
      const theirs = recording.segment_list ?? [];
      const { segments, conflicts } = applyHunks(theirs, this.store.hunks());
      this.store.reset(segments, tag, theirs);
      this.#setConflicts(conflicts);
      this.#tell("merged", "Somebody else saved too: both versions were joined");
      this.#changed(true);
    } catch (error) {
      this.#failed(error);
    }
  }

  #setConflicts(conflicts) {
    this.conflicts = conflicts;
    this.dispatchEvent(new CustomEvent("conflicts", { detail: { conflicts } }));
    if (conflicts.length) {
      const num = conflicts.length === 1 ? "One place was" : `${conflicts.length} places were`;
      this.#tell("conflict", `${num} changed by two people: choose`);
    }
  }

  #tell(state, text) {
    this.dispatchEvent(new CustomEvent("state", { detail: { state, text } }));
  }
}
