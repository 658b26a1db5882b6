// The transcript: rows, which of them is selected or written in, and what a person does to them.

import { VirtualList } from "./list.js";
import { blank, edited, join, setTimes, split } from "./operations.js";
import { fit, makeRow, mark } from "./row.js";
import { make, say } from "./say.js";
import { Tools } from "./tools.js";
import { doubt, segmentAt, timedWords, wordAt } from "./words.js";

/** Events: "select" with detail {index}. */
export class Editor extends EventTarget {
  selected = 0;
  editing = -1;
  duration = 0;
  #spoken = [null, -1]; // the row and the word that are marked
  #split = null; // where the cursor was before a button was pressed

  constructor({ scroller, list, tools, store, player }) {
    super();
    Object.assign(this, { store, player });
    this.tools = new Tools(tools, this.#acts);
    this.list = new VirtualList(scroller, list, {
      makeRow: (index) => this.#makeRow(index),
      keep: (index) => Boolean(this.list.row(index)?.contains(document.activeElement)),
    });
    store.addEventListener("reset", () => this.reset());
    store.addEventListener("change", (event) => this.#changed(event.detail));
    player.addEventListener("time", () => this.follow());
  }

  /** Draw all anew: another recording, or other segments of this one, in which whoever writes goes
   * on writing. */
  reset() {
    const writing = this.editing >= 0 ? this.#field() : null;
    const id = this.list.row(this.selected)?.dataset.id;
    const cursor = writing?.selectionStart;
    this.editing = -1;
    const found = this.store.indexOf(id);
    this.selected = found >= 0 ? found : Math.min(this.selected, Math.max(0, this.store.segments.length - 1));
    this.list.reset(this.store.segments.length);
    this.#listSpeakers();
    if (writing && found >= 0) this.edit(found, cursor);
    this.#showTools();
    this.follow();
  }

  /** Before another recording comes. */
  empty() {
    this.editing = -1;
    this.selected = 0;
    this.list.empty();
  }

  get segment() {
    return this.store.segments[this.selected] ?? null;
  }

  /** Select a segment and show it; `focus` puts the keyboard there. */
  select(index, { focus = false } = {}) {
    if (!this.store.segments[index]) return;
    const before = this.selected;
    if (this.editing >= 0 && this.editing !== index) this.finish();
    this.selected = index;
    for (const place of new Set([before, index])) {
      const row = this.list.row(place);
      if (row) mark(row, place === index);
    }
    this.list.show(index);
    this.#showTools();
    if (focus) this.list.row(index)?.querySelector(".text")?.focus({ preventScroll: true });
    this.dispatchEvent(new CustomEvent("select", { detail: { index } }));
  }

  /** Mark the word that is said now. Called at each frame while it plays. */
  follow() {
    const { segments } = this.store;
    const { time } = this.player;
    const index = segmentAt(segments, time);
    const segment = segments[index];
    const isInside = segment && time < segment.end_s + 0.3;
    const place = isInside ? wordAt(timedWords(segment), time) : -1;
    const row = isInside ? this.list.row(index) : null;
    const word = row?.querySelector(`[data-word="${place}"]`) ?? null;
    const [oldRow, oldWord] = this.#spoken;
    if (oldWord !== word) {
      oldWord?.classList?.remove("said");
      word?.classList.add("said");
    }
    if (oldRow !== row) {
      oldRow?.classList.remove("playing");
      row?.classList.add("playing");
    }
    this.#spoken = [row, word];
    if (isInside && this.player.isPlaying && index !== this.selected && this.editing < 0) {
      const box = document.activeElement;
      if (!box?.closest?.(".tools")) this.select(index, { focus: Boolean(box?.closest?.(".segment")) });
    }
  }

  /** The next word that the model was not sure of, or the one before; it plays where it plays. */
  nextDoubt(step) {
    const { segments } = this.store;
    const here = this.editing >= 0 ? segments[this.editing].start_s : this.player.time;
    const from = Math.max(0, segmentAt(segments, here + 1e-3));
    for (let index = from; index >= 0 && index < segments.length; index += step) {
      if (segments[index].checked) continue;
      const words = timedWords(segments[index]);
      const all = words.map((word, place) => ({ word, place }));
      const found = (step > 0 ? all : all.reverse()).find(
        ({ word }) =>
          doubt(word.confidence) && (step > 0 ? word.start_s > here + 0.01 : word.start_s < here - 0.01),
      );
      if (found) {
        this.finish();
        this.player.time = found.word.start_s;
        this.select(index, { focus: true });
        this.follow();
        say(`${found.word.text}, ${Math.round(100 * found.word.confidence)} percent`);
        return;
      }
    }
    say(step > 0 ? "No doubtful word after this." : "No doubtful word before this.");
  }

  /** Write in a segment, with the cursor at a place of the text. */
  edit(index = this.selected, place = null) {
    const segment = this.store.segments[index];
    if (!segment) return;
    if (index !== this.selected) this.select(index);
    const at = place ?? this.#placeOfTime(segment);
    this.editing = index;
    this.list.refresh(index);
    const field = this.#field();
    field.focus({ preventScroll: true });
    field.setSelectionRange(at, at);
    fit(field);
    this.list.render();
  }

  /** Read again what is being written in. */
  finish({ focus = false } = {}) {
    const index = this.editing;
    if (index < 0) return;
    this.editing = -1;
    const segment = this.store.segments[index];
    const text = segment.text.replace(/\s+/gu, " ").trim();
    if (text !== segment.text) this.#put(index, [edited(segment, { text })], { burst: `text ${segment.id}` });
    this.list.refresh(index);
    this.list.render();
    if (focus) this.list.row(index)?.querySelector(".text")?.focus({ preventScroll: true });
  }

  /** Mark the selected segment as checked, and go to the next one. */
  checkAndGoOn() {
    const wasEditing = this.editing >= 0;
    this.finish();
    const index = this.selected;
    if (!this.segment) return;
    if (!this.segment.checked) this.check(index, true);
    if (index + 1 < this.store.segments.length) {
      this.select(index + 1, { focus: true });
      this.player.time = this.segment.start_s;
      if (wasEditing) this.edit(index + 1, 0);
    }
  }

  check(index, isChecked) {
    const segment = this.store.segments[index];
    this.#put(index, [edited(segment, { checked: isChecked })]);
    say(isChecked ? `Segment ${index + 1} is checked.` : `Segment ${index + 1} is not checked.`);
  }

  /** Cut at the cursor, or where it plays. */
  split(index = this.selected) {
    const segment = this.store.segments[index];
    if (!segment) return;
    const field = this.editing === index ? this.#field() : null;
    const at = field?.selectionStart ?? (this.#split?.index === index ? this.#split.at : null);
    this.#split = null;
    const parts = split(segment, at ?? this.#placeOfTime(segment));
    if (!parts) return say("Put the cursor between two words to split the segment there.");
    this.editing = -1;
    this.#put(index, parts);
    this.select(index + 1, { focus: true });
    if (field) this.edit(index + 1, 0);
    say("Split in two segments.");
  }

  join(index = this.selected) {
    const { segments } = this.store;
    if (!segments[index + 1]) return;
    const wasEditing = this.editing === index;
    const place = segments[index].text.length;
    this.editing = -1;
    this.#replace(index, 2, [join(segments[index], segments[index + 1])]);
    this.select(index, { focus: true });
    if (wasEditing) this.edit(index, place);
    say("Joined with the next segment.");
  }

  remove(index = this.selected) {
    if (!this.store.segments[index]) return;
    this.editing = -1;
    this.#replace(index, 1, []);
    this.select(Math.min(index, this.store.segments.length - 1), { focus: true });
    say("Segment taken out. Ctrl+Z brings it back.");
  }

  /** A new, empty segment where it plays. */
  add() {
    const { segments } = this.store;
    const { time } = this.player;
    const at = segmentAt(segments, time) + 1;
    if (segments[at - 1]?.end_s > time) return say("There is a segment here already.");
    const made = blank(time, segments[at]?.start_s, this.duration);
    if (!made) return say("There is no room for a segment here.");
    this.#replace(at, 0, [made]);
    this.select(at);
    this.edit(at, 0);
  }

  undo(step) {
    this.finish();
    const found = step > 0 ? this.store.redo() : this.store.undo();
    if (!found) return say(step > 0 ? "Nothing to redo." : "Nothing to undo.");
    this.select(Math.min(found.at, this.store.segments.length - 1), { focus: true });
    say(step > 0 ? "Redone." : "Undone.");
  }

  #field() {
    return this.list.row(this.editing)?.querySelector("textarea");
  }

  #placeOfTime(segment) {
    const { time } = this.player;
    if (time < segment.start_s || time > segment.end_s) return segment.text.length;
    const words = timedWords(segment);
    return words[Math.max(0, wordAt(words, time))]?.at ?? 0;
  }

  #put(index, segments, options) {
    this.#replace(index, 1, segments, options);
  }

  #replace(at, count, inserted, options) {
    this.store.replace(at, count, inserted, options);
  }

