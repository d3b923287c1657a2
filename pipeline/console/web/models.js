// Models: the running students, their lineage, and the versions that were refused.

import { age, dateTime, h, icon, significant, whole, words } from "./dom.js";
import { paste, pill, problems } from "./parts.js";

const METRICS = { rmse: "RMSE", mae: "MAE", macro_f1: "Macro F1", f1: "F1", nasa_score: "NASA score", mse: "MSE", pinball: "Pinball loss", ridge_mse: "MSE of ridge", ridge_mae: "MAE of ridge", naive_mse: "MSE of seasonal-naive", naive_mae: "MAE of seasonal-naive" };

export const modelsPage = {
  title: () => "Models",
  path: () => "/api/v1/models",
  draw(data, { now }) {
    return [
      h("div.head", {}, h("div", {}, h("h1", {}, "Models"), h("p", {}, "The students that score, their lineage, and versions that were refused."))),
      problems(data.health),
      data.models.length === 0
        ? h("div.card.empty", {}, h("h2", {}, "No model is configured"), h("p", {}, "Publish one to the registry; the gateway loads it within seconds:"), paste("train-redistill --task rul --data PATH --publish"))
        : data.models.map((model) => card(model, data.tasks, now)),
    ];
  },
};

function card(m, tasks, now) {
  const running = m.version !== null;
  return h("section.card.pad.model", { key: `${m.name} ${m.stream}`, "aria-label": `model ${m.name}` },
    h("div.model-head", {}, h("h2", {}, m.name), running ? pill("good", "check", `Version ${m.version} running`) : pill("bad", "alert", "No model"),
      m.refused_version !== null && pill("warn", "warn", `Version ${m.refused_version} refused`)),
    h("p.muted", {}, `${tasks[m.task]?.title ?? words(m.task)} from stream “${m.stream}”`, running && m.since_ms !== null ? `, since ${dateTime(m.since_ms)} (${age(m.since_ms, now)})` : ""),
    m.refused_error && h("div.callout.warn", {}, icon("warn"), h("div", {}, h("b", {}, `Version ${m.refused_version ?? "?"} was refused`), h("p", {}, m.refused_error), running && h("p", {}, `Version ${m.version} keeps scoring.`))),
    release(m.release, now),
    running && h("div.model-grid", {}, h("div", {}, metrics(m.metrics), live(m.live), challenger(m.challenger, now), h("h3.below", {}, "Artifact"), artifact(m)), h("div", {}, h("h3", {}, "Lineage"), lineage(m))),
    running && isRecipe(m.lineage.command) && h("div.recipe", {}, h("h3", {}, "Command and configuration"), h("pre", { tabindex: "0" }, h("code", {}, m.lineage.command))));
}

function metrics(splits) {
  const names = Object.keys(splits);
  const rows = [...new Set(names.flatMap((split) => Object.keys(splits[split])))];
  if (!rows.length) return h("p.muted", {}, "The manifest has no metrics.");
  return h("div.table-box", {}, h("table.metrics", {},
    h("thead", {}, h("tr", {}, h("th", {}, "Metrics"), names.map((split) => h("th.num", {}, /[A-Z]/.test(split) ? split.charAt(0).toUpperCase() + split.slice(1) : words(split))))),
    h("tbody", {}, rows.map((name) => h("tr", {}, h("td", {}, METRICS[name] ?? words(name)), names.map((split) => h("td.num", {}, figure(splits[split][name]))))))));
}

/** What the scores were like since the version took over: means that need no labels. */
function live(figures) {
  if (!figures?.windows) return null;
  return [h("h3.below", {}, `Live, mean of ${whole(figures.windows)} windows`),
    h("dl.facts", {}, Object.entries(figures.sums).map(([name, sum]) => h("div", {}, h("dt", {}, METRICS[name] ?? words(name)), h("dd", {}, figure(sum / figures.windows)))))];
}

const EVIDENCE = { nonfinite_permille: ["Without a finite score", 10, " %"], latency_us: ["CPU time of a batch, p99", 1000, " ms"], latency_percent: ["CPU time, compared", 1, " % of the other’s"], disagreement_permille: ["Disagreement", 10, " %"], psi_permille: ["Population stability index", 1000, ""], spread_percent: ["Spread of its scores", 1, " % of the other’s"], unknown_permille: ["Additional unknown windows", 10, " %"], error_percent: ["Live error", 1, " % of the other’s"], coverage_permille: ["Coverage lost", 10, " %"] };

const PHASES = { waiting: ["warn", "Waiting"], shadow: ["good", "In shadow"], probation: ["good", "On probation"], champion: ["good", "Runs here"], failed: ["bad", "Failed here"], held: ["warn", "Held"] };

/** The release of the centre that this student follows. */
function release(r, now) {
  if (!r) return null;
  const [tone, title] = PHASES[r.phase] ?? ["warn", words(r.phase)];
  return h("p.release", {}, pill(tone, tone === "good" ? "check" : tone === "bad" ? "alert" : "warn", title), ` Release ${whole(r.number)} of the centre brings version ${whole(r.version)}, in this phase since ${dateTime(r.since_ms)} (${age(r.since_ms, now)}).`, r.reason && h("span", {}, ` ${r.reason}`));
}

/** The new student that is compared with another one on the same windows. */
function challenger(c, now) {
  if (!c) return null;
  const state = c.failed ? pill("bad", "alert", "Failed") : pill("good", "check", c.is_running ? "On probation" : "In shadow");
  return [h("h3.below", {}, `Version ${c.version} against version ${c.against} `, state),
    h("p.muted", {}, `${whole(c.windows)} windows compared since ${dateTime(c.since_ms)} (${age(c.since_ms, now)}), ${whole(c.skipped)} skipped. The scores of a student in shadow are not stored and raise no alert.`),
    c.failed && h("p", {}, c.failed),
    h("dl.facts", {}, Object.entries(EVIDENCE).filter(([name]) => name in c.evidence).map(([name, [title, scale, unit]]) => h("div", {}, h("dt", {}, title), h("dd", {}, `${significant(c.evidence[name] / scale, 3)}${unit}`))))];
}

const figure = (value) => (value === undefined ? "–" : Number.isInteger(value) || Math.abs(value) >= 1000 ? whole(value) : value.toPrecision(4));

/** Whether a command contains its whole recipe, too long for one line. */
const isRecipe = (text) => typeof text === "string" && (text.includes("\n") || text.length > 90);

function lineage(m) {
  const rows = Object.entries(m.lineage).filter(([name, value]) => !(name === "command" && isRecipe(value)));
  return h("dl.facts", {},
    rows.map(([name, value]) => h("div", {}, h("dt", {}, name === "created_ms" ? "Created" : words(name)), h("dd", {}, name === "created_ms" ? dateTime(Number(value)) : name.endsWith("digest") ? digest(value) : String(value) || "none"))));
}

function artifact(m) {
  return h("dl.facts", {},
    m.digest && h("div", {}, h("dt", {}, "Digest"), h("dd", {}, digest(m.digest))),
    m.channels.length > 0 && h("div", {}, h("dt", {}, "Channels"), h("dd", {}, m.channels.join(", "))),
    m.labels.length > 0 && h("div", {}, h("dt", {}, "Activities"), h("dd", {}, m.labels.map(words).join(", "))));
}

function digest(text) {
  return h("span.digest", {}, h("code", { title: text }, `${String(text).slice(0, 12)}…`),
    navigator.clipboard && h("button", { type: "button", "aria-label": "Copy the whole digest", title: "Copy", onclick: () => navigator.clipboard.writeText(text) }, icon("copy")));
}
