// Card of a remaining useful life: machines by urgency, and the course of one with its interval.

import { chart, legend, sparkline } from "../charts.js";
import { h, remembered, whole } from "../dom.js";
import { labelling } from "../label.js";
import { cardList, chartInset, deviceHref, doubtPill, facts, isDoubtful, isStale, lastHeard, notePill, pill, scoreOf, sectionId, spanOf, stalePill, subjects, tile, tiles, toggle, waiting } from "../parts.js";

const choice = { layout: remembered.get("layout", "cards") };

export const rulCard = {
  /** Tiles above the fleet. */
  tiles({ critical, warning, lowest }, { settings }) {
    const [value, unit, , device] = lowest ?? [];
    return [
      tile("Critical machines", whole(critical), { tone: critical ? "bad" : "", note: `lower end of RUL below ${settings.rul_critical}` }),
      tile("Wearing machines", whole(warning), { tone: warning ? "warn" : "", note: `lower end of RUL below ${settings.rul_warning}` }),
      tile("Lowest RUL", lowest ? whole(value) : "–", { unit, note: device ?? "no score yet" }),
    ];
  },

  /** The section of the fleet page, for the devices of this card; those without a model included. */
  section(machines, { settings, now, redraw, subject, count, isBySite }) {
    const id = sectionId("rul", subject);
    return h("section.section", { key: id, "aria-labelledby": id },
      h("div.section-head", {}, h("h2", { id }, `${subjects(subject)} `, h("span.count", {}, whole(count))), h("span.muted.small", {}, isBySite ? "by site, most urgent first" : "most urgent first"),
        h("div.end", {}, toggle("Layout", [["cards", "Cards"], ["table", "Table"]], choice.layout, (value) => {
          choice.layout = value;
          remembered.set("layout", value);
          redraw();
        }))),
      choice.layout === "table"
        ? machineTable(machines, settings, now)
        : cardList(machines, isBySite, (d) => machineCard(d, settings, now)));
  },

  /** Beside the name of a device. */
  pill: (d, settings) => (scoreOf(d) && !isSilent(d, settings) ? pill(...condition(d, settings)) : null),

  /** The page of a device with a score. */
  device: course,
};

/** The number that decides: the lower end of the interval, as in the alerts; without one, the score. */
const cautious = (score) => score?.low ?? score?.value;

/** Whether a doubtful score says nothing of the condition. One that is only unfamiliar is critical if even its upper end is, as in the alerts. */
const isSilent = (d, settings) => isDoubtful(d) && !(d.quality === "unfamiliar" && (scoreOf(d)?.high ?? Infinity) < settings.rul_critical);

/** Condition of a machine: a word, an icon and a tone; never colour alone. */
function condition(d, settings) {
  const rul = cautious(scoreOf(d));
  if (isSilent(d, settings)) return ["warn", "warn", "Doubtful"];
  if (rul === null || rul === undefined) return ["quiet", "clock", "Waiting"];
  if (rul < settings.rul_critical) return ["bad", "alert", "Critical"];
  if (rul < settings.rul_warning) return ["warn", "warn", "Wearing"];
  return ["good", "check", "Healthy"];
}

/** The condition, and beside a critical one that its score is doubtful. */
const pillsOf = (d, settings) => [pill(...condition(d, settings)), !isSilent(d, settings) && doubtPill(d)];

/** Whether the student finds the window unlike what it has learned; its interval is no promise then. */
const isLost = (d) => (d.quality ?? "").split("; ").includes("unfamiliar");

const between = (rul) => (rul.low === null || rul.high === null ? "" : `${whole(Math.max(0, rul.low))} – ${whole(rul.high)}`);

const trendOf = (d) => sparkline(scoreOf(d).trend, [0, Math.max(125, ...scoreOf(d).trend.map(([, v]) => v))], `trend of the last scores, now ${whole(scoreOf(d).value)} ${d.unit}`);

