// Fleet: the overview of all devices, and a page of them in a section for each task. The gateway
// searches, sorts and counts, so the page is as quick with 20,000 devices as with twenty.

import { cardOf, sections } from "./cards/cards.js";
import { duration, h, icon, whole } from "./dom.js";
import { firstReading, problems, tile, tiles, toggle } from "./parts.js";

const FEW = 6; // devices that need no search
const WAIT_MS = 250; // after a key before the gateway is asked
const STATES = [["", "All"], ["live", "Live"], ["stale", "Stale"], ["waiting", "Waiting"]];
const choice = { search: "", task: "", state: "", cursors: [] };
let typing = 0;

export const fleetPage = {
  title: () => "Fleet",
  path() {
    const query = new URLSearchParams();
    for (const name of ["search", "task", "state"]) if (choice[name]) query.set(name, choice[name].trim());
    if (choice.cursors.length) query.set("cursor", choice.cursors.at(-1));
    const text = query.toString();
    return `/api/v1/fleet${text ? `?${text}` : ""}`;
  },
  draw(data, { now, redraw, poll }) {
    const { settings, labels, tasks, devices, overview } = data;
    const isChosen = Boolean(choice.search || choice.task || choice.state);
    const isLong = overview.devices > devices.length || isChosen;
    return [
      h("div.head", {}, h("div", {}, h("h1", {}, "Fleet"), h("p", {}, summary(overview))), (overview.devices > FEW || isChosen) && search(poll)),
      problems(data.health),
      overview.devices === 0 && firstReading(settings, data.streams),
      overview.devices > 0 && overviewTiles(data),
      isLong && filters(data, poll),
      isChosen && devices.length === 0 && h("div.card.empty.section", { key: "none" }, h("h2", {}, "No device matches"), h("p", {}, "The search looks into site, device and stream.")),
      sections(tasks, devices).map(([card, task, found]) =>
        card.section(found, { settings, labels, now, redraw, task, title: tasks[task].title, count: sectionCount(data, tasks, task) })),
      isLong && data.matching > devices.length && pager(data, poll),
    ];
  },
};

/** Ask the gateway for the first page of another choice. */
function choose(changes, poll) {
  Object.assign(choice, changes, { cursors: [] });
  poll();
}

function summary({ devices, live, sites, waiting }) {
  if (!devices) return "Machines and people with sensors.";
  return `${whole(live)} of ${whole(devices)} ${devices === 1 ? "device" : "devices"} live, ${whole(sites)} ${sites === 1 ? "site" : "sites"}${waiting ? `, ${whole(waiting)} waiting for a first score` : ""}`;
}

function search(poll) {
  const oninput = (event) => {
    const text = event.target.value;
    clearTimeout(typing);
    typing = setTimeout(() => choose({ search: text }, poll), WAIT_MS);
  };
  return h("label.search", {}, icon("search"),
    h("input", { type: "search", maxlength: 200, placeholder: "Search devices", "aria-label": "Search devices", oninput }));
}

function filters({ overview, tasks }, poll) {
  const names = Object.keys(overview.tasks);
  return h("div.filters", { key: "filters" },
    names.length > 1 && toggle("Task", [["", "All tasks"], ...names.map((name) => [name, tasks[name].title])], choice.task, (task) => choose({ task }, poll)),
    toggle("State", STATES, choice.state, (state) => choose({ state }, poll)));
}

/** Devices of a section that match, on all pages; those without a model are in the first section. */
function sectionCount({ counts }, tasks, task) {
  const isFirst = Object.keys(tasks)[0] === task;
  return (counts[task] ?? 0) + (isFirst ? counts[""] ?? 0 : 0);
}

function pager({ first, matching, devices, next }, poll) {
  const turn = (cursors) => () => {
    choice.cursors = cursors;
    poll();
    scrollTo(0, 0);
  };
  return h("div.pager", { key: "pager", role: "navigation", "aria-label": "Pages of the fleet" },
    h("button", { type: "button", disabled: first === 0, onclick: turn(choice.cursors.slice(0, -1)) }, "Previous"),
    h("span", { role: "status" }, devices.length ? `${whole(first + 1)} to ${whole(first + devices.length)} of ${whole(matching)}` : `none of ${whole(matching)}`),
    h("button", { type: "button", disabled: !next, onclick: turn([...choice.cursors, next]) }, "Next"));
}

function overviewTiles({ overview, settings, tasks }) {
  const { stale } = overview;
  return tiles(
    ...Object.entries(overview.tasks).flatMap(([task, figures]) => cardOf(tasks, task).tiles(figures, { settings })),
    tile("Stale devices", whole(stale), { tone: stale ? "warn" : "", note: `silent for ${duration(settings.stale_ms)} or more` }),
  );
}
