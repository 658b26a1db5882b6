// Changes of one person put onto what another one has saved meanwhile.

const MERGED = ["text", "speaker", "checked", "start_s", "end_s"];
const STAMPS = new Set(["editor", "time"]);

/** Whether two segments are the same but for who changed them and when. */
export function isSame(a, b) {
  const names = Object.keys({ ...a, ...b }).filter((name) => !STAMPS.has(name));
  return names.every((name) => JSON.stringify(a[name]) === JSON.stringify(b[name]));
}

const allSame = (a, b) => a.length === b.length && a.every((each, k) => isSame(each, b[k]));

/**
 * {segments, conflicts}: `theirs` with each hunk (Store.hunks) that meets what it was made on, or
 * other fields of it. Where both have changed the same, their version stays, and a conflict
 * {removed, mine, theirs} tells of both: `resolve` puts the chosen one in.
 */
export function applyHunks(theirs, hunks) {
  let segments = theirs;
  const conflicts = [];
  for (const { removed, inserted } of hunks) {
    const ids = new Set(removed.map((segment) => segment.id));
    const found = segments.filter((segment) => ids.has(segment.id));
    const met = removed.length ? found : overlapping(segments, inserted);
    const merged = mergeOne(removed, inserted, found);
    if (!removed.length ? !met.length : allSame(found, removed)) {
      segments = swap(segments, found, inserted);
    } else if (allSame(met, inserted)) {
      continue; // both have done the same
    } else if (merged) {
      segments = swap(segments, found, [merged]);
    } else {
      const others = overlapping(segments, [...removed, ...inserted]);
      const all = segments.filter((segment) => found.includes(segment) || others.includes(segment));
      conflicts.push({ removed, mine: inserted, theirs: all });
    }
  }
  return { segments, conflicts };
}

/** The segments with the chosen side of a conflict. */
export function resolve(segments, conflict, keepMine) {
  if (!keepMine) return segments;
  const ids = new Set(conflict.theirs.map((segment) => segment.id));
  const there = segments.filter((segment) => ids.has(segment.id));
  return swap(segments, there, conflict.mine);
}

/** One segment changed by both in different fields; null where there is no such. */
function mergeOne(removed, inserted, found) {
  if (removed.length !== 1 || inserted.length !== 1 || found.length !== 1) return null;
  const [base, mine, theirs] = [removed[0], inserted[0], found[0]];
  if (base.id !== mine.id) return null;
  const merged = { ...theirs };
  for (const name of Object.keys(mine)) {
    const same = (a, b) => JSON.stringify(a) === JSON.stringify(b);
    if (STAMPS.has(name) || same(mine[name], base[name])) continue;
    const isFree = MERGED.includes(name) && same(theirs[name], base[name]);
    if (!isFree && !same(theirs[name], mine[name])) return null;
    merged[name] = mine[name];
  }
  if (mine.time >= theirs.time) Object.assign(merged, { editor: mine.editor, time: mine.time });
  return merged.end_s > merged.start_s ? merged : null;
}

function overlapping(segments, others) {
  return segments.filter((a) => others.some((b) => a.start_s < b.end_s && b.start_s < a.end_s));
}

/** `inserted` in the place of `removed`, in the order of time, each id once. */
function swap(segments, removed, inserted) {
  const gone = new Set(removed);
  const kept = segments.filter((segment) => !gone.has(segment));
  const taken = new Set(kept.map((segment) => segment.id));
  const fresh = inserted.map((segment) => {
    let { id } = segment;
    while (taken.has(id)) id += "x";
    taken.add(id);
    return id === segment.id ? segment : { ...segment, id };
  });
  return inOrder([...kept, ...fresh]);
}

export function inOrder(segments) {
  return segments.toSorted((a, b) => a.start_s - b.start_s);
}
