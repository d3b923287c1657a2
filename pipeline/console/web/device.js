// One device: the card of its task, why its score is what it is, its raw readings, its account.

import { cardOf, deviceQuery } from "./cards/cards.js";
import { dateTime, h, icon, remembered, whole } from "./dom.js";
import { judgeButtons, labelCard } from "./label.js";
import { noteButtons } from "./note.js";
import { doubtNote, doubtPill, equation, isStale, notePill, problems, scoreOf, stalePill, toggle } from "./parts.js";
import { rawReadings } from "./readings.js";
import { alertNote, whyButton, whyCard } from "./why.js";

const SPANS = [["300000", "5 min"], ["900000", "15 min"], ["3600000", "1 h"], ["21600000", "6 h"], ["86400000", "24 h"], ["604800000", "7 d"], ["2592000000", "30 d"], ["", "All"]];
const choice = { span: remembered.get("span", "900000") };

export const devicePage = {
  title: ([, device]) => device ?? "Device",
  path(params) {
    const where = params.slice(0, 3).map(encodeURIComponent).join("/");
    const query = new URLSearchParams({ ...(choice.span && { span_ms: choice.span }), ...deviceQuery() });
    return `/api/v1/devices/${where}${String(query) && `?${query}`}`;
  },
  draw(data, context) {
    const d = data.device;
    const { now, poll } = context;
    const card = cardOf(data.tasks, d.task);
    const stale = isStale(d, data.settings, now);
    const spans = toggle("Time span", ...spansOf(data.least_span_ms ?? 0), (value) => {
      choice.span = value;
      remembered.set("span", value);
      poll();
    });
    return [
      h("a.crumb", { href: "#/fleet" }, icon("back"), "Fleet"),
      h("div.head", {},
        h("div", {}, h("div.title", {}, h("h1", {}, d.device), card.pill(d, data.settings), doubtPill(d), stale ? stalePill(d, now) : null, notePill(d)),
          h("p", {}, [d.site, d.stream, d.version === undefined ? null : `scored by ${d.model} v${d.version}`].filter(Boolean).join(" · "))),
        scoreOf(d) && h("div.head-end", {}, whyButton(d, data, context), judgeButtons(d, data, context), noteButtons(d, data, context), spans)),
      problems(data.health),
      scoreOf(d) && doubtNote(d),
      scoreOf(d) && alertNote(d, data, context),
      scoreOf(d) && whyCard(d, data, context),
      scoreOf(d) ? card.device(data, context) : waiting(d),
      h("div.stack", {}, labelCard(d, data, context), rawReadings(d, data, context), d.account && h("section.card.pad", {},
        h("div.card-head", {}, h("h2", {}, "Account of the readings"), h("span.muted.small", {}, "each reading is in exactly one of the terms")),
        equation(d.account, "small-equation"),
        h("p.flow", {}, h("span", {}, h("b", {}, whole(d.account.windows)), " windows closed,"), h("span", {}, h("b", {}, whole(d.account.gaps)), " gaps,"),
          h("span", {}, "last event time ", h("b", {}, d.account.last_event_ms === null ? "–" : dateTime(d.account.last_event_ms)))))),
    ];
  },
};

/** Spans to choose from, and the chosen one. Those with too few windows are one: the newest. */
function spansOf(least) {
  const long = SPANS.filter(([span]) => !span || Number(span) >= least);
  const short = SPANS.filter(([span]) => span && Number(span) < least);
  if (!short.length) return [SPANS.filter(([span]) => span !== "2592000000"), choice.span];
  const isShort = choice.span && Number(choice.span) < least;
  const newest = isShort ? choice.span : short.at(-1)[0];
  return [[[newest, "Newest"], ...long], choice.span];
}

function waiting(d) {
  return h("div.card.empty", {}, h("h2", {}, d.task ? "No score yet" : "No model scores this stream"),
    h("p", {}, d.task ? `A score appears when a window is full; ${whole(d.account?.windowed ?? 0)} readings have been accepted so far.`
      : `Publish a model for stream “${d.stream}” to the registry; readings are kept in the log meanwhile.`));
}
