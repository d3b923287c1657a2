// Pipeline: whether the counters balance, latency, throughput, partitions, dead letters.

import { chart, legend } from "./charts.js";
import { bytes, dateTime, duration, h, rate, short, whole, words } from "./dom.js";
import { equation, pill, problems, tile, tiles } from "./parts.js";

const REASONS = {
  bad_topic: "the topic lacks a site, device or stream, or a name has invalid characters",
  not_json: "the message is not JSON",
  wrong_shape: "the JSON is in none of the three forms of a reading",
  wrong_type: "a value is not a number",
  not_finite: "a value is NaN or infinite",
  too_large: "the message is larger than allowed",
  too_many_readings: "the message has more readings than allowed",
  empty: "the message has no reading",
  clock_unset: "the device's clock is before the year 2000",
  future: "the device's clock is ahead",
  missing_channel: "a channel that the model needs is missing",
  no_model: "no model scores this stream",
  not_sparkplug: "the message is not a Sparkplug B payload",
  no_birth: "Sparkplug data without a birth certificate (a rebirth was requested)",
  unreadable: "a record of the log cannot be read",
};

export const pipelinePage = {
  title: () => "Pipeline",
  path: () => "/api/v1/pipeline",
  draw(data, { now, width, redraw }) {
    const t = data.totals;
    const history = data.history;
    const rates = (name) => history.slice(1).map((s, i) => {
      const step = s[name] - history[i][name];
      return [s.now_ms, step < 0 ? null : (step * 1000) / (s.now_ms - history[i].now_ms)];
    });
    const received = rates("taken");
    const recent = (list) => {
      const last = list.slice(-5).filter(([, v]) => v !== null);
      return last.length ? last.reduce((sum, [, v]) => sum + v, 0) / last.length : null;
    };
    const deadLetters = Object.entries(t.dead_letters).sort((a, b) => b[1] - a[1]);
    const backlog = data.partitions.reduce((sum, p) => sum + p.backlog, 0);
    const half = (width - (width > 900 ? 16 : 0)) / (width > 900 ? 2 : 1) - (width > 700 ? 42 : 34);
    const x = [history[0]?.now_ms ?? now - 60_000, Math.max(history.at(-1)?.now_ms ?? now, (history[0]?.now_ms ?? 0) + 30_000)];
    return [
      h("div.head", {}, h("div", {}, h("h1", {}, "Pipeline"), h("p", {}, "From the sensor's message to the stored point."))),
      problems(data.health),
      tiles(
        tile("Readings", rate(recent(received)), { unit: "/s", note: `${short(t.received)} in all` }),
        tile("Scores", rate(recent(rates("scored"))), { unit: "/s", note: `${short(t.scored)} since the start` }),
        tile("Sensor to score, p50", duration(t.sensor_to_score.p50_ms), { note: "last minute" }),
        tile("Sensor to score, p99", duration(t.sensor_to_score.p99_ms), { note: `receive to score ${duration(t.receive_to_score.p99_ms)}` }),
        tile("Waiting in the log", whole(backlog), { unit: backlog === 1 ? "record" : "records", note: `${data.partitions.length} partitions read` }),
        tile("Dead letters", whole(deadLetters.reduce((sum, [, n]) => sum + n, 0)), { note: deadLetters.length ? `${deadLetters.length} ${deadLetters.length === 1 ? "reason" : "reasons"}` : "since the start" }),
      ),
      h("div.stack", {},
        h("section.card.pad", {}, h("div.card-head", {}, h("h2", {}, "Account"), h("span.muted.small", {}, `readings of ${data.devices} ${data.devices === 1 ? "device" : "devices"}, each in exactly one term, in ${whole(t.windows)} windows; kept over restarts`)),
          equation(t),
          data.unbalanced.length > 0 && h("p.flow", {}, h("span", {}, "Does not balance: ", h("b", {}, data.unbalanced.slice(0, 8).join(", ")))),
          h("p.flow", {},
            h("span", {}, "Since this process started: ", h("b", {}, whole(t.messages_received)), " MQTT messages →"), h("span", {}, h("b", {}, whole(t.messages_logged)), " in the log →"),
            h("span", {}, h("b", {}, whole(t.taken)), " readings taken →"), h("span", {}, h("b", {}, whole(t.scored)), " scores →"), h("span", {}, h("b", {}, whole(t.stored)), " points stored;"),
            h("span", {}, h("b", {}, whole(t.messages_dead_lettered)), " messages refused by the bridge"))),
        h("div.two", {},
          rateChart("throughput", "Throughput", [["Readings", "hue-accent", received], ["Scores", "hue-2", rates("scored")], ["Stored", "hue-3", rates("stored")]], (v) => `${rate(v)}/s`, rate),
          rateChart("latency", "Latency from sensor to score", [["p50", "hue-accent", history.map((s) => [s.now_ms, s.p50_ms])], ["p99", "hue-3", history.map((s) => [s.now_ms, s.p99_ms])]], duration, (v) => (v === 0 ? "0" : duration(v)))),
        partitionTable(data.partitions),
        deadLetterTable(deadLetters), partsCard(data)),
    ];

    function rateChart(id, title, lines, read, format) {
      const all = lines.flatMap(([, , points]) => points.map(([, v]) => v ?? 0));
      const maps = lines.map(([name, cls, points]) => [name, cls, new Map(points)]);
      return h("section.card.pad", { key: id }, h("div.card-head", {}, h("h2", {}, title), legend(lines.map(([name, cls]) => [cls, name]))),
        chart({
          id, width: half, height: 200, x, y: [0, Math.max(10, ...all)], format,
          lines: lines.map(([name, cls, points]) => ({ name, cls, points })),
          read: (at) => maps.map(([name, cls, points]) => [name, points.has(at) && points.get(at) !== null ? read(points.get(at)) : "–", cls]),
          label: `${title} over the last minutes; arrow keys read single values`, redraw,
        }));
    }
  },
};

