// Small charts in SVG: a sparkline, a timeline strip, and a chart with axes, band, marks and cursor.

import { clockTime, dateTime, duration, h, words } from "./dom.js";

/** Colour class of a label: its place in the fleet's list of labels. */
export const hue = (labels, label) => `hue-${Math.max(0, labels.indexOf(label)) % 10}`;

/** points: [[t, value]], domain: [low, high] of the value. Stretches to its box. */
export function sparkline(points, domain, label) {
  if (points.length < 2) return h("div.spark.empty", { role: "img", "aria-label": "no trend yet" });
  const [first, last] = [points[0][0], points.at(-1)[0]];
  const x = (t) => ((t - first) / Math.max(1, last - first)) * 100;
  const y = (v) => 40 - ((clamp(v, domain) - domain[0]) / (domain[1] - domain[0])) * 40;
  const line = points.map(([t, v]) => `${x(t).toFixed(2)},${y(v).toFixed(2)}`).join(" ");
  return h(
    "div.spark", { role: "img", "aria-label": label },
    h("svg", { viewBox: "0 0 100 40", preserveAspectRatio: "none", "aria-hidden": "true" },
      h("polygon.spark-area", { points: `0,40 ${line} 100,40` }),
      h("polyline.spark-line", { points: line })),
    h("i.spark-dot", { style: { top: `${(y(points.at(-1)[1]) / 40) * 100}%` } }),
  );
}

/** readings: [[t, value]], ahead: [[t, p10, p50, p90]]. Stretches to its box. */
export function fan(readings, ahead, label) {
  if (readings.length < 2) return h("div.fan.empty", { role: "img", "aria-label": "no readings yet" });
  const [now, newest] = readings.at(-1);
  const rows = ahead.length ? [[now, newest, newest, newest], ...ahead] : [];
  const values = [...readings.map(([, v]) => v), ...ahead.flatMap((row) => row.slice(1))];
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const [first, last] = [readings[0][0], ahead.at(-1)?.[0] ?? now];
  const x = (t) => (((t - first) / Math.max(1, last - first)) * 100).toFixed(2);
  const y = (v) => (high > low ? 40 - ((v - low) / (high - low)) * 40 : 20).toFixed(2);
  const line = (points) => points.map(([t, v]) => `${x(t)},${y(v)}`).join(" ");
  return h(
    "div.fan", { role: "img", "aria-label": label },
    h("svg", { viewBox: "0 0 100 40", preserveAspectRatio: "none", "aria-hidden": "true" },
      rows.length > 0 && [
        h("polygon.fan-band", { points: line([...rows.map(([t, , , top]) => [t, top]), ...rows.map(([t, bottom]) => [t, bottom]).reverse()]) }),
        h("line.fan-now", { x1: x(now), x2: x(now), y1: -2, y2: 42 }),
        h("polyline.fan-middle", { points: line(rows.map(([t, , middle]) => [t, middle])) }),
      ],
      h("polyline.fan-reading", { points: line(readings) })),
    h("i.fan-dot", { style: { left: `${x(now)}%`, top: `${(y(newest) / 40) * 100}%` } }),
  );
}

/** runs: [[start, end, label]] within [since, until]. */
export function strip(runs, since, until, labels) {
  const span = Math.max(1, until - since);
  const shares = timeShares(runs);
  const text = [...shares].map(([label, share]) => `${words(label)} ${Math.round(share * 100)} %`).join(", ");
  return h(
    "svg.strip", {
      viewBox: "0 0 1000 10", preserveAspectRatio: "none", role: "img",
      "aria-label": runs.length ? `Last ${duration(span)}: ${text}` : "no activity in this time",
    },
    h("rect.strip-bed", { width: 1000, height: 10 }),
    runs.map(([start, end, label]) =>
      h("rect", {
        class: hue(labels, label),
        x: (((start - since) / span) * 1000).toFixed(2),
        width: Math.max(1, ((end - start) / span) * 1000).toFixed(2),
        height: 10,
      }, h("title", {}, `${words(label)}, ${clockTime(start, 0)} to ${clockTime(end, 0)} (${duration(end - start)})`))),
  );
}

/** Map of label to its share of the time covered, largest first. */
export function timeShares(runs) {
  const sums = new Map();
  let all = 0;
  for (const [start, end, label] of runs) {
    sums.set(label, (sums.get(label) ?? 0) + end - start);
    all += end - start;
  }
  const shares = [...sums].map(([label, sum]) => [label, all ? sum / all : 0]);
  return new Map(shares.sort((a, b) => b[1] - a[1]));
}

export function timeAxis(since, until, count) {
  const span = until - since;
  const ticks = Array.from({ length: count + 1 }, (_, i) => since + (span * i) / count);
  return h("div.time-axis", { "aria-hidden": "true" }, ticks.map((t) => h("span", {}, clockTime(t, span))));
}

