// The desk: what belongs together is put together here.

import * as api from "./api.js";
import { askToken, chooseVersions, showHelp } from "./dialogs.js";
import { Editor } from "./editor.js";
import { listen } from "./keys.js";
import { Learn } from "./learn.js";
import { setEditor } from "./operations.js";
import { Overview } from "./overview.js";
import { Player, SPEEDS } from "./player.js";
import { Queue } from "./queue.js";
import { Recordings } from "./recordings.js";
import { Saver } from "./saver.js";
import { alarm, make, say } from "./say.js";
import { Spectrogram } from "./spectrogram.js";
import { Store } from "./store.js";
import { Strip } from "./strip.js";
import { addTabs, addTheme } from "./surroundings.js";
import { ZOOMS, Waveform } from "./waveform.js";
import { clock } from "./words.js";

const byId = (id) => document.getElementById(id);
const POLL_MS = 1000;

const store = new Store();
const saver = new Saver(store);
const player = new Player(byId("audio"));
const waveform = new Waveform(byId("waveform"), player);
const editor = new Editor({ scroller: byId("scroller"), list: byId("segments"), tools: byId("tools"), store, player });
const overview = new Overview(byId("overview"), { waveform, player, store });
const spectrogram = new Spectrogram(byId("spectrogram"), { waveform, player });
const strip = new Strip(byId("strip"), { waveform, store, select: jump });
const recordings = new Recordings({
  list: byId("recording-list"),
  drop: byId("drop"),
  choose: byId("choose"),
  files: byId("files"),
  record: byId("record"),
  meter: byId("meter"),
});
const queue = new Queue(byId("queue"));
const learn = new Learn(byId("learn"), () => saver.save());

let current = null; // the recording that is open, as the service told of it
let opening = 0;

function jump(index, time) {
  editor.select(index, { focus: true });
  player.time = time;
}

/** Open a recording, at a segment where one is named. */
async function open(id, { segment = null, start_s = 0 } = {}) {
  const number = ++opening;
  if (current?.id === id) return goTo(segment, start_s);
  editor.finish();
  await saver.close();
  byId("sound-note").textContent = "";
  let answer;
  try {
    answer = await api.recording(id);
  } catch (error) {
    alarm(error.message);
    byId("sound-note").textContent = error.message;
    return;
  }
  if (number !== opening) return;
  const { recording, tag } = answer;
  current = recording;
  recordings.current = id;
  recordings.draw();
  history.replaceState(null, "", `#${id}`);
  document.title = `${recording.name} – speechssl desk`;
  byId("title").textContent = recording.name;
  byId("start").hidden = true;
  byId("sound").hidden = false;
  byId("take-home").hidden = false;
  const hasText = recording.segment_list !== null;
  byId("scroller").hidden = !hasText;
  byId("untold").hidden = hasText;
  editor.duration = recording.duration_s;
  editor.empty();
  waveform.close();
  overview.clear();
  const wasLeft = saver.open(id, recording.segment_list ?? [], tag);
  if (!hasText) offerText(recording);
  say(wasLeft ? "What an earlier tab left unsaved is here again." : `${recording.name} is open.`);
  loadSound(recording, number);
  goTo(segment, start_s);
}

function goTo(segment, time) {
  const index = segment === null ? -1 : store.indexOf(segment);
  if (index >= 0) editor.select(index, { focus: true });
  if (segment !== null) {
    player.time = store.segments[index]?.start_s ?? time;
    waveform.show(player.time);
  }
}

/** The sound, its waveform, and a copy in which places are exact when that is made. */
async function loadSound(recording, number) {
  const note = byId("sound-note");
  if (recording.problem) {
    note.textContent = recording.problem;
    return;
  }
  const { is_exact, plays_original } = recording.audio;
  const isLater = !is_exact && plays_original;
  if (is_exact || isLater) player.load(api.audioUrl(recording.id, isLater ? "original" : "exact"));
  note.textContent = "Drawing the waveform…";
  spectrogram.open(null);
  try {
    await waveform.open(recording.id, recording.duration_s);
    if (number !== opening) return;
    note.textContent = "";
    if (!is_exact) player.load(api.audioUrl(recording.id, "exact"), { same: isLater });
    document.body.dataset.drawn = recording.id;
  } catch (error) {
    if (error.name === "AbortError" || number !== opening) return;
    note.textContent = error.message;
    alarm(error.message);
  }
}

/** A recording without a text: let the model transcribe it, or write by oneself. */
function offerText(recording) {
  const note = make("p", { role: "status" });
  const start = make("button", { type: "button", className: "primary", textContent: "Transcribe" });
  const own = make("button", { type: "button", textContent: "Write it myself" });
  byId("untold").replaceChildren(
    make("h2", { textContent: "This recording has no text yet" }),
    make("p", {}, start, " ", own),
    note,
  );
  const number = opening;
  const watch = async () => {
    for (;;) {
      const { state, share, message } = await api.transcription(recording.id);
      if (state === "done" || state === "failed" || number !== opening) return { state, message };
      note.textContent = `The model transcribes… ${Math.round(100 * share)} %`;
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    }
  };
  start.onclick = async () => {
    start.disabled = own.disabled = true;
    try {
      await api.transcribe(recording.id);
      const { state, message } = await watch();
      if (number !== opening) return;
      if (state !== "done") throw new Error(message);
      current = null;
      await Promise.all([open(recording.id), recordings.refresh()]);
    } catch (error) {
      note.textContent = error.message;
      start.disabled = own.disabled = false;
    }
  };
  own.onclick = () => {
    byId("untold").hidden = true;
    byId("scroller").hidden = false;
    editor.add();
  };
}

