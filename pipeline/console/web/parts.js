// Parts that several pages and cards share.

import { age, clockTime, dateTime, duration, h, icon, whole } from "./dom.js";

/** Site, device and stream in the path of an address. */
export const devicePath = (d) => [d.site, d.device, d.stream].map(encodeURIComponent).join("/");

/** Address of the page of a device. */
export const deviceHref = (d) => `#/device/${devicePath(d)}`;

/** The newest score of a device, as its task's card shows it; undefined before the first one. */
export const scoreOf = (d) => (d.task ? d[d.task] : undefined);

export const heardMs = (d) => d.last_recv_ms ?? d.written_ms ?? null;

export const isStale = (d, settings, now) => heardMs(d) === null || now - heardMs(d) > (d.stale_ms ?? settings.stale_ms);

export const pill = (tone, iconName, text) => h("span.pill", { class: tone }, icon(iconName), text);

export function stalePill(d, now) {
  const heard = heardMs(d);
  return pill("quiet", "clock", heard === null ? "No data" : `Stale, ${duration(now - heard)}`);
}

/** What somebody has said about a device: its alarm is known, or it is out of use. */
export const notePill = (d) => d.note && h("span.pill.quiet", { title: `${d.note.kind} by ${d.note.by} ${dateTime(d.note.at_ms)}${d.note.text ? `: ${d.note.text}` : ""}` },
  icon("check"), d.note.kind === "retired" ? "Retired" : "Acknowledged");

export function tile(label, value, { unit, note, tone } = {}) {
  return h("div.tile", { class: tone }, h("dt", {}, label), h("dd", { class: String(value).length > 12 ? "long" : "" }, value, unit && h("small", {}, unit)), note && h("div.note", {}, note));
}

export const tiles = (...children) => h("dl.tiles", {}, children);

export function problems(health) {
  if (!health) return null;
  const callout = (kind, sign, title, texts) => texts.length > 0 && h(`div.callout.${kind}`, { role: "status" }, icon(sign),
    h("div", {}, h("b", {}, title), h("ul", {}, texts.map((text) => h("li", {}, text)))));
  return [
    callout("bad", "alert", "The gateway is not ready", health.ready ? [] : health.problems),
    callout("warn", "warn", "The broker does not keep everything", health.notices ?? []),
    callout("warn", "warn", "Mapping files have faults", Object.values(health.parts?.mappings?.faults ?? {})),
  ];
}

export function toggle(label, choices, chosen, choose) {
  return h("div.buttons", { role: "group", "aria-label": label }, choices.map(([value, text]) =>
    h("button", { type: "button", "aria-pressed": String(value === chosen), onclick: () => choose(value) }, text)));
}

/** The equation received = windowed + duplicate + corrected + late + dead-lettered, with its check. */
export function equation(account, size) {
  const terms = [["windowed", "windowed", "hue-0"], ["duplicate", "duplicate", "hue-1"], ["corrected", "corrected", "hue-4"], ["late", "late", "hue-3"], ["dead_lettered", "dead-lettered", "hue-6"]];
  const missing = account.missing;
  return h("div", {},
    h("div.equation", { class: size },
      h("div.term", {}, h("b", {}, whole(account.received)), h("span", {}, "received")),
      terms.map(([name, text, hue], i) => [
        h("div.pair", {}, h("span.op", { "aria-hidden": "true" }, i ? "+" : "="),
          h("div.term", {}, h("b", {}, whole(account[name])), h("span", {}, h("i.swatch", { class: hue }), text))),
      ]),
      missing === 0 ? pill("good", "check", "Balances") : pill("bad", "alert", `${whole(Math.abs(missing))} ${missing > 0 ? "missing" : "too many"}`)),
    h("div.shares", { "aria-hidden": "true" }, terms.filter(([name]) => account[name] > 0).map(([name, , hue]) =>
      h("i", { class: hue, style: { flex: `${account[name]} 0 0` } }))));
}

/** Whether the newest score of a device is doubtful: its readings are not of the kind that its student learned. */
export const isDoubtful = (d) => Boolean(d.quality) && d.quality !== "good";

export const doubtPill = (d) => (isDoubtful(d) ? h("span", { title: d.quality }, pill("warn", "warn", "Doubtful")) : null);

const DOUBTS = {
  unit: "The readings seem to be in another unit",
  range: "Readings are outside of what the student has learned",
  constant: "A channel does not move",
  rate: "The stream is slower than half of the student's rate",
  "made up": "More than half of the readings were made up by resampling",
  unfamiliar: "The window is unlike those that the student has learned from",
};