export function legend(items) {
  return h("ul.legend", {}, items.map(([cls, text]) => h("li", {}, h("i.swatch", { class: cls }), text)));
}

const dragged = { id: null, from: 0, to: 0 }; // the span over which the reader drags now
const cursors = new Map(); // chart id -> time under the cursor, kept across redraws

/**
 * A chart over time.
 * lines: [{cls, name, points: [[t, v | null]]}], band: [[t, low, high]], marks: [[t, text]],
 * fan: another band, shades: [[from, to]] behind everything,
 * labels: [[from, to, text, cls]] on top, with their time behind; onselect(from, to): the reader has
 * dragged over a span; levels: [[v, cls, text]], zone: [low, high] of the value, read(t) -> [[name, value, cls]] for the
 * cursor; width in CSS pixels; rows: grid lines wanted; exact: the domain is y and is not rounded.
 */
export function chart({ id, width, height = 220, x, y, format, lines, band = [], fan = [], shades = [], marks = [], labels = [], onselect, levels = [], zone = null, rows: wanted = 4, exact = false, read, label, redraw }) {
  const pad = { left: exact ? 52 : 44, right: 14, top: exact ? 6 : 14, bottom: 24 };
  const inner = { w: Math.max(50, width - pad.left - pad.right), h: height - pad.top - pad.bottom };
  const [low, high] = exact ? y : niceDomain(y, wanted);
  const px = (t) => pad.left + ((t - x[0]) / Math.max(1, x[1] - x[0])) * inner.w;
  const py = (v) => pad.top + inner.h - ((clamp(v, [low, high]) - low) / (high - low)) * inner.h;
  const cursor = cursors.get(id);
  const times = [...new Set(lines.flatMap((line) => line.points.map(([t]) => t)))].sort((a, b) => a - b);
  const moveTo = (t) => { t === undefined ? cursors.delete(id) : cursors.set(id, t); redraw(); };
  const nearest = (t) => times.reduce((best, at) => (Math.abs(at - t) < Math.abs(best - t) ? at : best), times[0]);
  const rows = cursor !== undefined && times.length ? read(nearest(cursor)) : [];
  const timeAt = (event) => {
    const box = event.currentTarget.getBoundingClientRect();
    return clamp(x[0] + ((event.clientX - box.left - pad.left) / inner.w) * (x[1] - x[0]), x);
  };
  return h(
    "div.chart", {
      key: `chart-${id}`, tabindex: "0", role: "img",
      "aria-label": label + (rows.length ? `. At ${clockTime(nearest(cursor), 0)}: ${rows.map(([n, v]) => `${n} ${v}`).join(", ")}` : ""),
      style: { height: `${height}px` },
      onpointermove: (event) => {
        if (dragged.id === id) dragged.to = timeAt(event);
        if (times.length) moveTo(nearest(timeAt(event)));
      },
      onpointerdown: (event) => {
        if (!onselect || event.button) return;
        event.currentTarget.setPointerCapture(event.pointerId);
        Object.assign(dragged, { id, from: timeAt(event), to: timeAt(event) });
      },
      onpointerup: (event) => {
        if (dragged.id !== id) return;
        const [from, to] = [dragged.from, timeAt(event)].sort((a, b) => a - b).map(Math.round);
        dragged.id = null;
        if (px(to) - px(from) > 4) onselect(from, to);
      },
      onpointerleave: () => moveTo(undefined),
      onblur: () => moveTo(undefined),
      onkeydown: (event) => {
        const step = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity }[event.key];
        if (!step || !times.length) return;
        event.preventDefault();
        const at = cursor === undefined ? times.length - 1 : times.indexOf(nearest(cursor)) + step;
        moveTo(times[Math.min(times.length - 1, Math.max(0, at))]);
      },
    },
    h("svg", { viewBox: `0 0 ${width} ${height}`, width, height, "aria-hidden": "true" },
      zone && h("rect.zone", { x: pad.left, width: inner.w, y: py(zone[1]).toFixed(1), height: Math.max(1, py(zone[0]) - py(zone[1])).toFixed(1) }),
      shades.map(([from, to]) => [Math.max(from, x[0]), Math.min(to, x[1])]).filter(([from, to]) => to > from).map(([from, to]) =>
        h("rect.shade", { x: px(from).toFixed(1), width: Math.max(2, px(to) - px(from)).toFixed(1), y: pad.top, height: inner.h })),
      [...labels, ...(dragged.id === id ? [[Math.min(dragged.from, dragged.to), Math.max(dragged.from, dragged.to), "", "selected"]] : [])]
        .filter(([from, to]) => to >= x[0] && from <= x[1]).map(([from, to, text, cls]) => labelOf(px(Math.max(from, x[0])), px(Math.min(to, x[1])), text, cls, pad.top, inner.h, width - pad.right)),
      ticks(low, high, wanted).map((v) => [
        h("line.grid", { x1: pad.left, x2: width - pad.right, y1: py(v), y2: py(v) }),
        h("text.tick", { x: pad.left - 8, y: py(v) + 4, "text-anchor": "end" }, format(v)),
      ]),
      timeTicks(x, inner.w).filter((t) => !exact || (px(t) > pad.left + 20 && px(t) < width - 26)).map((t) => h("text.tick", { x: px(t).toFixed(1), y: height - 6, "text-anchor": "middle" }, clockTime(t, x[1] - x[0]))),
      levels.filter(([v]) => v > low && v < high).map(([v, cls, text]) => [
        h("line.level", { class: cls, x1: pad.left, x2: width - pad.right, y1: py(v), y2: py(v) }),
        h("text.level-text", { class: cls, x: pad.left + 6, y: py(v) - 5 }, text),
      ]),
      [band, fan].filter((rows) => rows.length > 1).map((rows) => h("polygon.band", {
        points: [...rows.map(([t, , top]) => [t, top]), ...rows.map(([t, bottom]) => [t, bottom]).reverse()]
          .map(([t, v]) => `${px(t).toFixed(1)},${py(v).toFixed(1)}`).join(" "),
      })),
      lines.map(({ cls, points }) => h("path.line", { class: cls, d: pathOf(points, px, py) })),
      marks.filter(([t]) => t >= x[0] && t <= x[1]).map(([t, text]) => [
        h("line.mark", { x1: px(t), x2: px(t), y1: pad.top, y2: pad.top + inner.h }),
        h("text.mark-text", {
          x: px(t) > width - 60 ? px(t) - 5 : px(t) + 5, y: pad.top + 9,
          "text-anchor": px(t) > width - 60 ? "end" : "start",
        }, text),
      ]),
      rows.length > 0 && h("line.cursor", { x1: px(nearest(cursor)), x2: px(nearest(cursor)), y1: pad.top, y2: pad.top + inner.h }),
    ),
    rows.length > 0 && h("div.tip", {
      class: px(cursor) > width / 2 ? "left" : "right",
      style: { left: `${px(nearest(cursor))}px` },
    },
    h("b", {}, (x[1] - x[0] > 86_400_000 ? dateTime : clockTime)(nearest(cursor), 0)),
    rows.map(([name, value, cls]) => h("span", {}, h("i.swatch", { class: cls }), name, h("em", {}, value)))),
  );
}