function showSave({ state, text }) {
  const element = byId("save-state");
  element.dataset.state = state;
  element.textContent = text;
  element.title = text;
  if (state === "failed" || state === "conflict") alarm(text);
  if (state === "merged") say(text);
}

function showCounts() {
  byId("undo").disabled = !store.canUndo;
  byId("redo").disabled = !store.canRedo;
  if (!current || current.segment_list === null && !store.segments.length) return;
  const checked = store.segments.filter((segment) => segment.checked).length;
  recordings.update(current.id, { checked, segments: store.segments.length, is_transcribed: true });
}

function showPlaying() {
  const button = byId("play");
  button.classList.toggle("on", player.isPlaying);
  button.querySelector("span").textContent = player.isPlaying ? "❚❚" : "▶";
  button.querySelector("b").textContent = player.isPlaying ? "Pause" : "Play";
  byId("speed").value = String(player.speed);
  if (player.audio.error && current) {
    byId("sound-note").textContent = `The sound cannot be played: ${player.audio.error.message}`;
  }
}

function showZoom() {
  byId("zoom").textContent = waveform.zoom ? `${waveform.zoom} px/s` : "all";
  byId("zoom-out").disabled = waveform.zoom === ZOOMS[0];
  byId("zoom-in").disabled = waveform.zoom === ZOOMS.at(-1);
}

async function settleConflicts() {
  if (!saver.conflicts.length) return;
  const choices = await chooseVersions(saver.conflicts);
  if (choices) await saver.settle(choices);
}

const move = (step) => {
  editor.select(editor.selected + step, { focus: true });
  if (!player.isPlaying && editor.segment) player.time = editor.segment.start_s;
};

const commands = {
  play: () => player.toggle(),
  back: () => player.skip(-1),
  forward: () => player.skip(1),
  slower: () => player.changeSpeed(-1),
  faster: () => player.changeSpeed(1),
  doubt: () => editor.nextDoubt(1),
  doubtBefore: () => editor.nextDoubt(-1),
  up: () => move(-1),
  down: () => move(1),
  edit: () => editor.edit(),
  leave: () => editor.finish({ focus: true }),
  check: () => editor.segment && editor.check(editor.selected, !editor.segment.checked),
  checkOn: () => editor.checkAndGoOn(),
  split: () => editor.split(),
  join: () => editor.join(),
  add: () => current && editor.add(),
  undo: () => editor.undo(-1),
  redo: () => editor.undo(1),
  save: () => saver.save(),
  help: showHelp,
  zoomIn: () => waveform.changeZoom(1).then(showZoom),
  zoomOut: () => waveform.changeZoom(-1).then(showZoom),
};

function connect() {
  const buttons = { play: "play", back: "back", forward: "forward", undo: "undo", redo: "redo", help: "help" };
  const others = { "zoom-in": "zoomIn", "zoom-out": "zoomOut", "doubt-next": "doubt", "doubt-before": "doubtBefore" };
  for (const [id, name] of Object.entries({ ...buttons, ...others })) {
    byId(id).addEventListener("click", () => commands[name]());
  }
  listen(commands);
  byId("speed").append(...SPEEDS.map((value) => new Option(`${value}×`, String(value), value === 1, value === 1)));
  byId("speed").addEventListener("change", (event) => (player.speed = Number(event.target.value)));
  byId("download").addEventListener("change", async (event) => {
    const format = event.target.value;
    event.target.value = "";
    if (!format || !current) return;
    await saver.save();
    make("a", { href: api.downloadUrl(current.id, format), download: "" }).click();
  });
  waveform.addEventListener("level0", () => spectrogram.open(current.id)); // now its gain is known
  player.addEventListener("time", () => (byId("clock").textContent = clock(player.time)));
  player.addEventListener("state", showPlaying);
  player.addEventListener("failed", (event) => alarm(`The sound cannot be played: ${event.detail.message}`));
  saver.addEventListener("state", (event) => showSave(event.detail));
  saver.addEventListener("conflicts", (event) => {
    byId("conflicts").hidden = !event.detail.conflicts.length;
    if (event.detail.conflicts.length) settleConflicts();
  });
  byId("conflicts").addEventListener("click", settleConflicts);
  for (const name of ["change", "reset"]) store.addEventListener(name, showCounts);
  editor.addEventListener("select", () => {
    strip.selected = editor.segment?.id ?? null;
    strip.draw();
  });
  recordings.addEventListener("open", (event) => open(event.detail.id));
  recordings.addEventListener("listed", ({ detail }) => {
    const names = { textgrid: "Praat TextGrid", corrections: "corrections (JSON)", eaf: "ELAN (eaf)" };
    const formats = detail.formats.map((name) => new Option(names[name] ?? name.toUpperCase(), name));
    byId("download").replaceChildren(new Option("as…", ""), ...formats);
  });
  queue.addEventListener("open", ({ detail }) => open(detail.id, detail));
  addEventListener("pagehide", () => saver.leave());
  addTheme(byId("theme"), () => {
    waveform.recolor();
    spectrogram.recolor();
    overview.draw();
    strip.draw();
  });
  addTabs({ queue: () => queue.refresh(), learn: () => learn.watch(), other: () => learn.rest() });
  const who = byId("editor");
  who.value = localStorage.getItem("speechssl-desk-editor") ?? "";
  setEditor(who.value);
  who.addEventListener("change", () => {
    setEditor(who.value);
    localStorage.setItem("speechssl-desk-editor", who.value);
  });
}

async function begin() {
  api.onTokenNeeded(askToken);
  connect();
  showZoom();
  showPlaying();
  const wanted = location.hash.slice(1);
  const opened = wanted ? open(wanted) : null;
  try {
    await recordings.refresh();
  } catch (error) {
    alarm(error.message);
    byId("start").append(make("p", { className: "problem", textContent: error.message }));
  }
  await opened;
}

begin();