function partitionTable(partitions) {
  return h("section.card", {}, h("div.pad.card-head", { style: { "padding-bottom": "4px", margin: "0" } }, h("h2", {}, "Partitions"), h("span.muted.small", {}, "what each consumer group has read and committed")),
    partitions.length === 0 ? h("p.empty", {}, "No partition has been read yet.") : h("div.table-box", { tabindex: "0", role: "region", "aria-label": "Partitions" }, h("table", {},
      h("thead", {}, h("tr", {}, h("th", {}, "Partition"), h("th", {}, "Group"), h("th.num", {}, "Backlog"), h("th", {}, "State"), h("th.num", {}, "Committed"), h("th.num", {}, "End"), h("th.num", {}, "Last advance"))),
      h("tbody", {}, partitions.map((p) => h("tr", { key: `${p.app} ${p.topic} ${p.partition}` },
        h("td.nowrap", {}, p.topic, " ", h("b", {}, p.partition)), h("td.muted", {}, p.app), h("td.num", {}, whole(p.backlog)),
        h("td", {}, p.stalled ? pill("bad", "alert", "Stalled") : p.backlog === 0 ? pill("good", "check", "Up to date") : pill("quiet", "clock", "Advancing")),
        h("td.num.muted", {}, p.committed === null ? "–" : whole(p.committed)), h("td.num.muted", {}, whole(p.end_offset)),
        h("td.num.muted", {}, p.backlog === 0 ? "–" : duration(p.still_ms))))))));
}

function deadLetterTable(deadLetters) {
  return h("section.card", { key: "dead-letters" }, h("div.pad.card-head", { style: { "padding-bottom": "4px", margin: "0" } }, h("h2", {}, "Dead letters"), deadLetters.length > 0 && h("code.muted", {}, "kpstream dead-letters list")),
    deadLetters.length === 0
      ? h("p.empty", {}, "Nothing was refused since this process started. Refused messages are kept with their reason and can be replayed.")
      : h("div.table-box", {}, h("table.reasons", {}, h("thead", {}, h("tr", {}, h("th", {}, "Reason"), h("th", {}, "Means"), h("th.num", {}, "Count"))),
        h("tbody", {}, deadLetters.map(([reason, count]) => h("tr", { key: reason }, h("td", {}, h("code", {}, reason)), h("td.muted.small", {}, REASONS[reason] ?? ""), h("td.num", {}, whole(count))))))));
}

function partsCard(data) {
  const parts = Object.entries(data.health.parts).map(([name, value]) => [name, value !== null && typeof value === "object" ? value : { state: value }]);
  const stored = { ...Object.fromEntries(Object.entries(data.results.points).map(([name, count]) => [`${name} points`, count])), file_bytes: data.results.size_bytes, refused_points: data.totals.refused_points || null };
  return h("section.card.pad", { key: "parts" }, h("div.card-head", {}, h("h2", {}, "Parts"), pill(...(data.health.ready ? ["good", "check", "Ready"] : ["bad", "alert", "Not ready"]))),
    h("div.parts", {}, [...parts, ["results file", stored]].map(([name, values]) => h("div", { key: name }, h("h3", {}, words(name)),
      h("dl.facts", {}, facts(values))))));
}

/** The values of a part; what lies inside a value gets rows of its own, and what is empty gets none. */
function facts(values, path = []) {
  return Object.entries(values).flatMap(([key, value]) => {
    if (value === null || value === "") return [];
    if (typeof value !== "object") return [fact([...path, key], value)];
    if (!Array.isArray(value)) return facts(value, [...path, key]);
    return value.length ? [fact([...path, key], value.map((item) => (Array.isArray(item) ? item.join(" ") : typeof item === "object" ? JSON.stringify(item) : item)).join(", "))] : [];
  });
}

/** One value of a part; the ending of its name gives the unit, and names that are no words (a topic) stay. */
function fact(path, value) {
  const names = path.map((name) => (/^[a-z0-9_]+$/.test(name) ? name.replace(/_total$/, "_in_all").replace(/_(bytes|seconds|ms|s)$/, "").replaceAll("_", " ") : name));
  return h("div", {}, h("dt", {}, path.length === 1 ? words(names[0]) : names.join(" · ").replace(/^[a-z]/, (first) => first.toUpperCase())), h("dd", {}, figure(path.at(-1), value)));
}

function figure(key, value) {
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (typeof value !== "number") return String(value);
  if (key.endsWith("_bytes")) return bytes(value);
  if (key.endsWith("_s")) return value > 1e9 ? dateTime(value * 1000) : duration(value * 1000);
  if (key.endsWith("_seconds")) return duration(value * 1000);
  if (key.endsWith("_ms")) return value > 1e11 ? dateTime(value) : duration(value);
  return whole(value);
}
