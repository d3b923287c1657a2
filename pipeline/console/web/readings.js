// The newest raw readings of a device, one small chart per channel, with the range seen in training.

import { chart, legend } from "./charts.js";
import { h, significant, unitText } from "./dom.js";
import { labelling } from "./label.js";
import { chartInset, devicePath, pill } from "./parts.js";

const EVERY_MS = 5000; // the gateway reads them from its log, so not with every poll
const shown = { path: null, data: null, error: null, asked: 0, busy: false };

async function load(path, redraw) {
  shown.asked = Date.now();
  shown.busy = true;
  try {
    const answer = await fetch(path, { cache: "no-store", signal: AbortSignal.timeout(20_000) });
    const data = await answer.json();
    if (path !== shown.path) return;
    if (answer.ok) Object.assign(shown, { data, error: null });
    else if (answer.status !== 429) shown.error = data.error; // too many at once: the next try will do
  } catch {
    // The banner of the page tells of a gateway that is away.
  } finally {
    if (path === shown.path) shown.busy = false;
  }
  redraw();
}

/** The section below the scores. */
export function rawReadings(d, data, context) {
  if (!data.settings.explains) return null;
  const path = `/api/v1/devices/${devicePath(d)}/readings`;
  if (shown.path !== path) Object.assign(shown, { path, data: null, error: null, asked: 0, busy: false });
  if (!shown.busy && Date.now() - shown.asked >= EVERY_MS) load(path, context.redraw);
  const { channels, readings } = shown.data ?? { channels: [], readings: [] };
  const seen = channels.some((channel) => channel.seen);
  return h("section.card.pad", { key: "raw" },
    h("div.card-head", {}, h("h2", {}, "Raw readings ", readings.length > 0 && h("span.unit", {}, `newest ${readings.length}`)),
      channels.length > 0 && legend([["hue-accent", "reading"], ...(seen ? [["swatch-zone", "range seen in training"]] : [])])),
    readings.length > 1
      ? h("div.channels", {}, channels.map((channel, place) => small(channel, place, readings, data, context)))
      : h("p.muted", {}, shown.error ?? (shown.data ? "The log holds no readings of this device." : "Reading the log …")));
}

function small(channel, place, readings, data, context) {
  const points = readings.map((row) => [row[0], row[place + 1]]);
  const values = points.map(([, value]) => value);
  const newest = values.at(-1);
  const { seen } = channel;
  const y = domain(values, seen);
  const inner = context.width - chartInset(context);
  const columns = Math.max(1, Math.floor((inner + 24) / (320 + 24)));
  const outside = seen && (newest < seen.low || newest > seen.high);
  return h("div.channel", { key: channel.name },
    h("div.channel-head", {}, h("h3", {}, channel.name), outside && pill("warn", "warn", newest < seen.low ? "below training" : "above training"),
      h("span", {}, h("b", {}, significant(newest)), unitText(channel.unit))),
    chart({
      id: `raw-${channel.name}`, width: (inner - 24 * (columns - 1)) / columns, height: 104, rows: 3, exact: true,
      x: [points[0][0], Math.max(points.at(-1)[0], points[0][0] + 1)], y, format: (value) => significant(value, 5),
      lines: [{ name: channel.name, cls: "hue-accent", points }],
      zone: seen && [seen.low, seen.high], ...labelling(data, context),
      read: (t) => points.filter(([at]) => at === t).slice(0, 1).map(([, value]) => [channel.name, `${significant(value)}${unitText(channel.unit)}`, "hue-accent"]),
      label: `${channel.name}, newest ${significant(newest)}${unitText(channel.unit)}${seen ? `, in training ${significant(seen.low)} to ${significant(seen.high)}` : ""}; arrow keys read single readings`,
      redraw: context.redraw,
    }));
}

/** The readings fill the chart, but a ripple deep inside the range of training stays small. */
function domain(values, seen) {
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const span = Math.max(high - low, seen ? (seen.high - seen.low) * 0.3 : 0) || Math.abs(high) * 0.02 || 1;
  const middle = (low + high) / 2;
  return [Math.min(low, middle - span / 2) - span * 0.08, Math.max(high, middle + span / 2) + span * 0.08];
}
