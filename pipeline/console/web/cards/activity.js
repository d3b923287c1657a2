// Card of an activity: people (or machines in a state) with their last minutes, and the timeline and
// probabilities of one.

import { chart, hue, legend, strip, timeAxis, timeShares } from "../charts.js";
import { clockTime, duration, h, percent, whole, words } from "../dom.js";
import { labelling } from "../label.js";
import { chartInset, deviceHref, doubtPill, facts, isStale, lastHeard, notePill, scoreOf, sectionId, stalePill, tile, tiles } from "../parts.js";

const SPANS_MS = [1, 2, 3, 5, 10].map((minutes) => minutes * 60_000);

export const activityCard = {
  /** Tiles above the fleet. */
  tiles({ common, scored }) {
    return [tile("Most common activity", common ? words(common[0]) : "–", { note: common ? `${whole(common[1])} of ${whole(scored)}` : "no score yet" })];
  },

  /** The section of the fleet page, for the devices of this card. */
  section(people, { labels, settings, now, subject, count }) {
    const span = commonSpan(people);
    const id = sectionId("activity", subject);
    return h("section.section", { key: id, "aria-labelledby": id },
      h("div.section-head", {}, h("h2", { id }, subject === "person" ? "People " : "States of machines ", h("span.count", {}, whole(count))),
        h("div.end", {}, legend(labelsOf(people, labels).map((label) => [hue(labels, label), words(label)])))),
      h("ul.card.people", {}, axisRow(span), people.map((d) => person(d, labels, settings, now, span))));
  },

  /** Beside the name of a device. */
  pill: () => null,

  /** The page of a device with a score. */
  device: course,
};

/** The probability of a score is that of its nearest class, which an unknown window does not have. */
const isKnown = (activity) => activity.label !== "unknown";

const nearest = ({ probabilities }) => words(Object.keys(probabilities).reduce((best, label) => (probabilities[label] > (probabilities[best] ?? -1) ? label : best), "class"));

/** The labels that these devices can have or had: people and machines share no legend. */
function labelsOf(people, labels) {
  const own = new Set(people.map(scoreOf).filter(Boolean).flatMap((score) => [...Object.keys(score.probabilities), ...score.runs.map(([, , label]) => label)]));
  return labels.filter((label) => own.has(label));
}

/** One span for everyone: as much as was recorded, up to the ten minutes that the gateway sends. */
function commonSpan(people) {
  const needed = Math.max(0, ...people.map(scoreOf).map((a) => (a?.runs.length ? a.until_ms - a.runs[0][0] : 0)));
  return SPANS_MS.find((span) => span >= needed) ?? SPANS_MS.at(-1);
}

function axisRow(span) {
  return h("li.ends", { key: "ends", "aria-hidden": "true" }, h("div.time-axis", {}, h("span", {}, `last ${duration(span)}`), h("span", {}, duration(span / 2)), h("span", {}, "newest")));
}

function person(d, labels, settings, now, span) {
  const stale = isStale(d, settings, now);
  const activity = scoreOf(d);
  return h("li", { key: deviceHref(d), class: stale ? "is-stale" : "" },
    h("div", {}, h("h3", {}, h("a.cover", { href: deviceHref(d) }, d.device)), h("p", {}, d.site)),
    activity
      ? h("div.who-activity", { class: hue(labels, activity.label) },
          h("div.name", {}, h("i.swatch"), words(activity.label), isKnown(activity) && h("em", {}, percent(activity.probability))),
          isKnown(activity) && h("div.bar", { "aria-hidden": "true" }, h("i", { style: { width: `${(activity.probability ?? 0) * 100}%` } })))
      : h("div.who-activity.muted.small", {}, "Waiting for a full window"),
    activity ? strip(activity.runs, activity.until_ms - span, activity.until_ms, labels) : h("div"),
    h("div.age", {}, stale ? stalePill(d, now) : lastHeard(d, now), " ", doubtPill(d), notePill(d)));
}

function course(data, context) {
  const d = data.device;
  const { labels } = data;
  const activity = scoreOf(d);
  const rows = data.series; // [t, last, min, max]
  const shares = timeShares(activity.runs);
  const at = new Map(rows.map((row) => [row[0], row]));
  const labelAt = (t) => activity.runs.find(([start, end]) => start < t && t <= end)?.[2];
  const since = Math.max(activity.since_ms, Math.min(activity.runs[0]?.[0] ?? activity.since_ms, activity.until_ms - 1));
  const listed = labels.length ? labels : Object.keys(activity.probabilities);
  return [
    tiles(
      tile("Now", words(activity.label), { note: `since ${clockTime(activity.runs.at(-1)?.[0] ?? d.time_ms, 0)}` }),
      isKnown(activity)
        ? tile("Probability", percent(activity.probability), { note: "of the newest window" })
        : tile("Probability", "–", { note: `no class fits; the nearest, ${nearest(activity)}, has ${percent(activity.probability)}` }),
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
        h("section.card.pad", {}, h("div.card-head", {}, h("h2", {}, "Probability of the activity named"), h("span.muted.small", {}, "dips mark uncertain windows")),
          chart({
            id: "probability", width: (context.width - (context.width > 900 ? 16 : 0)) / (context.width > 900 ? 2 : 1) - chartInset(context), height: 190, x: [since, activity.until_ms], y: [0, 1], format: percent,
            lines: [{ name: "Probability", cls: "hue-accent", points: rows.map(([t, v]) => [t, v]) }],
            band: rows.map(([t, , low, high]) => [t, low, high]),
            marks: data.versions.slice(1).map(([t, version]) => [t, `v${version}`]),
            ...labelling(data, context),
            read: (t) => (at.has(t) ? [[labelAt(t) === "unknown" ? "Nearest class" : words(labelAt(t) ?? "Probability"), percent(at.get(t)[1]), hue(labels, labelAt(t))]] : []),
            label: "Probability of the most probable activity over time; arrow keys read single scores",
            redraw: context.redraw,
          })))),
  ];
}
