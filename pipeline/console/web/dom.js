// Building and patching the page. Text only ever enters through text nodes and attributes of known
// names, so a hostile device name or label is shown, but never run.

const SVG = "http://www.w3.org/2000/svg";
const SVG_TAGS = new Set(["svg", "path", "rect", "line", "circle", "g", "text", "title", "polyline", "polygon"]);
const HANDLERS = ["onclick", "oninput", "onkeydown", "onpointerdown", "onpointermove", "onpointerup", "onpointerleave", "onfocus", "onblur", "onchange", "onsubmit"];

/** h("div.card", {key, class, style: {"--x": 1}, onclick, ...attributes}, ...children) */
export function h(spec, props, ...children) {
  const [tag, ...classes] = spec.split(".");
  const node = SVG_TAGS.has(tag) ? document.createElementNS(SVG, tag) : document.createElement(tag);
  const { class: more, style, key, ...rest } = props ?? {};
  const all = [...classes, more].filter(Boolean).join(" ");
  if (all) node.setAttribute("class", all);
  if (key !== undefined) node.dataset.key = key;
  for (const [name, value] of Object.entries(style ?? {})) node.style.setProperty(name, value);
  for (const [name, value] of Object.entries(rest)) {
    if (HANDLERS.includes(name)) node[name] = value;
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) node.setAttribute(name, value);
  }
  append(node, children);
  return node;
}

function append(node, children) {
  for (const child of children) {
    if (Array.isArray(child)) append(node, child);
    else if (child instanceof Node) node.append(child);
    else if (child !== null && child !== undefined && child !== false) node.append(String(child));
  }
}

/** Replace the children of `target` by `nodes`, keeping matching elements with focus and scroll. */
export function render(target, ...nodes) {
  const fresh = document.createElement("div");
  append(fresh, nodes);
  patchChildren(target, fresh);
}

function patchChildren(old, fresh) {
  const keyed = new Map();
  for (const child of old.children) if (child.dataset.key) keyed.set(child.dataset.key, child);
  let at = old.firstChild;
  for (const next of [...fresh.childNodes]) {
    const key = next.dataset?.key;
    let match = key ? keyed.get(key) : at;
    if (match && !same(match, next)) match = null;
    if (match && !key && match.dataset?.key) match = null;
    if (!match) {
      old.insertBefore(next, at);
      continue;
    }
    if (match === at) at = at.nextSibling;
    else old.insertBefore(match, at);
    patch(match, next);
  }
  while (at) {
    const next = at.nextSibling;
    at.remove();
    at = next;
  }
}

function same(a, b) {
  return a.nodeType === b.nodeType && a.nodeName === b.nodeName && a.dataset?.key === b.dataset?.key;
}

function patch(old, fresh) {
  if (old.nodeType === Node.TEXT_NODE) {
    if (old.data !== fresh.data) old.data = fresh.data;
    return;
  }
  for (const { name } of [...old.attributes]) {
    if (name !== "style" && !fresh.hasAttribute(name)) old.removeAttribute(name);
  }
  for (const { name, value } of fresh.attributes) {
    if (name !== "style" && old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  // Through CSSOM: the content security policy forbids style attributes from markup.
  if (old.style.cssText !== fresh.style.cssText) old.style.cssText = fresh.style.cssText;
  for (const name of HANDLERS) if (old[name] !== fresh[name]) old[name] = fresh[name];
  if (old.nodeName === "INPUT") return;
  patchChildren(old, fresh);
}

const ICONS = {
  fleet: "M3 3h7v7H3zM14 3h7v7h-7zM3 14h7v7H3zM14 14h7v7h-7z",
  pipeline: "M3 12h4l2.5-7 5 14L17 12h4",
  models: "M12 3l8 4.5v9L12 21l-8-4.5v-9zM12 12l8-4.5M12 12v9M12 12L4 7.5",
  check: "M5 12.5l4.5 4.5L19 7.5",
  warn: "M12 4l9 16H3zM12 10v4M12 17v.01",
  alert: "M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18zM12 8v5M12 16v.01",
  clock: "M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18zM12 7v5l3 2",
  back: "M14 6l-6 6 6 6",
  sun: "M12 8a4 4 0 1 0 0 8 4 4 0 0 0 0-8zM12 2v2M12 20v2M2 12h2M20 12h2M5 5l1.4 1.4M17.6 17.6L19 19M19 5l-1.4 1.4M6.4 17.6L5 19",
  moon: "M20 14.5A8.5 8.5 0 1 1 9.5 4a7 7 0 0 0 10.5 10.5z",
  search: "M11 4a7 7 0 1 0 0 14 7 7 0 0 0 0-14zM16.2 16.2L21 21",
  label: "M4 4h8l8 8-8 8-8-8zM8.5 8.5v.01",
  copy: "M9 9h11v11H9zM5 15H4V4h11v1",
  why: "M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18zM9.6 9.5a2.5 2.5 0 1 1 3.6 2.2c-.8.4-1.2 1-1.2 1.8M12 17v.01",
};

export function icon(name) {
  return h("svg.icon", { viewBox: "0 0 24 24", "aria-hidden": "true", focusable: "false" }, h("path", { d: ICONS[name] }));
}

// Numbers and times, formatted in one way.

const WHOLE = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const SHORT = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });

