// Fleet: a section for each task, with the devices that its students score.

import { cardOf, sections } from "./cards/cards.js";
import { duration, h, icon, whole } from "./dom.js";
import { firstReading, isStale, problems, scoreOf, tile, tiles } from "./parts.js";

const choice = { filter: "" };

export const fleetPage = {
  title: () => "Fleet",
  path: () => "/api/v1/fleet",
  draw(data, { now, redraw }) {
    const { settings, labels, tasks } = data;
    const wanted = choice.filter.trim().toLowerCase();
    const shown = data.devices.filter((d) => !wanted || `${d.site}/${d.device}/${d.stream}`.toLowerCase().includes(wanted));
    return [
      h("div.head", {}, h("div", {}, h("h1", {}, "Fleet"), h("p", {}, summary(data.devices, settings, now))), data.devices.length > 6 && search(redraw)),
      problems(data.health),
      data.devices.length === 0 && firstReading(settings, data.streams),
      data.devices.length > 0 && overview(data, now),
      wanted && shown.length === 0 && h("div.card.empty.section", {}, h("h2", {}, "No device matches"), h("p", {}, "The filter searches site, device and stream.")),
      sections(tasks, shown).map(([card, task, devices]) => card.section(devices, { settings, labels, now, redraw, task, title: tasks[task].title })),
    ];
  },
};

function summary(devices, settings, now) {
  const sites = new Set(devices.map((d) => d.site)).size;
  const unscored = devices.filter((d) => !scoreOf(d)).length;
  const live = devices.filter((d) => !isStale(d, settings, now)).length;
  if (!devices.length) return "Machines and people with sensors.";
  return `${live} of ${devices.length} ${devices.length === 1 ? "device" : "devices"} live, ${sites} ${sites === 1 ? "site" : "sites"}${unscored ? `, ${unscored} waiting for a first score` : ""}`;
}

function search(redraw) {
  return h("label.search", {}, icon("search"),
    h("input", { type: "search", placeholder: "Filter devices", "aria-label": "Filter devices", oninput: (event) => { choice.filter = event.target.value; redraw(); } }));
}

function overview({ devices, settings, tasks }, now) {
  const stale = devices.filter((d) => isStale(d, settings, now)).length;
  return tiles(
    ...Object.keys(tasks).map((task) => [task, devices.filter((d) => d.task === task)]).filter(([, found]) => found.length > 0)
      .flatMap(([task, found]) => cardOf(tasks, task).tiles(found, { settings })),
    tile("Stale devices", whole(stale), { tone: stale ? "warn" : "", note: `silent for ${duration(settings.stale_ms)} or more` }),
  );
}
