// Words with times: of the hypothesis, and of what a person wrote in its place.

export const DOUBTFUL = 0.7;
export const VERY_DOUBTFUL = 0.4;

/** 0: sure, 1: doubtful, 2: very doubtful. */
export function doubt(confidence) {
  return confidence < VERY_DOUBTFUL ? 2 : confidence < DOUBTFUL ? 1 : 0;
}

/** [{text, at}]: the words of a text and where each begins in it. */
export function tokens(text) {
  return Array.from(text.matchAll(/\S+/gu), (match) => ({ text: match[0], at: match.index }));
}

const kept = new WeakMap();

/**
 * The words of a segment's text: {text, at, start_s, end_s, confidence}. Those that are in the
 * hypothesis too have its times; what a person wrote shares the time between its neighbours by
 * its letters, and has the confidence 1. The service's downloads do the same (desk_texts.py).
 */
export function timedWords(segment) {
  let made = kept.get(segment);
  if (!made) kept.set(segment, (made = retime(segment)));
  return made;
}

function retime(segment) {
  const texts = tokens(segment.text);
  const given = segment.words;
  const made = [];
  let i = 0;
  let k = 0;
  const fill = (j, m) => {
    if (k < m) {
      let before = i > 0 ? given[i - 1].end_s : segment.start_s;
      let after = j < given.length ? given[j].start_s : segment.end_s;
      if (i < j) {
        before = Math.max(before, given[i].start_s);
        after = Math.min(after, given[j - 1].end_s);
      }
      made.push(...shared(texts.slice(k, m), before, Math.max(before, after)));
    }
  };
  for (const [j, m] of common(given.map((word) => word.text), texts.map((t) => t.text))) {
    fill(j, m);
    const { start_s, end_s, confidence } = given[j];
    made.push({ ...texts[m], start_s, end_s, confidence });
    i = j + 1;
    k = m + 1;
  }
  fill(given.length, texts.length);
  return made;
}

function shared(texts, start, end) {
  const total = texts.reduce((sum, each) => sum + each.text.length, 0);
  let here = 0;
  return texts.map((each) => {
    const start_s = start + ((end - start) * here) / total;
    here += each.text.length;
    return { ...each, start_s, end_s: start + ((end - start) * here) / total, confidence: 1 };
  });
}

/** Pairs of places of a longest common subsequence. */
function common(a, b) {
  let head = 0;
  while (head < a.length && head < b.length && a[head] === b[head]) head++;
  let tail = 0;
  const most = Math.min(a.length, b.length) - head;
  while (tail < most && a[a.length - 1 - tail] === b[b.length - 1 - tail]) tail++;
  const pairs = Array.from({ length: head }, (_, k) => [k, k]);
  const n = a.length - head - tail;
  const m = b.length - head - tail;
  if (n > 0 && m > 0 && n * m < 4e6) {
    const best = Array.from({ length: n + 1 }, () => new Uint16Array(m + 1));
    for (let i = n - 1; i >= 0; i--) {
      for (let j = m - 1; j >= 0; j--) {
        const same = a[head + i] === b[head + j];
        best[i][j] = same ? best[i + 1][j + 1] + 1 : Math.max(best[i + 1][j], best[i][j + 1]);
      }
    }
    for (let i = 0, j = 0; i < n && j < m; ) {
      if (a[head + i] === b[head + j]) pairs.push([head + i++, head + j++]);
      else if (best[i + 1][j] >= best[i][j + 1]) i++;
      else j++;
    }
  }
  for (let k = tail; k > 0; k--) pairs.push([a.length - k, b.length - k]);
  return pairs;
}

/** The word at a time in a segment: its place, or -1 before the first one. Between two words it is
 * the one before. */
export function wordAt(words, time) {
  let low = 0;
  let high = words.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (words[middle].start_s <= time) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}

/** The last segment that begins at or before a time, or -1. */
export function segmentAt(segments, time) {
  return wordAt(segments, time);
}

/** `0:01:02.3`. */
export function clock(seconds, digits = 1) {
  const unit = 10 ** digits;
  const whole = Math.floor(Math.max(0, seconds) * unit + 1e-6);
  const minutes = Math.floor(whole / (60 * unit));
  const rest = ((whole % (60 * unit)) / unit).toFixed(digits).padStart(digits ? 3 + digits : 2, "0");
  return `${Math.floor(minutes / 60)}:${String(minutes % 60).padStart(2, "0")}:${rest}`;
}
