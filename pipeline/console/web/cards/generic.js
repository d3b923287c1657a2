// Card of a task without a card of its own: the number with its unit, or the label, of each device.

import { chart, legend, sparkline } from "../charts.js";
import { h, percent, whole, words } from "../dom.js";
import { labelling } from "../label.js";
import { cardList, chartInset, deviceHref, facts, isStale, lastHeard, notePill, scoreOf, sectionId, spanOf, stalePill, tile, tiles, waiting } from "../parts.js";

const isNumber = (score) => score.value !== undefined;

/** Three significant digits: the range of the number is not known here. */
const short = (value) => (value === null || value === undefined ? "–" : Math.abs(value) >= 100 ? whole(value) : String(Number(value.toPrecision(3))));

const shown = (score) => (isNumber(score) ? short(score.value) : words(score.label));

export const genericCard = {
  tiles: () => [],

  section(devices, { settings, now, task, subject, title, count, isBySite }) {
    const id = sectionId(task, subject);
    return h("section.section", { key: id, "aria-labelledby": id },
      h("div.section-head", {}, h("h2", { id }, `${title} `, h("span.count", {}, whole(count)))),
      cardList(devices, isBySite, (d) => card(d, settings, now)));
  },

  pill: () => null,

  device(data, context) {
    const d = data.device;
    const { title } = data.tasks[d.task];
    const score = scoreOf(d);
    return [
      tiles(
        tile(title, shown(score), { unit: isNumber(score) ? d.unit : "", note: isNumber(score) ? "newest window" : `probability ${percent(score.probability)}` }),
        ...facts(d, context.now),
      ),
      isNumber(score) && h("div.stack", {}, h("section.card.pad", {},
        h("div.card-head", {}, h("h2", {}, `${title} `, h("span.unit", {}, `in ${d.unit}`)), legend([["hue-accent", title], ...(data.versions.length > 1 ? [["swatch-mark", "model change"]] : [])])),
        course(data, context, title))),
    ];
  },
};

function card(d, settings, now) {
  const score = scoreOf(d);
  const stale = isStale(d, settings, now);
  return h("li.card.machine", { key: deviceHref(d), class: stale ? "is-stale" : "" },
    h("div.machine-head", {}, h("div", {}, h("h3", {}, h("a.cover", { href: deviceHref(d) }, d.device)), h("p", {}, d.site)), notePill(d)),
    score ? [
      h("div.rul", {}, h("b", {}, shown(score)), h("span", {}, isNumber(score) ? d.unit : percent(score.probability))),
      isNumber(score) && sparkline(score.trend, range(score.trend.map(([, value]) => value)), `trend of the last scores, now ${shown(score)} ${d.unit}`),
    ] : waiting(d),
    h("div.machine-foot", {}, h("span", {}, d.version === undefined ? d.stream : `${d.model} v${d.version}`), stale ? stalePill(d, now) : h("span", {}, lastHeard(d, now))));
}

function course(data, context, title) {
  const d = data.device;
  const rows = data.series; // [t, last, low, high, min, max]
  const at = new Map(rows.map((row) => [row[0], row]));
  return chart({
    id: d.task, width: context.width - chartInset(context), height: 300, x: spanOf(data, rows), y: range(rows.flatMap(([, , , , low, high]) => [low, high])), format: short,
    lines: [{ name: title, cls: "hue-accent", points: rows.map(([t, value]) => [t, value]) }],
    band: rows.map(([t, , , , low, high]) => [t, low, high]),
    marks: data.versions.slice(1).map(([t, version]) => [t, `v${version}`]),
    ...labelling(data, context),
    read: (t) => (at.has(t) ? [[title, `${short(at.get(t)[1])} ${d.unit}`, "hue-accent"]] : []),
    label: `${title} from ${short(rows[0]?.[1])} to ${short(rows.at(-1)?.[1])} ${d.unit}; arrow keys read single scores`,
    redraw: context.redraw,
  });
}

/** Bounds of a vertical axis: from zero, or from the least value below it. */
function range(values) {
  const least = Math.min(0, ...values);
  const most = Math.max(0, ...values);
  return most > least ? [least, most] : [least, least + 1];
}
