// Card of a forecast: how odd the newest readings of a device are, and what its sensors read next.

import { chart, fan, legend } from "../charts.js";
import { duration, h, percent, remembered, significant, unitText, whole } from "../dom.js";
import { labelling } from "../label.js";
import { cardList, chartInset, deviceHref, doubtPill, facts, isStale, lastHeard, notePill, pill, scoreOf, sectionId, spanOf, stalePill, tile, tiles, toggle, waiting } from "../parts.js";

const PROMISED = 0.8; // share of readings between p10 and p90
const choice = { lead: remembered.get("lead", "") };

export const forecastCard = {
  /** Tiles above the fleet. */
  tiles({ alarms, scored, covered }) {
    return [tile("Devices in alarm", whole(alarms), { tone: alarms ? "bad" : "", note: scored ? `of ${whole(scored)}; coverage ${percent(covered)}` : "no score yet" })];
  },

  /** The section of the fleet page, for the devices of this card. */
  section(devices, { settings, now, task, subject, title, count, isBySite }) {
    const id = sectionId(task, subject);
    return h("section.section", { key: id, "aria-labelledby": id },
      h("div.section-head", {}, h("h2", { id }, `${title} `, h("span.count", {}, whole(count))), h("span.muted.small", {}, "alarms first"),
        h("div.end", {}, legend([["hue-reading", "reading"], ["hue-accent", "forecast"], ["swatch-band hue-accent", "p10 to p90"]]))),
      cardList(devices, isBySite, (d) => card(d, settings, now)));
  },

  /** Beside the name of a device. */
  pill: (d) => (scoreOf(d) ? condition(scoreOf(d)) : null),

  /** What the address of a device's page adds for this card. */
  query: () => (choice.lead ? { lead: choice.lead } : {}),

  /** The page of a device with a score. */
  device,
};

const mean = (values) => {
  const known = values.filter((v) => v !== null && v !== undefined);
  return known.length ? known.reduce((sum, v) => sum + v, 0) / known.length : null;
};

/** An anomaly score; those near 1 are told apart, and none is rounded up to 1. */
const share = (score) => (score === null || score === undefined ? "–" : score >= 0.99 ? (Math.floor(score * 10_000) / 10_000).toFixed(4) : score.toFixed(2));

/** Labels of an axis: rounded steps, so the digits are few. */
const tick = (value) => (Math.abs(value) >= 10_000 ? whole(value) : significant(value));

/** A time ahead: whole hours where it is some. */
const ahead = (ms) => (ms % 3_600_000 === 0 && ms < 172_800_000 ? `${ms / 3_600_000} h` : duration(ms));

const withUnit = (value, unit) => `${significant(value, 4)}${unitText(unit)}`;

const condition = (score) => (score.alarm ? pill("bad", "alert", "Alarm") : pill("good", "check", "Ordinary"));

function card(d, settings, now) {
  const score = scoreOf(d);
  const stale = isStale(d, settings, now);
  return h("li.card.machine.forecast-machine", { key: deviceHref(d), class: `${score?.alarm ? "bad" : "quiet"} ${stale ? "is-stale" : ""}` },
    h("div.machine-head", {}, h("div", {}, h("h3", {}, h("a.cover", { href: deviceHref(d) }, d.device)), h("p", {}, d.site)), h("div.pills", {}, score && condition(score), doubtPill(d), notePill(d))),
    score ? [
      h("div.fan-head", {}, h("b", {}, score.shown ?? "–"), h("span", {}, withUnit(score.readings.at(-1)?.[1], score.unit)), score.ahead.length > 0 && h("span.muted", {}, `next ${ahead(score.ahead.at(-1)[0] - score.readings.at(-1)[0])}`)),
      fan(score.readings, score.ahead, `last readings of ${score.shown}, now ${withUnit(score.readings.at(-1)?.[1], score.unit)}, and its forecast`),
      h("dl.figures", {},
        h("div", { class: score.alarm ? "bad" : "", title: "share of ordinary windows that are less odd" }, h("dt", {}, "Anomaly"), h("dd", {}, share(score.score))),
        h("div", {}, h("dt", {}, "Oddest"), h("dd", {}, score.channel ?? "–")),
        h("div", { title: `mean error of p50 over the last ${score.windows} windows, in deviations of training` }, h("dt", {}, "Error"), h("dd", {}, `${rounded(score.mae_mean)} sd`)),
        h("div", { title: `share of readings between p10 and p90 over the last ${score.windows} windows` }, h("dt", {}, "Coverage"), h("dd", {}, percent(score.covered_mean)))),
    ] : waiting(d),
    h("div.machine-foot", {}, h("span", {}, d.version === undefined ? d.stream : `${d.model} v${d.version}`), stale ? stalePill(d, now) : h("span", {}, lastHeard(d, now))));
}

