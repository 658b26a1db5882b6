// What is not saved yet, kept in this browser: it survives a killed tab.

const PREFIX = "speechssl-desk-draft:";
const LARGE = 200_000;
const LARGE_EVERY_MS = 1000;

let waiting = 0;

/** Keep the changes of a recording: {tag, hunks}; gives false where the browser has no room. */
export function keepDraft(id, tag, hunks, failed) {
  clearTimeout(waiting);
  const write = () => {
    try {
      const draft = JSON.stringify({ tag, hunks, when: Date.now() });
      localStorage.setItem(PREFIX + id, draft);
      return draft.length;
    } catch {
      failed();
      return 0;
    }
  };
  const size = localStorage.getItem(PREFIX + id)?.length ?? 0;
  if (size < LARGE) write();
  else waiting = setTimeout(write, LARGE_EVERY_MS);
}

/** {tag, hunks, when} of an earlier tab, or null. */
export function findDraft(id) {
  try {
    const draft = JSON.parse(localStorage.getItem(PREFIX + id));
    return Array.isArray(draft?.hunks) && draft.hunks.length ? draft : null;
  } catch {
    return null;
  }
}

export function dropDraft(id) {
  clearTimeout(waiting);
  localStorage.removeItem(PREFIX + id);
}
