// One device: the newest score, its course with interval and model changes, and its account.

import { chart, hue, legend, strip, timeAxis, timeShares } from "./charts.js";
import { age, clockTime, dateTime, duration, h, icon, percent, remembered, whole, words } from "./dom.js";
import { condition, equation, heardMs, isStale, pill, problems, stalePill, tile, tiles, toggle } from "./parts.js";

const SPANS = [["300000", "5 min"], ["900000", "15 min"], ["3600000", "1 h"], ["21600000", "6 h"], ["86400000", "24 h"], ["604800000", "7 d"], ["", "All"]];
const choice = { span: remembered.get("span", "900000") };

export const devicePage = {
  title: ([, device]) => device ?? "Device",
  path(params) {
    const where = params.slice(0, 3).map(encodeURIComponent).join("/");
    return `/api/v1/devices/${where}${choice.span ? `?span_ms=${choice.span}` : ""}`;
  },
  draw(data, context) {
    const d = data.device;
    const { now, poll } = context;
    const stale = isStale(d, data.settings, now);
    const spans = toggle("Time span", SPANS, choice.span, (value) => {
      choice.span = value;
      remembered.set("span", value);
      poll();
    });
    return [
      h("a.crumb", { href: "#/fleet" }, icon("back"), "Fleet"),
      h("div.head", {},
        h("div", {}, h("div.title", {}, h("h1", {}, d.device), d.rul ? pill(...condition(d.rul.value, data.settings)) : null, stale ? stalePill(d, now) : null),
          h("p", {}, [d.site, d.stream, d.version === undefined ? null : `scored by ${d.model} v${d.version}`].filter(Boolean).join(" · "))),
        (d.rul || d.activity) && spans),
      problems(data.health),
      d.rul ? machine(data, context) : d.activity ? personView(data, context) : waiting(d),
      h("div.stack", {}, d.account && h("section.card.pad", {},
        h("div.card-head", {}, h("h2", {}, "Account of the readings"), h("span.muted.small", {}, "each reading is in exactly one of the terms")),
        equation(d.account, "small-equation"),
        h("p.flow", {}, h("span", {}, h("b", {}, whole(d.account.windows)), " windows closed,"), h("span", {}, h("b", {}, whole(d.account.gaps)), " gaps,"),
          h("span", {}, "last event time ", h("b", {}, d.account.last_event_ms === null ? "–" : dateTime(d.account.last_event_ms)))))),
    ];
  },
};

function waiting(d) {
  return h("div.card.empty", {}, h("h2", {}, d.task ? "No score yet" : "No model scores this stream"),
    h("p", {}, d.task ? `A score appears when a window is full; ${whole(d.account?.windowed ?? 0)} readings have been accepted so far.`
      : `Publish a model for stream “${d.stream}” to the registry; readings are kept in the log meanwhile.`));
}

function facts(d, now) {
  return [
    tile("Last reading", age(heardMs(d), now), { note: heardMs(d) === null ? "" : clockTime(heardMs(d), 0) }),
    tile("Receive to score", duration(d.latency_ms), { note: "newest score" }),
    tile("Model", `v${d.version ?? "–"}`, { note: d.model }),
  ];
}

function machine(data, context) {
  const d = data.device;
  const { settings } = data;
  const rows = data.series; // [t, last, low, high, min, max]
  const top = Math.max(125, ...rows.map((row) => row[3] ?? row[1]));
  const x = spanOf(data, rows);
  const has = (v) => v !== null && v !== undefined;
  const at = new Map(rows.map((row) => [row[0], row]));
  const versionAt = (t) => data.versions.findLast(([since]) => since <= t)?.[1];
  const [tone] = condition(d.rul.value, settings);
  return [
    tiles(
      tile("Remaining useful life", whole(d.rul.value), { unit: d.unit, tone: tone === "good" ? "" : tone, note: condition(d.rul.value, settings)[2] }),
      tile("Interval", has(d.rul.low) ? `${whole(Math.max(0, d.rul.low))} – ${whole(d.rul.high)}` : "–", { unit: has(d.rul.low) ? d.unit : "", note: "calibrated" }),
      ...facts(d, context.now),
    ),
    h("div.stack", {}, h("section.card.pad", {},
      h("div.card-head", {}, h("h2", {}, "Remaining useful life ", h("span.unit", {}, `in ${d.unit}`)), legend([["hue-accent", "RUL"], ["swatch-band hue-accent", "interval"], ...(data.versions.length > 1 ? [["swatch-mark", "model change"]] : [])])),
      chart({
        id: "rul", width: context.width - chartInset(context), height: 300, x, y: [0, top], format: whole,
        lines: [{ name: "RUL", cls: "hue-accent", points: rows.map(([t, v]) => [t, v]) }],
        band: rows.filter((row) => has(row[2]) && has(row[3])).map((row) => [row[0], row[2], row[3]]),
        marks: data.versions.slice(1).map(([t, version]) => [t, `v${version}`]),
        levels: [[settings.rul_warning, "warn", "wearing"], [settings.rul_critical, "bad", "critical"]],
        read: (t) => {
          const row = at.get(t);
          return row ? [["RUL", `${row[1].toFixed(1)} ${d.unit}`, "hue-accent"], ...(has(row[2]) ? [["Interval", `${whole(row[2])} – ${whole(row[3])}`, "swatch-band hue-accent"]] : []), ["Model", `v${versionAt(t) ?? "–"}`, "quiet"]] : [];
        },
        label: `RUL from ${whole(rows[0]?.[1])} to ${whole(rows.at(-1)?.[1])} ${d.unit}; arrow keys read single scores`,
        redraw: context.redraw,
      }))),
  ];
}