const rounded = (value) => (value === null || value === undefined ? "–" : value.toFixed(2));

function device(data, context) {
  const d = data.device;
  const score = scoreOf(d);
  const rows = data.series; // [t, greatest score, alarm, error, coverage]
  const alarms = alarmsOf(rows);
  const marks = data.versions.slice(1).map(([t, version]) => [t, `v${version}`]);
  return [
    tiles(
      tile("Anomaly score", share(score.score), { tone: score.alarm ? "bad" : "", note: score.alarm ? `alarm, oddest: ${score.channel}` : `oddest: ${score.channel}` }),
      tile("Error", rounded(mean(rows.map((row) => row[3]))), { unit: "sd", note: "mean of this span" }),
      tile("Coverage", percent(mean(rows.map((row) => row[4]))), { note: `promised ${percent(PROMISED)}` }),
      ...facts(d, context.now),
    ),
    h("div.stack", {},
      h("section", { "aria-labelledby": "channels" },
        h("div.section-head.channels-head", {}, h("h2", { id: "channels" }, "Readings and forecast"),
          h("div.end", {}, leads(score, context), legend([["hue-reading", "reading"], ["hue-accent", "forecast"], ["swatch-band hue-accent", "p10 to p90"], ...(alarms.length ? [["swatch-shade", "alarm"]] : [])]))),
        h("div.forecast-channels", { class: score.channels.length > 1 ? "pairs" : "" }, score.channels.map((channel, i) => channelChart(channel, i, data, alarms, marks, context)))),
      h("section.card.pad", {},
        h("div.card-head", {}, h("h2", {}, "Anomaly score"), h("span.muted.small", {}, "share of ordinary windows that are less odd")),
        chart({
          id: "anomaly", width: context.width - chartInset(context), height: 150, x: spanOf(data, rows), y: [0, 1], format: tick,
          lines: [{ name: "Score", cls: "hue-accent", points: rows.map(([t, v]) => [t, v]) }],
          shades: alarms, marks, ...labelling(data, context),
          read: (t) => readRow(rows, t, (row) => [["Score", share(row[1]), "hue-accent"], ...(row[2] ? [["Alarm", "yes", "hue-6"]] : [])]),
          label: `Anomaly score, now ${share(score.score)}${alarms.length ? `, ${alarms.length} ${alarms.length === 1 ? "alarm" : "alarms"}` : ""}; arrow keys read single scores`,
          redraw: context.redraw,
        })),
      h("div.two", {},
        backtest("Forecast error", "of p50, in deviations of training", 3, [0, Math.max(0.1, ...rows.map((row) => row[3]))], tick, (v) => `${rounded(v)} sd`, [], data, marks, context),
        backtest("Coverage", "readings between p10 and p90", 4, [0, 1], percent, percent, [[PROMISED, "good", "promised"]], data, marks, context))),
  ];
}

/** Stretches of time with an alarm; each row stands for the time since the one before. */
function alarmsOf(rows) {
  const found = [];
  rows.forEach(([t, , alarm], i) => {
    if (!alarm) return;
    const from = i ? rows[i - 1][0] : t - (rows[1]?.[0] - t || 0);
    if (found.length && found.at(-1)[1] === from) found.at(-1)[1] = t;
    else found.push([from, t]);
  });
  return found;
}

function leads(score, { poll }) {
  if (score.leads.length < 2) return null;
  return h("div.lead", {}, h("span.muted.small", {}, "made"), toggle("Made before", score.leads.map((lead) => [String(lead), ahead(lead * score.step_ms)]), String(score.lead), (value) => {
    choice.lead = value;
    remembered.set("lead", value);
    poll();
  }), h("span.muted.small", {}, "before"));
}