/** Why the newest score of a device is doubtful. */
export function doubtNote(d) {
  if (!isDoubtful(d)) return null;
  const texts = d.quality.split("; ").map((flag) => {
    const [kind, channels] = flag.split(": ");
    return channels ? `${DOUBTS[kind] ?? kind}: ${channels}` : DOUBTS[kind] ?? kind;
  });
  return h("div.callout.warn", { key: "doubt", role: "status" }, icon("warn"),
    h("div", {}, h("b", {}, "The newest score is doubtful"), h("ul", {}, texts.map((text) => h("li", {}, text)))));
}

/** The rate of a stream, and whether it fits its student. */
export function rateTile(d) {
  const rate = d.account?.rate_hz ?? null;
  if (!d.wanted_hz && (rate === null || rate < 0.1)) return null;
  const number = (hertz) => (hertz === null ? "–" : String(Number(hertz.toPrecision(3))));
  const slow = d.wanted_hz && rate !== null && rate < d.wanted_hz / 2;
  const fits = rate === null || Math.abs(rate / d.wanted_hz - 1) < 0.02 ? "" : slow ? "; too slow for it" : "; resampled";
  return tile("Rate", number(rate), { unit: rate === null ? "" : "Hz", tone: slow ? "warn" : "", note: d.wanted_hz ? `student wants ${number(d.wanted_hz)} Hz${fits}` : "readings per second" });
}

/** A tile above the fleet, if the newest scores of some devices are doubtful. */
export function doubtTile(tasks) {
  const doubtful = tasks.reduce((sum, figures) => sum + figures.doubtful, 0);
  return doubtful > 0 && tile("Doubtful scores", whole(doubtful), { tone: "warn", note: "readings unlike training" });
}

/** In place of a score on the fleet page. */
export function waiting(d) {
  if (!d.task) return h("div.wait", {}, `No model for stream “${d.stream}”`);
  return h("div.wait", {}, "Waiting for a full window", h("span.small", {}, `${whole(d.account?.windowed ?? 0)} readings so far`));
}

export const lastHeard = (d, now) => age(heardMs(d), now);

/** A command line with a button that copies it. */
export function paste(line) {
  return h("div.paste", {}, h("pre", {}, h("code", {}, line)),
    navigator.clipboard && h("button", { type: "button", "aria-label": "Copy the command", title: "Copy", onclick: () => navigator.clipboard.writeText(line) }, icon("copy")));
}

/** Id of a section of the fleet page. */
export const sectionId = (task, subject) => `section-${task}-${subject}`;

/** The word for several of what wears the sensors. */
export const subjects = (subject) => (subject === "person" ? "People" : "Machines");

/** Cards in the order of the gateway; by site with a heading for each site. */
export function cardList(devices, isBySite, draw) {
  if (!isBySite) return h("ul.machines", { key: "cards" }, devices.map(draw));
  const bySite = new Map();
  for (const d of devices) bySite.set(d.site, [...(bySite.get(d.site) ?? []), d]);
  return [...bySite].map(([site, found]) => [
    h("h3.site", { key: `site-${site}` }, site),
    h("ul.machines", { key: `cards-${site}` }, found.map(draw)),
  ]);
}

/** Help for a gateway without readings: commands to paste. */
export function firstReading(settings, streams) {
  const stream = streams?.[0]?.stream ?? "engine";
  const channels = streams?.[0]?.channels?.length ? streams[0].channels : ["T24", "T30"];
  const values = channels.map((name) => `"${name}": 0.0`).join(", ");
  const address = `-h ${settings.mqtt_host} -p ${settings.mqtt_port}`;
  return h("div.card.empty", {},
    h("h2", {}, "No readings yet"),
    h("p", {}, `Publish readings to ${settings.topic_prefix}/{site}/{device}/${stream}. A device appears here with its first reading, and is scored as soon as a window is full. To send one reading:`),
    paste(`mosquitto_pub ${address} -q 1 -t ${settings.topic_prefix}/plant-1/machine-01/${stream} -m '{"ts": '$(date +%s%3N)', "values": {${values}}}'`),
    h("p", {}, "To publish a recorded data set as a fleet:"),
    paste("kpstream replay cmapss --from PATH"));
}

/** Tiles that every device has. */
export function facts(d, now) {
  return [
    tile("Last reading", age(heardMs(d), now), { note: heardMs(d) === null ? "" : clockTime(heardMs(d), 0) }),
    tile("Receive to score", duration(d.latency_ms), { note: "newest score" }),
    tile("Model", `v${d.version ?? "–"}`, { note: d.model }),
    rateTile(d),
  ].filter(Boolean);
}

/** Padding and border of the card around a chart. */
export const chartInset = ({ width }) => (width > 700 ? 42 : 34);

/** First and last time of a chart. */
export function spanOf(data, rows) {
  const until = data.until_ms;
  const first = rows.length ? rows[0][0] : data.since_ms;
  // A device younger than the span fills the chart instead of a corner of it.
  return [Math.min(Math.max(data.since_ms, first), until - 1000), until];
}
