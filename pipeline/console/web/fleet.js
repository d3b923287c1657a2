// Fleet: every machine by urgency, every person with the last minutes.

import { hue, legend, sparkline, strip } from "./charts.js";
import { duration, h, icon, percent, remembered, whole, words } from "./dom.js";
import { condition, deviceHref, firstReading, isStale, lastHeard, pill, problems, stalePill, tile, tiles, toggle } from "./parts.js";

const SPANS_MS = [1, 2, 3, 5, 10].map((minutes) => minutes * 60_000);
const choice = { layout: remembered.get("layout", "cards"), filter: "" };

export const fleetPage = {
  title: () => "Fleet",
  path: () => "/api/v1/fleet",
  draw(data, { now, redraw }) {
    const { settings, labels } = data;
    const wanted = choice.filter.trim().toLowerCase();
    const shown = data.devices.filter((d) => !wanted || `${d.site}/${d.device}/${d.stream}`.toLowerCase().includes(wanted));
    const people = shown.filter((d) => d.task === "activity");
    const span = commonSpan(people);
    const machines = shown.filter((d) => d.task !== "activity").sort(byUrgency(settings, now));
    return [
      h("div.head", {}, h("div", {}, h("h1", {}, "Fleet"), h("p", {}, summary(data.devices, settings, now))), data.devices.length > 6 && search(redraw)),
      problems(data.health),
      data.devices.length === 0 && firstReading(settings, data.streams),
      data.devices.length > 0 && overview(data.devices, settings, now),
      wanted && shown.length === 0 && h("div.card.empty.section", {}, h("h2", {}, "No device matches"), h("p", {}, "The filter looks at site, device and stream.")),
      machines.length > 0 && h("section.section", { key: "machines", "aria-labelledby": "machines" },
        h("div.section-head", {}, h("h2", { id: "machines" }, "Machines ", h("span.count", {}, machines.length)), h("span.muted.small", {}, "most urgent first, stale last"),
          h("div.end", {}, toggle("Layout", [["cards", "Cards"], ["table", "Table"]], choice.layout, (value) => {
            choice.layout = value;
            remembered.set("layout", value);
            redraw();
          }))),
        choice.layout === "table"
          ? machineTable(machines, settings, now)
          : h("ul.machines", { key: "cards" }, machines.map((d) => machineCard(d, settings, now)))),
      people.length > 0 && h("section.section", { key: "people", "aria-labelledby": "people" },
        h("div.section-head", {}, h("h2", { id: "people" }, "People ", h("span.count", {}, people.length)),
          h("div.end", {}, legend(labels.map((label) => [hue(labels, label), words(label)])))),
        h("ul.card.people", {}, axisRow(span), people.map((d) => person(d, labels, settings, now, span)))),
    ];
  },
};

/** Live before stale (an old score is no news), then by RUL, then by name. */
const byUrgency = (settings, now) => (a, b) => isStale(a, settings, now) - isStale(b, settings, now)
  || (a.rul?.value ?? 1e9) - (b.rul?.value ?? 1e9)
  || a.device.localeCompare(b.device, "en", { numeric: true });

function summary(devices, settings, now) {
  const sites = new Set(devices.map((d) => d.site)).size;
  const unscored = devices.filter((d) => !d.rul && !d.activity).length;
  const live = devices.filter((d) => !isStale(d, settings, now)).length;
  if (!devices.length) return "Machines and people, as their sensors tell it.";
  return `${live} of ${devices.length} ${devices.length === 1 ? "device" : "devices"} live, ${sites} ${sites === 1 ? "site" : "sites"}${unscored ? `, ${unscored} waiting for a first score` : ""}`;
}

function search(redraw) {
  return h("label.search", {}, icon("search"),
    h("input", { type: "search", placeholder: "Filter devices", "aria-label": "Filter devices", oninput: (event) => { choice.filter = event.target.value; redraw(); } }));
}

function overview(devices, settings, now) {
  const machines = devices.filter((d) => d.rul);
  const people = devices.filter((d) => d.activity);
  const count = (tone) => machines.filter((d) => condition(d.rul.value, settings)[0] === tone).length;
  const lowest = machines.length ? machines.reduce((a, b) => (a.rul.value <= b.rul.value ? a : b)) : null;
  const common = people.length ? mostCommon(people.map((d) => d.activity.label)) : null;
  const stale = devices.filter((d) => isStale(d, settings, now)).length;
  return tiles(
    tile("Critical machines", whole(count("bad")), { tone: count("bad") ? "bad" : "", note: `RUL below ${settings.rul_critical}` }),
    tile("Wearing machines", whole(count("warn")), { tone: count("warn") ? "warn" : "", note: `RUL below ${settings.rul_warning}` }),
    tile("Lowest RUL", lowest ? whole(lowest.rul.value) : "–", { unit: lowest?.unit, note: lowest?.device ?? "no score yet" }),
    tile("Most common activity", common ? words(common[0]) : "–", { note: common ? `${common[1]} of ${people.length}` : "no score yet" }),
    tile("Stale devices", whole(stale), { tone: stale ? "warn" : "", note: `silent for ${duration(settings.stale_ms)} or more` }),
  );
}

