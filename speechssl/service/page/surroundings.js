// Tabs beside the transcript, and light or dark.

const byId = (id) => document.getElementById(id);
const THEME = "speechssl-desk-theme";

/** The theme of the system, or the one that was chosen; `changed()` after each change. */
export function addTheme(button, changed) {
  const root = document.documentElement;
  const system = matchMedia("(prefers-color-scheme: dark)");
  const apply = (theme) => {
    if (theme) root.dataset.theme = theme;
    else delete root.dataset.theme;
    changed();
  };
  apply(localStorage.getItem(THEME));
  system.addEventListener("change", changed);
  button.addEventListener("click", () => {
    const isDark = (root.dataset.theme ?? (system.matches ? "dark" : "light")) === "dark";
    const theme = isDark ? "light" : "dark";
    localStorage.setItem(THEME, theme);
    apply(theme);
  });
}

/** `shown` has a function for the tabs that need one, and `other` for when these are left. */
export function addTabs(shown) {
  const tabs = [...document.querySelectorAll("[role=tab]")];
  const show = (tab) => {
    for (const each of tabs) {
      const isShown = each === tab;
      each.setAttribute("aria-selected", String(isShown));
      each.tabIndex = isShown ? 0 : -1;
      byId(each.getAttribute("aria-controls")).hidden = !isShown;
    }
    const name = tab.getAttribute("aria-controls");
    if (name !== "learn") shown.other();
    shown[name]?.();
  };
  tabs.forEach((tab, k) => {
    tab.addEventListener("click", () => show(tab));
    tab.addEventListener("keydown", (event) => {
      const steps = { ArrowRight: 1, ArrowLeft: -1 };
      const places = { Home: 0, End: tabs.length - 1 };
      const place = places[event.key] ?? (k + (steps[event.key] ?? NaN) + tabs.length) % tabs.length;
      if (Number.isNaN(place)) return;
      event.preventDefault();
      tabs[place].focus();
      show(tabs[place]);
    });
  });
}
