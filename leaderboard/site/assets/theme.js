/* The light or dark theme: that of the system until the reader chooses one. It is set before the
   first paint, so that the page does not flash. */
(() => {
  "use strict";
  const root = document.documentElement;
  const system = window.matchMedia("(prefers-color-scheme: dark)");
  const load = () => {
    try { return localStorage.getItem("paibench-theme"); } catch { return null; }
  };
  const save = (theme) => {
    try { localStorage.setItem("paibench-theme", theme); } catch { /* without storage, the choice holds for this page */ }
  };
  const current = () => root.dataset.theme || (system.matches ? "dark" : "light");
  const stored = load();
  if (stored === "dark" || stored === "light") root.dataset.theme = stored;

  document.addEventListener("DOMContentLoaded", () => {
    const button = document.getElementById("theme");
    const label = () => { button.textContent = current() === "dark" ? "Light theme" : "Dark theme"; };
    const notify = () => { label(); document.dispatchEvent(new Event("paibench-theme")); };
    label();
    button.hidden = false;
    button.addEventListener("click", () => {
      root.dataset.theme = current() === "dark" ? "light" : "dark";
      save(root.dataset.theme);
      notify();
    });
    system.addEventListener("change", notify);
  });
})();
