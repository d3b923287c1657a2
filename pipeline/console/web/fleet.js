// Fleet: the overview of all devices, and a page of them in sections: a task on machines, or on
// people. The gateway searches, sorts and counts, so the page is as quick with 20,000 devices as with
// twenty. A first look has the first few devices of each section; a section by itself has pages.

import { cardOf, sections } from "./cards/cards.js";
import { duration, h, icon, remembered, whole } from "./dom.js";
import { doubtTile, firstReading, problems, tile, tiles, toggle } from "./parts.js";

const FEW = 6; // devices that need no search
const PER_SECTION = 12; // devices of each section at first sight
const WAIT_MS = 250; // after a key before the gateway is asked
const STATES = [["", "All"], ["live", "Live"], ["stale", "Stale"], ["waiting", "Waiting"], ["retired", "Retired"]];
const ORDERS = [["urgent", "Urgent first"], ["site", "By site"]];
const choice = { search: "", task: "", subject: "", state: "", sort: remembered.get("order", "urgent"), cursors: [] };
let typing = 0;

export const fleetPage = {
  title: () => "Fleet",
  path() {
    const query = new URLSearchParams();
    for (const name of ["search", "task", "subject", "state"]) if (choice[name]) query.set(name, choice[name].trim());
    if (choice.sort !== "urgent") query.set("sort", choice.sort);
    if (choice.cursors.length) query.set("cursor", choice.cursors.at(-1));
    else if (!choice.task && !choice.search && !choice.state) query.set("per_section", PER_SECTION);
    const text = query.toString();
    return `/api/v1/fleet${text ? `?${text}` : ""}`;
  },
  draw(data, { now, redraw, poll }) {
    const { settings, labels, tasks, devices, overview } = data;
    const isChosen = Boolean(choice.search || choice.task || choice.state);
    const isFirstLook = !isChosen && !choice.cursors.length;
    const isLong = overview.devices > devices.length || isChosen;
    return [
      h("div.head", {}, h("div", {}, h("h1", {}, "Fleet"), h("p", {}, summary(overview))), (overview.devices > FEW || isChosen) && search(poll)),
      problems(data.health),
      overview.devices === 0 && firstReading(settings, data.streams),
      overview.devices > 0 && overviewTiles(data),
      (isLong || overview.retired > 0) && filters(data, poll),
      isChosen && devices.length === 0 && h("div.card.empty.section", { key: "none" }, h("h2", {}, "No device matches"), h("p", {}, "The search looks into site, device and stream.")),
      sections(data).map(([card, { task, subject, matching }, found]) => [
        card.section(found, { settings, labels, now, redraw, task, subject, title: tasks[task].title, count: matching, isBySite: choice.sort === "site" }),
        isFirstLook && matching > found.length && h("p.more", { key: `more-${task}-${subject}` },
          h("button", { type: "button", onclick: () => { choose({ task, subject }, poll); scrollTo(0, 0); } }, `Show all ${whole(matching)}`)),
      ]),
      isLong && !isFirstLook && data.matching > devices.length && pager(data, poll),
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
    names.length > 1 && toggle("Task", [["", "All tasks"], ...names.map((name) => [name, tasks[name].title])], choice.task, (task) => choose({ task, subject: "" }, poll)),
    toggle("State", STATES.filter(([state]) => state !== "retired" || overview.retired || choice.state === state), choice.state, (state) => choose({ state }, poll)),
    overview.sites > 1 && toggle("Order", ORDERS, choice.sort, (sort) => {
      remembered.set("order", sort);
      choose({ sort }, poll);
    }));
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
    doubtTile(Object.values(overview.tasks)),
    tile("Stale devices", whole(stale), { tone: stale ? "warn" : "", note: `silent for ${duration(settings.stale_ms)} or more` }),
  );
}