function mostCommon(values) {
  const counts = new Map();
  for (const value of values) counts.set(value, (counts.get(value) ?? 0) + 1);
  return [...counts].sort((a, b) => b[1] - a[1])[0];
}

const between = (rul) => (rul.low === null || rul.high === null ? "" : `${whole(Math.max(0, rul.low))} – ${whole(rul.high)}`);

const trendOf = (d) => sparkline(d.rul.trend, [0, Math.max(125, ...d.rul.trend.map(([, v]) => v))], `trend of the last scores, now ${whole(d.rul.value)} ${d.unit}`);

function machineCard(d, settings, now) {
  const [tone] = condition(d.rul?.value, settings);
  return h("li.card.machine", { key: deviceHref(d), class: `${tone} ${isStale(d, settings, now) ? "is-stale" : ""}` },
    h("div.machine-head", {}, h("div", {}, h("h3", {}, h("a.cover", { href: deviceHref(d) }, d.device)), h("p", {}, d.site)), pill(...condition(d.rul?.value, settings))),
    d.rul ? [
      h("div.rul", {}, h("b", {}, whole(d.rul.value)), h("span", {}, d.unit),
        between(d.rul) && h("span.between", { title: "calibrated interval of this score" }, "between ", between(d.rul))),
      trendOf(d),
    ] : waiting(d),
    h("div.machine-foot", {}, h("span", {}, d.version === undefined ? d.stream : `${d.model} v${d.version}`), isStale(d, settings, now) ? stalePill(d, now) : h("span", {}, lastHeard(d, now))));
}

function waiting(d) {
  if (!d.task) return h("div.wait", {}, `No model for stream “${d.stream}”`);
  return h("div.wait", {}, "Waiting for a full window", h("span.small", {}, `${whole(d.account?.windowed ?? 0)} readings so far`));
}

function machineTable(machines, settings, now) {
  return h("div.card.table-box", { key: "table" }, h("table", {},
    h("thead", {}, h("tr", {}, h("th", {}, "Machine"), h("th", {}, "Site"), h("th", {}, "Condition"), h("th.num", {}, "RUL"), h("th.num", {}, "Interval"), h("th", {}, "Trend"), h("th", {}, "Model"), h("th.num", {}, "Last reading"))),
    h("tbody", {}, machines.map((d) => h("tr.link", { key: deviceHref(d), class: `${condition(d.rul?.value, settings)[0]} ${isStale(d, settings, now) ? "is-stale" : ""}` },
      h("td.nowrap", {}, h("a", { href: deviceHref(d) }, d.device)), h("td.muted.nowrap", {}, d.site), h("td", {}, pill(...condition(d.rul?.value, settings))),
      h("td.num", {}, d.rul ? `${whole(d.rul.value)} ${d.unit}` : "–"), h("td.num.muted", {}, d.rul ? between(d.rul) : "–"),
      h("td", {}, d.rul ? trendOf(d) : "–"), h("td.muted.nowrap", {}, d.version === undefined ? "–" : `${d.model} v${d.version}`), h("td.num.muted", {}, isStale(d, settings, now) ? stalePill(d, now) : lastHeard(d, now)))))));
}

/** The same span for everyone: what was recorded, up to what the gateway tells. */
function commonSpan(people) {
  const needed = Math.max(0, ...people.map(({ activity: a }) => (a?.runs.length ? a.until_ms - a.runs[0][0] : 0)));
  return SPANS_MS.find((span) => span >= needed) ?? SPANS_MS.at(-1);
}

function axisRow(span) {
  return h("li.ends", { key: "ends", "aria-hidden": "true" }, h("div.time-axis", {}, h("span", {}, `last ${duration(span)}`), h("span", {}, duration(span / 2)), h("span", {}, "newest")));
}

function person(d, labels, settings, now, span) {
  const stale = isStale(d, settings, now);
  return h("li", { key: deviceHref(d), class: stale ? "is-stale" : "" },
    h("div", {}, h("h3", {}, h("a.cover", { href: deviceHref(d) }, d.device)), h("p", {}, d.site)),
    d.activity
      ? h("div.who-activity", { class: hue(labels, d.activity.label) },
          h("div.name", {}, h("i.swatch"), words(d.activity.label), h("em", {}, percent(d.activity.probability))),
          h("div.bar", { "aria-hidden": "true" }, h("i", { style: { width: `${(d.activity.probability ?? 0) * 100}%` } })))
      : h("div.who-activity.muted.small", {}, "Waiting for a full window"),
    d.activity ? strip(d.activity.runs, d.activity.until_ms - span, d.activity.until_ms, labels) : h("div"),
    h("div.age", {}, stale ? stalePill(d, now) : lastHeard(d, now)));
}

