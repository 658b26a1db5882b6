// Dialogs: the keys, two people's versions, the token.

import * as api from "./api.js";
import { KEYS } from "./keys.js";
import { make } from "./say.js";
import { clock } from "./words.js";

const byId = (id) => document.getElementById(id);

const closing = (dialog, text = "Close") =>
  make("button", { type: "button", textContent: text, onclick: () => dialog.close() });

export function showHelp() {
  const dialog = byId("help-dialog");
  const rows = KEYS.map(([keys, meaning]) =>
    make("tr", {}, make("th", { scope: "row" }, make("kbd", { textContent: keys })), make("td", { textContent: meaning })),
  );
  dialog.replaceChildren(
    make("h2", { id: "help-title", textContent: "Keys" }),
    make("table", {}, make("tbody", {}, ...rows)),
    make("p", {}, "Words that are doubtful by the model's confidence are ", make("mark", { className: "doubt-1", textContent: "dotted" }), ", those that are very doubtful ", make("mark", { className: "doubt-2", textContent: "waved" }), ". Click a word to hear it; double-click it to write there."),
    make("p", {}, "While writing: Enter is done, Ctrl+Enter checked and next, Shift+Enter splits, F8 plays, F9 goes back."),
    closing(dialog),
  );
  dialog.showModal();
}

/** Resolves with a list of booleans (keep mine), or null where the person decides later. */
export function chooseVersions(conflicts) {
  const dialog = byId("conflict-dialog");
  const groups = conflicts.map((conflict, k) => {
    const begin = Math.min(...[...conflict.mine, ...conflict.theirs, ...conflict.removed].map((s) => s.start_s));
    const side = (value, title, segments) =>
      make(
        "label",
        { className: "version" },
        make("input", { type: "radio", name: `conflict-${k}`, value }),
        make("span", { className: "whose", textContent: title }),
        ...(segments.length ? segments.map(shown) : [make("em", { textContent: "(taken out)" })]),
      );
    const other = conflict.theirs.at(-1)?.editor || "Somebody else";
    return make(
      "fieldset",
      {},
      make("legend", { textContent: `At ${clock(begin, 0)}` }),
      side("mine", "Yours", conflict.mine),
      side("theirs", `${other}, saved already`, conflict.theirs),
    );
  });
  const done = make("button", { type: "button", className: "primary", textContent: "Keep what is chosen", disabled: true });
  const form = make("div", { className: "versions" }, ...groups);
  const picked = () => conflicts.map((_, k) => form.querySelector(`[name="conflict-${k}"]:checked`)?.value);
  form.addEventListener("change", () => (done.disabled = picked().some((value) => !value)));
  dialog.replaceChildren(
    make("h2", { id: "conflict-title", textContent: "Two people changed the same place" }),
    make("p", { textContent: "Choose which version stays. Until then nothing is saved over, and yours is kept in this browser." }),
    form,
    make("p", { className: "buttons" }, done, " ", closing(dialog, "Decide later")),
  );
  return new Promise((resolve) => {
    let answer = null;
    done.onclick = () => {
      answer = picked().map((value) => value === "mine");
      dialog.close();
    };
    dialog.onclose = () => resolve(answer);
    dialog.showModal();
  });
}

function shown(segment) {
  const facts = [clock(segment.start_s), segment.speaker, segment.checked ? "checked" : ""].filter(Boolean);
  return make(
    "span",
    { className: "shown" },
    make("small", { textContent: facts.join(" · ") }),
    make("bdi", { textContent: segment.text || "(nothing said)" }),
  );
}

/** Ask for the service's token until it is right. */
export function askToken() {
  const dialog = byId("token-dialog");
  const field = make("input", { type: "password", autocomplete: "off", aria: { label: "Token" } });
  const note = make("p", { className: "problem", role: "alert" });
  const send = make("button", { type: "submit", className: "primary", textContent: "Go on" });
  const form = make("form", { method: "dialog" }, field, " ", send, note);
  dialog.replaceChildren(make("h2", { id: "token-title", textContent: "This service asks for its token" }), form);
  dialog.oncancel = (event) => event.preventDefault();
  if (!dialog.open) dialog.showModal();
  return new Promise((resolve) => {
    form.onsubmit = async (event) => {
      event.preventDefault();
      try {
        await api.session(field.value.trim());
        dialog.close();
        resolve();
      } catch (error) {
        note.textContent = error.message;
      }
    };
  });
}
