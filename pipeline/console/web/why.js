// Why a score is what it is: the button, and the card with channels and spans of its window.

import { clockTime, dateTime, h, icon, significant, unitText } from "./dom.js";
import { devicePath } from "./parts.js";

const shown = { path: null, state: "closed", data: null, error: null };

const pathOf = (d) => `/api/v1/devices/${devicePath(d)}/explanation`;

/** Ask why the newest score is what it is, or the one that was newest at `at`. */
async function ask(d, at, redraw) {
  const path = pathOf(d);
  Object.assign(shown, { path, state: "asking", error: null });
  redraw();
  let found;
  try {
    const answer = await fetch(at === undefined ? path : `${path}?at_ms=${at}`, { cache: "no-store", signal: AbortSignal.timeout(20_000) });
    const data = await answer.json();
    found = answer.ok ? { state: "open", data } : { state: "failed", error: data.error };
  } catch {
    found = { state: "failed", error: "The gateway did not answer; try again." };
  }
  if (shown.path !== path || shown.state !== "asking") return;
  Object.assign(shown, found);
  redraw();
}

/** The button beside the name of a device with a score. */
export function whyButton(d, data, context) {
  if (!data.settings.explains) return null;
  const asking = shown.path === pathOf(d) && shown.state === "asking";
  return h("button.action", { key: "why", type: "button", "aria-busy": String(asking), onclick: () => asking || ask(d, undefined, context.redraw) },
    icon("why"), asking ? "Asking …" : "Why?");
}

/** Why the newest alert-level score in the chart was at alert level. */
export function alertNote(d, data, context) {
  const why = data.explanation;
  if (!why || !(why.time_ms >= data.since_ms)) return null;
  return h("div.callout.warn", { key: "alert-note" }, icon("alert"),
    h("div", {}, h("b", {}, `Alert-level score of ${dateTime(why.time_ms)}`), h("p", {}, why.text),
      data.settings.explains && h("button.link", { type: "button", onclick: () => ask(d, why.time_ms, context.redraw) }, "Show all channels")));
}

/** The answer, below the head of the page; nothing before it was asked. */
export function whyCard(d, data, context) {
  if (shown.path !== pathOf(d) || shown.state === "closed" || (shown.state === "asking" && !shown.data)) return null;
  const close = h("button.link", { type: "button", onclick: () => { Object.assign(shown, { state: "closed", data: null }); context.redraw(); } }, "Close");
  if (shown.state === "failed") {
    return h("div.callout.quiet", { key: "why-card", role: "status" }, icon("alert"), h("div", {}, h("b", {}, "This score cannot be explained"), h("p", {}, shown.error), close));
  }
  const { explanation, start_ms: start, end_ms: end, title } = shown.data;
  const most = Math.max(1e-12, ...explanation.channels.flatMap((c) => c.spans.map(Math.abs)), ...explanation.channels.map((c) => Math.abs(c.effect)));
  return h("section.card.pad.why", { key: "why-card", "aria-labelledby": "why-title" },
    h("div.card-head", {}, h("h2", { id: "why-title" }, "Why this score"), close),
    h("p.why-text", { role: "status" }, explanation.text),
    h("p.muted.small", {}, `${title} of ${dateTime(end - 1)}, window from ${clockTime(start, 0)} to ${clockTime(end - 1, 0)}. ${scorer(shown.data)}`),
    h("ul.why-channels", {}, h("li.why-axis", { "aria-hidden": "true" }, h("span"), h("span"), h("div.time-axis", {}, h("span", {}, clockTime(start, 0)), h("span", {}, clockTime(end - 1, 0))), h("span.why-last", {}, "newest reading")),
      explanation.channels.map((channel) => row(channel, explanation, most))),
    h("p.legend.why-legend", {}, h("span", {}, h("i.swatch.raises"), `raises the ${explanation.number}`), h("span", {}, h("i.swatch.lowers"), "lowers it"),
      h("span.muted", {}, `compared with ${explanation.compared_with}`)));
}

function scorer({ model, version, explanation, is_same_student: sameStudent, is_same_score: sameScore }) {
  if (!sameStudent) return `${model} v${version} gave it and has left the registry; v${explanation.version} explains.`;
  if (!sameScore) return "The readings in the log give another score than the one stored; examples may have named it. The student's own answer is explained.";
  return `Explained by ${model} v${version}.`;
}

function row(channel, explanation, most) {
  const { effect, spans, seen, value, unit } = channel;
  const strongest = explanation.spans[channel.strongest];
  const amount = (part) => effectText(part, most, explanation.unit);
  const outside = seen && (value < seen.low || value > seen.high);
  return h("li", { key: channel.name, class: effect || spans.some(Boolean) ? "" : "why-none" },
    h("b", {}, channel.name),
    h("em", { class: effect ? "" : "muted" }, amount(effect)),
    h("svg.why-strip", {
      viewBox: `0 0 ${spans.length * 10} 10`, preserveAspectRatio: "none", role: "img",
      "aria-label": spans.some(Boolean) ? `${channel.name} mattered most from ${clockTime(strongest[0], 0)} to ${clockTime(strongest[1], 0)}` : `no span of ${channel.name} mattered`,
    }, spans.map((part, i) => h("rect", { class: part > 0 ? "raises" : "lowers", x: i * 10 + 0.3, width: 9.4, height: 10, opacity: opacity(part, most) },
      h("title", {}, `${clockTime(explanation.spans[i][0], 0)} to ${clockTime(explanation.spans[i][1], 0)}: ${amount(part)}`)))),
    h("span.why-last", {}, `${significant(value)}${unitText(unit)}`, seen && h("small", { class: outside ? "warn" : "" }, `${outside ? "outside" : "training"} ${significant(seen.low)} – ${significant(seen.high)}`)));
}

/** An effect with as many decimals as the largest one needs for three digits. */
function effectText(effect, most, unit) {
  const decimals = Math.min(6, Math.max(0, 2 - Math.floor(Math.log10(most))));
  const text = Math.abs(effect).toFixed(decimals);
  if (Number(text) === 0) return "no effect";
  return `${effect > 0 ? "+" : "−"}${text}${unitText(unit)}`;
}

/** Small effects stay visible beside large ones. */
const opacity = (part, most) => (part ? (0.06 + 0.94 * (Math.abs(part) / most) ** 0.7).toFixed(3) : 0);