export const whole = (value) => (value === null || value === undefined ? "–" : WHOLE.format(value));
export const short = (value) => (Math.abs(value) < 10_000 ? whole(value) : SHORT.format(value));
export const percent = (share) => (share === null || share === undefined ? "–" : `${Math.round(share * 100)} %`);

/** A measured value with a number of significant digits, without grouping below 10,000. */
export function significant(value, digits = 6) {
  if (value === null || value === undefined) return "–";
  if (Math.abs(value) >= 10 ** Math.max(digits, 5)) return SHORT.format(value);
  return String(Number(value.toPrecision(digits))).replace("-", "−");
}

/** A unit behind a value; manifests write "-" where there is none. */
export const unitText = (unit) => (["", "-", "1"].includes(unit) ? "" : ` ${unit}`);

export function rate(value) {
  if (value === null || value === undefined) return "–";
  return value < 10 && value > 0 ? value.toFixed(1) : short(value);
}

export function duration(ms) {
  if (ms === null || ms === undefined) return "–";
  if (ms < 10) return `${ms.toFixed(1)} ms`;
  if (ms < 1_000) return `${Math.round(ms)} ms`;
  if (ms < 10_000) return `${(ms / 1_000).toFixed(1)} s`;
  if (ms < 120_000) return `${Math.round(ms / 1_000)} s`;
  if (ms < 7_200_000) return `${Math.round(ms / 60_000)} min`;
  if (ms < 172_800_000) return `${Math.round(ms / 3_600_000)} h`;
  return `${Math.round(ms / 86_400_000)} d`;
}

export function age(ms, now) {
  if (ms === null || ms === undefined) return "never";
  const passed = Math.max(0, now - ms);
  if (passed < 1_500) return "now";
  return passed < 10_000 ? `${Math.round(passed / 1_000)} s ago` : `${duration(passed)} ago`;
}

export function bytes(count) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let value = count ?? 0;
  let i = 0;
  while (value >= 1000 && i < units.length - 1) (value /= 1000), i++;
  return `${value < 10 && i ? value.toFixed(1) : Math.round(value)} ${units[i]}`;
}

export function clockTime(ms, spanMs) {
  const date = new Date(ms);
  if (spanMs > 2 * 86_400_000) return date.toLocaleDateString("en-GB", { day: "numeric", month: "short" });
  const seconds = spanMs < 4 * 60_000;
  return date.toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit", ...(seconds && { second: "2-digit" }) });
}

export function dateTime(ms) {
  return new Date(ms).toLocaleString("en-GB", { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", second: "2-digit" });
}

/** The value of an input of type datetime-local, in the zone of the browser. */
export function localTime(ms) {
  const date = new Date(ms - new Date(ms).getTimezoneOffset() * 60_000);
  return date.toISOString().slice(0, 23).replace(/\.000$/, "");
}

/** WALKING_UPSTAIRS -> Walking upstairs */
export function words(label) {
  const text = String(label ?? "").replaceAll("_", " ").toLowerCase().replace(/^rul\b/, "RUL");
  return text.charAt(0).toUpperCase() + text.slice(1);
}

/** Keep a choice over reloads where the browser allows it. */
export const remembered = {
  get(name, fallback) {
    try {
      return localStorage.getItem(`kpstream.${name}`) ?? fallback;
    } catch {
      return fallback;
    }
  },
  set(name, value) {
    try {
      localStorage.setItem(`kpstream.${name}`, value);
    } catch {
      // Not kept; the page works without it.
    }
  },
};