  #changed({ at, removed, inserted, isOwn }) {
    if (isOwn) this.list.measure(at);
    else if (removed.length === 1 && inserted.length === 1) this.list.refresh(at);
    else {
      this.editing = -1;
      this.list.splice(at, removed.length, inserted.length);
    }
    if ([...removed, ...inserted].some((segment) => segment.speaker)) this.#listSpeakers();
    this.#showTools();
    this.#spoken = [null, null];
    this.follow();
  }

  #showTools() {
    this.tools.update(this.segment, this.selected, this.store.segments.length);
  }

  #listSpeakers() {
    const names = new Set(this.store.segments.map((segment) => segment.speaker).filter(Boolean));
    const options = [...names].sort().map((value) => make("option", { value }));
    document.getElementById("speakers").replaceChildren(...options);
  }

  #makeRow(index) {
    const state = {
      index,
      count: this.store.segments.length,
      isSelected: index === this.selected,
      isEditing: index === this.editing,
    };
    return makeRow(this.store.segments[index], state, this.#acts);
  }

  #acts = {
    play: (index) => {
      this.select(index);
      this.player.play(this.store.segments[index].start_s);
    },
    pick: (index, place) => {
      this.select(index, { focus: true });
      const word = place === null ? null : timedWords(this.store.segments[index])[place];
      this.player.time = word ? word.start_s : this.store.segments[index].start_s;
    },
    edit: (index, place) => this.edit(index, place),
    write: (index, text) => {
      const segment = this.store.segments[index];
      const options = { burst: `text ${segment.id}`, isOwn: true };
      this.#put(index, [edited(segment, { text })], options);
    },
    leave: (index, event) => {
      if (this.editing !== index) return;
      this.#split = { index, at: event.target.selectionStart };
      const isHere = event.relatedTarget?.closest?.(`[data-index="${index}"], .tools`);
      if (document.hasFocus() && !isHere) this.finish();
    },
    check: (index, isChecked) => this.check(index, isChecked),
    speaker: (index, speaker) => this.#put(index, [edited(this.store.segments[index], { speaker })]),
    times: (index, times) => {
      const segment = this.store.segments[index];
      const { start_s, end_s } = { ...segment, ...times };
      const { segments } = this.store;
      const made = setTimes(segment, start_s, end_s, this.duration);
      const isInOrder =
        made &&
        (segments[index - 1]?.start_s ?? 0) <= made.start_s &&
        made.start_s <= (segments[index + 1]?.start_s ?? Infinity);
      if (isInOrder) this.#put(index, [made]);
      else {
        this.#showTools();
        say("These times do not fit: a segment begins after the one before, and ends after it begins.");
      }
    },
    split: (index) => this.split(index),
    join: (index) => this.join(index),
    remove: (index) => this.remove(index),
  };
}