/** What somebody said about a span or a moment; its text stays left of the end of the chart. */
function labelOf(left, right, text, cls, top, height, end) {
  const shown = text.length * 6 > Math.max(80, right - left) ? `${text.slice(0, 12)}…` : text;
  const isLast = left + 4 + shown.length * 7 > end;
  return h("g.label", { class: cls },
    h("rect", { x: left.toFixed(1), width: Math.max(2, right - left).toFixed(1), y: top, height }),
    h("rect.label-bar", { x: left.toFixed(1), width: Math.max(2, right - left).toFixed(1), y: top + height - 4, height: 4 }),
    text && h("text.label-text", { x: (isLast ? Math.min(right, end) - 4 : left + 4).toFixed(1), y: top + height - 9, "text-anchor": isLast ? "end" : "start" }, shown));
}

function pathOf(points, px, py) {
  let pen = "M";
  let path = "";
  for (const [t, v] of points) {
    if (v === null || v === undefined) {
      pen = "M";
      continue;
    }
    path += `${pen}${px(t).toFixed(1)} ${py(v).toFixed(1)}`;
    pen = "L";
  }
  return path;
}

const clamp = (v, [low, high]) => Math.min(high, Math.max(low, v));

function niceDomain([low, high], rows) {
  if (!(high > low)) high = low + 1;
  const step = niceStep((high - low) / rows);
  return [Math.floor(low / step) * step, Math.ceil((high - step * 1e-6) / step) * step];
}

function niceStep(raw) {
  const power = 10 ** Math.floor(Math.log10(raw));
  const lead = raw / power;
  return (lead <= 1 ? 1 : lead <= 2 ? 2 : lead <= 2.5 ? 2.5 : lead <= 5 ? 5 : 10) * power;
}

function ticks(low, high, rows) {
  const step = niceStep((high - low) / rows);
  const found = [];
  for (let v = Math.ceil(low / step - 1e-6) * step || 0; v <= high + step * 1e-6; v += step) found.push(v);
  return found;
}

const TIME_STEPS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800, 259200, 604800, 1209600, 2592000, 7776000, 31536000].map((s) => s * 1000);

function timeTicks([from, to], width) {
  const days = to - from > 2 * 86_400_000 ? 86_400_000 : 0; // the text of a tick is a date then
  const wanted = Math.max(days, (to - from) / Math.max(2, width / 90));
  const step = TIME_STEPS.find((s) => s >= wanted) ?? TIME_STEPS.at(-1);
  const offset = new Date(from).getTimezoneOffset() * 60_000;
  const found = [];
  for (let t = Math.ceil((from - offset) / step) * step + offset; t <= to; t += step) found.push(t);
  return found;
}
