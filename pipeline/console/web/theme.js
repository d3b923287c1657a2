// Runs before the first paint: the chosen theme, or none to follow the system.
"use strict";
try {
  const chosen = localStorage.getItem("kpstream.theme");
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
} catch {
  // Storage may be forbidden; the system's theme is fine then.
}