function machineCard(d, settings, now) {
  const [tone] = condition(d, settings);
  return h("li.card.machine", { key: deviceHref(d), class: `${tone} ${isStale(d, settings, now) ? "is-stale" : ""}` },
    h("div.machine-head", {}, h("div", {}, h("h3", {}, h("a.cover", { href: deviceHref(d) }, d.device)), h("p", {}, d.site)), h("div.pills", {}, pillsOf(d, settings), notePill(d))),
    scoreOf(d) ? [
      h("div.rul", {}, h("b", {}, whole(scoreOf(d).value)), h("span", {}, d.unit),
        between(scoreOf(d)) && h("span.between", { title: isLost(d) ? "widened, because the window is unfamiliar" : "calibrated interval of this score" }, "between ", between(scoreOf(d)).replace("–", "and"))),
      trendOf(d),
    ] : waiting(d),
    h("div.machine-foot", {}, h("span", {}, d.version === undefined ? d.stream : `${d.model} v${d.version}`), isStale(d, settings, now) ? stalePill(d, now) : h("span", {}, lastHeard(d, now))));
}

function machineTable(machines, settings, now) {
  return h("div.card.table-box", { key: "table" }, h("table", {},
    h("thead", {}, h("tr", {}, h("th", {}, "Machine"), h("th", {}, "Site"), h("th", {}, "Condition"), h("th.num", {}, "RUL"), h("th.num", {}, "Interval"), h("th", {}, "Trend"), h("th", {}, "Model"), h("th.num", {}, "Last reading"))),
    h("tbody", {}, machines.map((d) => h("tr.link", { key: deviceHref(d), class: `${condition(d, settings)[0]} ${isStale(d, settings, now) ? "is-stale" : ""}` },
      h("td.nowrap", {}, h("a", { href: deviceHref(d) }, d.device)), h("td.muted.nowrap", {}, d.site), h("td", {}, pillsOf(d, settings), " ", notePill(d)),
      h("td.num", {}, scoreOf(d) ? `${whole(scoreOf(d).value)} ${d.unit}` : "–"), h("td.num.muted", {}, scoreOf(d) ? between(scoreOf(d)) : "–"),
      h("td", {}, scoreOf(d) ? trendOf(d) : "–"), h("td.muted.nowrap", {}, d.version === undefined ? "–" : `${d.model} v${d.version}`), h("td.num.muted", {}, isStale(d, settings, now) ? stalePill(d, now) : lastHeard(d, now)))))));
}

function course(data, context) {
  const d = data.device;
  const { settings } = data;
  const rul = scoreOf(d);
  const rows = data.series; // [t, last, low, high, min, max]
  const top = Math.max(125, ...rows.map((row) => row[3] ?? row[1]));
  const x = spanOf(data, rows);
  const has = (v) => v !== null && v !== undefined;
  const at = new Map(rows.map((row) => [row[0], row]));
  const versionAt = (t) => data.versions.findLast(([since]) => since <= t)?.[1];
  const [tone] = condition(d, settings);
  return [
    tiles(
      tile("Remaining useful life", whole(rul.value), { unit: d.unit, tone: tone === "good" ? "" : tone, note: condition(d, settings)[2] }),
      tile("Interval", has(rul.low) ? `${whole(Math.max(0, rul.low))} – ${whole(rul.high)}` : "–", { unit: has(rul.low) ? d.unit : "", note: !has(rul.low) ? "this student states none" : isLost(d) ? "widened: the window is unfamiliar" : "calibrated" }),
      ...facts(d, context.now),
    ),
    h("div.stack", {}, h("section.card.pad", {},
      h("div.card-head", {}, h("h2", {}, "Remaining useful life ", h("span.unit", {}, `in ${d.unit}`)), legend([["hue-accent", "RUL"], ["swatch-band hue-accent", "interval"], ...(data.versions.length > 1 ? [["swatch-mark", "model change"]] : [])])),
      chart({
        id: "rul", width: context.width - chartInset(context), height: 300, x, y: [0, top], format: whole,
        lines: [{ name: "RUL", cls: "hue-accent", points: rows.map(([t, v]) => [t, v]) }],
        band: rows.filter((row) => has(row[2]) && has(row[3])).map((row) => [row[0], row[2], row[3]]),
        marks: data.versions.slice(1).map(([t, version]) => [t, `v${version}`]),
        ...labelling(data, context),
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