function personView(data, context) {
  const d = data.device;
  const { labels } = data;
  const { activity } = d;
  const rows = data.series; // [t, last, min, max]
  const shares = timeShares(activity.runs);
  const at = new Map(rows.map((row) => [row[0], row]));
  const labelAt = (t) => activity.runs.find(([start, end]) => start < t && t <= end)?.[2];
  const since = Math.max(activity.since_ms, Math.min(activity.runs[0]?.[0] ?? activity.since_ms, activity.until_ms - 1));
  const listed = labels.length ? labels : Object.keys(activity.probabilities);
  return [
    tiles(
      tile("Now", words(activity.label), { note: `since ${clockTime(activity.runs.at(-1)?.[0] ?? d.time_ms, 0)}` }),
      tile("Probability", percent(activity.probability), { note: "of the newest window" }),
      ...facts(d, context.now),
    ),
    h("div.stack", {},
      h("section.card.pad.tall", {}, h("div.card-head", {}, h("h2", {}, "Activity"), h("span.muted.small", {}, `${duration(activity.until_ms - since)} up to ${clockTime(activity.until_ms, 0)}`)),
        strip(activity.runs, since, activity.until_ms, labels), timeAxis(since, activity.until_ms, context.width < 560 ? 3 : 6),
        legend([...shares].map(([label, share]) => [hue(labels, label), `${words(label)} ${percent(share)}`]))),
      h("div.two", {},
        h("section.card.pad", {}, h("div.card-head", {}, h("h2", {}, "Probabilities"), h("span.muted.small", {}, "newest window")),
          Object.keys(activity.probabilities).length
            ? h("ul.probabilities", {}, listed.map((label) => h("li", { class: `${hue(labels, label)} ${label === activity.label ? "top" : ""}` },
                h("span", {}, words(label)), h("div.bar", { "aria-hidden": "true" }, h("i", { style: { width: `${(activity.probabilities[label] ?? 0) * 100}%` } })), h("em", {}, percent(activity.probabilities[label] ?? 0)))))
            : h("p.muted", {}, "This model's scores carry the most probable activity only.")),
        h("section.card.pad", {}, h("div.card-head", {}, h("h2", {}, "Probability of the activity named"), h("span.muted.small", {}, "dips mark doubtful windows")),
          chart({
            id: "probability", width: (context.width - (context.width > 900 ? 16 : 0)) / (context.width > 900 ? 2 : 1) - chartInset(context), height: 190, x: [since, activity.until_ms], y: [0, 1], format: percent,
            lines: [{ name: "Probability", cls: "hue-accent", points: rows.map(([t, v]) => [t, v]) }],
            band: rows.map(([t, , low, high]) => [t, low, high]),
            marks: data.versions.slice(1).map(([t, version]) => [t, `v${version}`]),
            read: (t) => (at.has(t) ? [[words(labelAt(t) ?? "Probability"), percent(at.get(t)[1]), hue(labels, labelAt(t))]] : []),
            label: "Probability of the most probable activity over time; arrow keys read single scores",
            redraw: context.redraw,
          })))),
  ];
}

/** Padding and border of the card around a chart. */
const chartInset = ({ width }) => (width > 700 ? 42 : 34);

function spanOf(data, rows) {
  const until = data.until_ms;
  const first = rows.length ? rows[0][0] : data.since_ms;
  // A device younger than the span fills the chart instead of a corner of it.
  return [Math.min(Math.max(data.since_ms, first), until - 1000), until];
}
