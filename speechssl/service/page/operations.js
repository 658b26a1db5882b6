// What a person does to segments, as functions: segments are never changed in place.

import { timedWords } from "./words.js";

let editor = "";

/** Who is written beside what is changed from now on. */
export function setEditor(name) {
  editor = name.trim();
}

/** The segment with other fields, who changed them and when. */
export function edited(segment, fields) {
  return { ...segment, ...fields, editor, time: new Date().toISOString().slice(0, 19) + "+00:00" };
}

const newId = (id) =>
  `${id.replace(/-[a-z0-9]{6}$/u, "")}-${Math.random().toString(36).slice(2).padEnd(6, "0").slice(0, 6)}`;
const round = (seconds) => Math.round(seconds * 1000) / 1000;
const mean = (words) => words.reduce((sum, word) => sum + word.confidence, 0) / words.length;

/** Two segments, cut before character `place` of the text; null where one would be without text
 * or time. */
export function split(segment, place) {
  const before = segment.text.slice(0, place).trim();
  const after = segment.text.slice(place).trim();
  const time = round(timeAt(segment, place));
  if (!before || !after || !(time > segment.start_s && time < segment.end_s)) return null;
  const first = segment.words.filter((word) => (word.start_s + word.end_s) / 2 < time);
  const rest = segment.words.slice(first.length);
  const [hypothesis, hypothesisRest] = cutHypothesis(segment.hypothesis, first, rest);
  const part = (fields, words) =>
    edited(segment, { ...fields, words, confidence: words.length ? mean(words) : segment.confidence });
  return [
    part({ end_s: time, text: before, hypothesis }, first),
    part({ id: newId(segment.id), start_s: time, text: after, hypothesis: hypothesisRest }, rest),
  ];
}

function timeAt(segment, place) {
  const words = timedWords(segment);
  const next = words.findIndex((word) => word.at + word.text.length > place);
  if (next < 0) return segment.end_s;
  const word = words[next];
  if (place > word.at) {
    const share = (place - word.at) / word.text.length;
    return word.start_s + share * (word.end_s - word.start_s);
  }
  return next ? (words[next - 1].end_s + word.start_s) / 2 : word.start_s;
}

function cutHypothesis(hypothesis, first, rest) {
  let place = 0;
  for (const word of first) {
    const found = hypothesis.indexOf(word.text, place);
    if (found < 0) return [first, rest].map((words) => words.map((w) => w.text).join(" "));
    place = found + word.text.length;
  }
  return [hypothesis.slice(0, place).trim(), hypothesis.slice(place).trim()];
}

/** One segment of two neighbours. */
export function join(a, b) {
  const words = [...a.words, ...b.words];
  return edited(a, {
    end_s: Math.max(a.end_s, b.end_s),
    text: `${a.text} ${b.text}`.trim(),
    hypothesis: `${a.hypothesis} ${b.hypothesis}`.trim(),
    words,
    confidence: words.length ? mean(words) : Math.min(a.confidence, b.confidence),
    speaker: a.speaker || b.speaker,
    checked: a.checked && b.checked,
  });
}

/** An empty segment from a time on, as far as the next one and two seconds at most. */
export function blank(time, next, end, model) {
  const start_s = round(time);
  const end_s = round(Math.min(start_s + 2, next ?? Infinity, end));
  if (end_s - start_s < 0.05) return null;
  const fields = { id: newId("n"), start_s, end_s, hypothesis: "", text: "", confidence: 0 };
  const rest = { words: [], speaker: "", checked: false, editor: "", time: "" };
  return edited({ ...fields, ...rest, model_digest: model ?? "" }, {});
}

/** Other times: within the recording, at least 50 ms; null where that cannot be. */
export function setTimes(segment, start, end, duration) {
  const start_s = round(Math.max(0, start));
  const end_s = round(Math.min(duration, end));
  if (!(end_s - start_s >= 0.05)) return null;
  return edited(segment, { start_s, end_s });
}
