// The frame: routing, polling, connection, theme. A page is {title, path(params), draw(data,
// context)} and is drawn again with every new answer.

import { age, h, icon, remembered, render } from "./dom.js";
import { devicePage } from "./device.js";
import { fleetPage } from "./fleet.js";
import { modelsPage } from "./models.js";
import { pipelinePage } from "./pipeline.js";

const PAGES = { fleet: fleetPage, device: devicePage, pipeline: pipelinePage, models: modelsPage };
const NAV = [["fleet", "Fleet"], ["pipeline", "Pipeline"], ["models", "Models"]];
const POLL_MS = 1500;
const LOST_AFTER_MS = 4000;

const main = document.getElementById("main");
const state = { page: "fleet", params: [], data: null, error: null, path: null, tag: null, clock: 0, heard: Date.now(), timer: 0, run: 0 };

/** The gateway's clock, because ages must not depend on the clock of the browser. */
const now = () => Date.now() + state.clock;

function route() {
  const [page, ...params] = location.hash.replace(/^#\/?/, "").split("/").map(decode);
  const known = Object.hasOwn(PAGES, page) ? page : "fleet";
  const moved = known !== state.page || params.join("/") !== state.params.join("/");
  Object.assign(state, { page: known, params });
  if (moved || !state.data) {
    Object.assign(state, { data: null, error: null });
    render(main, h("p.loading", {}, "Loading …"));
    scrollTo(0, 0);
  }
  render(document.getElementById("nav"), NAV.map(([name, text]) =>
    h("a", { href: `#/${name}`, "aria-current": name === known || (name === "fleet" && known === "device") ? "page" : null }, icon(name), text)));
  document.title = `${PAGES[known].title(params)} · kpstream`;
  poll();
}

function decode(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

/** Fetch the data of the page, draw it, and schedule the next poll; one poll at a time. */
async function poll() {
  clearTimeout(state.timer);
  const run = ++state.run;
  const path = PAGES[state.page].path(state.params);
  if (path !== state.path) Object.assign(state, { path, tag: null });
  try {
    const headers = state.tag && state.data ? { "If-None-Match": state.tag } : {};
    const answer = await fetch(path, { headers, cache: "no-store", signal: AbortSignal.timeout(8000) });
    if (run !== state.run) return;
    const data = answer.status === 304 ? state.data : await answer.json();
    if (run !== state.run) return;
    const nowMs = Number(answer.headers.get("X-Now-Ms"));
    if (nowMs) state.clock = nowMs - Date.now();
    state.heard = Date.now();
    if (answer.ok || answer.status === 304) Object.assign(state, { data, error: null, tag: answer.headers.get("ETag") });
    else Object.assign(state, { error: data.error ?? `status ${answer.status}`, missing: answer.status === 404 });
  } catch {
    if (run !== state.run) return;
  }
  draw();
  state.timer = setTimeout(poll, document.hidden ? POLL_MS * 20 : POLL_MS);
}

function draw() {
  drawBanner();
  drawHealth();
  if (state.error && !state.data) {
    render(main, h("div.card.empty", {}, h("h2", {}, state.missing ? "Not found" : "The gateway cannot show this page"), h("p", {}, state.error)));
  } else if (state.data) {
    render(main, PAGES[state.page].draw(state.data, { params: state.params, now: now(), width: innerWidthOf(main), poll, redraw: draw }));
  }
}

function innerWidthOf(node) {
  const style = getComputedStyle(node);
  return Math.max(240, node.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight));
}

function drawBanner() {
  const banner = document.getElementById("banner");
  const silent = Date.now() - state.heard;
  const lost = silent > LOST_AFTER_MS;
  banner.hidden = !lost && !(state.error && state.data);
  if (lost) render(banner, icon("warn"), `No connection to the gateway; the page shows data from ${age(Date.now() - silent, Date.now())}. Trying again …`);
  else if (!banner.hidden) render(banner, icon("warn"), state.error);
}

function drawHealth() {
  const health = state.data?.health;
  const node = document.getElementById("health");
  const lost = Date.now() - state.heard > LOST_AFTER_MS;
  const [tone, text] = lost || !health ? ["quiet", lost ? "No connection" : "Connecting"] : health.ready ? ["good", "Ready"] : ["bad", "Not ready"];
  node.className = `health ${tone}`;
  node.title = health && !health.ready ? health.problems.join("\n") : "";
  render(node, h("i.dot"), h("span", {}, text));
}

function drawTheme() {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  const button = document.getElementById("theme");
  const text = dark ? "Light theme" : "Dark theme";
  button.setAttribute("aria-label", text);
  render(button, icon(dark ? "sun" : "moon"), h("span", {}, text));
  button.onclick = () => {
    root.dataset.theme = dark ? "light" : "dark";
    remembered.set("theme", root.dataset.theme);
    drawTheme();
  };
}

document.getElementById("skip").onclick = (event) => {
  event.preventDefault(); // the hash is the route
  main.focus();
};
addEventListener("hashchange", route);
addEventListener("resize", () => draw());
document.addEventListener("visibilitychange", () => document.hidden || poll());
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawTheme);
drawTheme();
route();