function readRow(rows, t, show) {
  const row = rows.find((each) => each[0] === t);
  return row ? show(row) : [];
}

function channelChart(channel, i, data, alarms, marks, context) {
  const score = scoreOf(data.device);
  const { readings, made } = channel; // [t, last, low, high], [t, p10, p50, p90]
  const wide = score.channels.length === 1 || (i === score.channels.length - 1 && score.channels.length % 2 === 1);
  const halves = context.width > 900 && !wide;
  const [from, until] = spanOf(data, readings);
  const now = readings.at(-1);
  const fanRows = now && channel.ahead.length ? [[now[0], now[1], now[1], now[1]], ...channel.ahead] : [];
  const read = new Map(readings.map((row) => [row[0], row]));
  const forecasts = new Map([...made, ...channel.ahead].map((row) => [row[0], row]));
  const values = [...readings.flatMap((row) => row.slice(2)), ...made.flatMap((row) => row.slice(1)), ...channel.ahead.flatMap((row) => row.slice(1))];
  const isOddest = score.alarm && score.channel === channel.name;
  return h("section.card.pad.channel-card", { key: `channel-${channel.name}`, class: wide ? "wide" : "" },
    h("div.card-head", {}, h("h2", {}, channel.name, unitText(channel.unit) && h("span.unit", {}, ` in${unitText(channel.unit)}`)), isOddest && pill("bad", "alert", "Oddest"), h("span.end", {}, now ? withUnit(now[1], channel.unit) : "–")),
    chart({
      id: `channel-${channel.name}`, width: (context.width - (halves ? 16 : 0)) / (halves ? 2 : 1) - chartInset(context), height: wide ? 230 : 200,
      x: [from, Math.max(until, channel.ahead.at(-1)?.[0] ?? until)], y: [Math.min(...values), Math.max(...values)], format: tick,
      band: made.map(([t, low, , high]) => [t, low, high]),
      fan: fanRows.map(([t, low, , high]) => [t, low, high]),
      lines: [
        { name: "Forecast", cls: "hue-accent thin", points: made.map(([t, , middle]) => [t, middle]) },
        { name: "Ahead", cls: "hue-accent", points: fanRows.map(([t, , middle]) => [t, middle]) },
        { name: "Reading", cls: "hue-reading", points: readings.map(([t, v]) => [t, v]) },
      ],
      shades: isOddest || !score.alarm ? alarms : alarms.slice(0, -1),
      marks: [...marks, ...(fanRows.length ? [[now[0], "now"]] : [])],
      read: (t) => [
        ...(read.has(t) ? [["Reading", withUnit(read.get(t)[1], channel.unit), "hue-reading"]] : []),
        ...(forecasts.has(t) ? [["Forecast", withUnit(forecasts.get(t)[2], channel.unit), "hue-accent"], ["p10 to p90", `${significant(forecasts.get(t)[1], 4)} to ${significant(forecasts.get(t)[3], 4)}`, "swatch-band hue-accent"]] : []),
      ],
      label: `${channel.name}, now ${now ? withUnit(now[1], channel.unit) : "unknown"}, with the forecasts made ${ahead((score.lead ?? 0) * (score.step_ms ?? 0))} before and the forecast ahead; arrow keys read single values`,
      redraw: context.redraw,
    }));
}

function backtest(title, note, column, y, format, value, levels, data, marks, context) {
  const rows = data.series;
  const halves = context.width > 900;
  return h("section.card.pad", {}, h("div.card-head", {}, h("h2", {}, title), h("span.muted.small", {}, note)),
    chart({
      id: title, width: (context.width - (halves ? 16 : 0)) / (halves ? 2 : 1) - chartInset(context), height: 160, x: spanOf(data, rows), y, format, levels, marks,
      lines: [{ name: title, cls: "hue-accent", points: rows.map((row) => [row[0], row[column]]) }],
      read: (t) => readRow(rows, t, (row) => [[title, value(row[column]), "hue-accent"]]),
      label: `${title} over time; arrow keys read single values`,
      redraw: context.redraw,
    }));
}
