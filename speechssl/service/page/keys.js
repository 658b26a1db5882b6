// The keys, in one table: what the help shows is what works.

/** [keys to show, what it does, command, everywhere?] */
export const KEYS = [
  ["Space", "play or pause", "play"],
  ["F8 or Ctrl+Space", "play or pause, also while writing", "play", true],
  ["←", "back one second", "back"],
  ["F9", "back one second, also while writing", "back", true],
  ["→", "forward one second", "forward"],
  ["− / +", "slower / faster", "slower"],
  ["Ctrl+Shift+, / .", "slower / faster, also while writing", "slower", true],
  ["D / Shift+D", "next doubtful word / the one before", "doubt"],
  ["Ctrl+D", "next doubtful word, also while writing", "doubt", true],
  ["↑ / ↓", "segment before / next segment", "move"],
  ["Enter", "write in the segment; there: done", "edit"],
  ["Escape", "stop writing", "leave", true],
  ["C", "checked or not", "check"],
  ["Ctrl+Enter", "checked, and on to the next segment", "checkOn", true],
  ["Shift+Enter", "split at the cursor", "split", true],
  ["Ctrl+J", "join with the next segment", "join", true],
  ["N", "new segment where it plays", "add"],
  ["Ctrl+Z / Ctrl+Shift+Z", "undo / redo", "undo", true],
  ["Ctrl+S", "save now (it saves by itself)", "save", true],
  ["?", "this help", "help"],
];

const isMac = navigator.platform.startsWith("Mac");

/** The command of a key, or null. `isWriting`: the focus is where letters are typed. */
export function commandOf(event, isWriting) {
  if (event.isComposing || event.altKey) return null;
  const isControl = event.ctrlKey || (isMac && event.metaKey);
  const { key, code, shiftKey } = event;
  if (key === "F8") return "play";
  if (key === "F9") return "back";
  if (key === "Escape") return isWriting ? "leave" : null;
  if (isControl) {
    if (key === " ") return "play";
    if (key === "Enter") return "checkOn";
    if (shiftKey && (code === "Comma" || key === "<")) return "slower";
    if (shiftKey && (code === "Period" || key === ">")) return "faster";
    const commands = { d: shiftKey ? "doubtBefore" : "doubt", j: "join", s: "save", y: "redo" };
    if (key.toLowerCase() === "z") return shiftKey ? "redo" : "undo";
    return commands[key.toLowerCase()] ?? null;
  }
  if (event.metaKey) return null;
  if (key === "Enter" && shiftKey) return "split";
  if (isWriting) return key === "Enter" ? "leave" : null;
  return plainCommand(key, shiftKey);
}

function plainCommand(key, shiftKey) {
  const commands = {
    " ": "play",
    ArrowLeft: "back",
    ArrowRight: "forward",
    ArrowUp: "up",
    ArrowDown: "down",
    "-": "slower",
    "+": "faster",
    "=": "faster",
    Enter: "edit",
    "?": "help",
    c: "check",
    n: "add",
    d: shiftKey ? "doubtBefore" : "doubt",
  };
  return commands[key.length === 1 ? key.toLowerCase() : key] ?? null;
}

/** Call the command of each key; those of fields, buttons and tabs stay theirs. */
export function listen(commands) {
  document.addEventListener("keydown", (event) => {
    const target = event.target;
    if (target.closest("dialog")) return;
    const isText = target.matches("textarea.text");
    const isField = !isText && target.matches("input:not([type=checkbox]), select, textarea");
    const isControl = target.closest("button, input, select, a, [role=tab]");
    const command = commandOf(event, isText);
    if (!command || !commands[command]) return;
    const isPlain = !event.ctrlKey && !event.metaKey && !/^F\d/.test(event.key);
    if (isField && isPlain) return;
    if (isControl && isPlain && [" ", "Enter"].includes(event.key)) return;
    if (target.closest("[role=tablist]") && event.key.startsWith("Arrow")) return;
    event.preventDefault();
    commands[command]();
  });
}
