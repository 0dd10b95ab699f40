/* Light or dark: as the system says, until the reader says otherwise. Runs before the first paint. */
(() => {
  "use strict";
  const root = document.documentElement;
  const system = window.matchMedia("(prefers-color-scheme: dark)");
  const kept = () => {
    try { return localStorage.getItem("paibench-theme"); } catch { return null; }
  };
  const keep = (theme) => {
    try { localStorage.setItem("paibench-theme", theme); } catch { /* it lasts for this page */ }
  };
  const now = () => root.dataset.theme || (system.matches ? "dark" : "light");
  const stored = kept();
  if (stored === "dark" || stored === "light") root.dataset.theme = stored;

  document.addEventListener("DOMContentLoaded", () => {
    const button = document.getElementById("theme");
    const say = () => { button.textContent = now() === "dark" ? "Light theme" : "Dark theme"; };
    const tell = () => { say(); document.dispatchEvent(new Event("paibench-theme")); };
    say();
    button.hidden = false;
    button.addEventListener("click", () => {
      root.dataset.theme = now() === "dark" ? "light" : "dark";
      keep(root.dataset.theme);
      tell();
    });
    system.addEventListener("change", tell);
  });
})();
