// Labels: what people say about a device. The card lists them, a form gives new ones, and charts show
// them and take a span that the reader drags over.

import { dateTime, duration, h, icon, localTime, remembered, words } from "./dom.js";
import { devicePath } from "./parts.js";

const KINDS = [["span", "Named span"], ["failed", "Failed"], ["replaced", "Replaced"], ["confirmed", "Score right"], ["wrong", "Score wrong"]];
const MOMENTS = ["failed", "replaced"];
const TEXTS = { span: "What it did", failed: "What failed", replaced: "What was replaced", wrong: "What is right" };
const EXAMPLES = [["", "No, only to train on"], ["device", "Yes, on this device"], ["stream", "Yes, on all devices of the stream"]];
const SHOWN = 12;

const form = { path: null, kind: "span", from: null, to: null, text: "", example: "", by: remembered.get("by", ""), round: 0, open: false, busy: false, said: null, isError: false };
const given = new Map(); // id -> label that the gateway has confirmed and does not show yet, or does no longer

const pathOf = (d) => `/api/v1/devices/${devicePath(d)}/labels`;

const isHere = () => ["localhost", "127.0.0.1", "[::1]"].includes(location.hostname);

/** Whether this page may give labels; the gateway decides again. */
export const may = (settings) => settings.labels === "everywhere" || (settings.labels === "loopback" && isHere());

/** A label in a few words. */
export function labelWords(label) {
  const text = label.label ? ` (${label.label})` : "";
  if (label.kind === "span") return words(label.label);
  return { failed: `Failed${text}`, replaced: `Replaced${text}`, confirmed: "Score right", wrong: `Score wrong${label.label ? `, right: ${words(label.label)}` : ""}` }[label.kind];
}

/** Labels that hold, with those just given, the latest first. */
function labelsOf(d, data) {
  const known = new Map(data.given_labels.map((label) => [label.id, label]));
  for (const [id, label] of given) {
    if (label.path !== pathOf(d)) continue;
    if (label.revoked ? !known.has(id) : known.has(id)) given.delete(id);
    else if (label.revoked) known.delete(id);
    else known.set(id, label);
  }
  return [...known.values()].sort((a, b) => b.from_ms - a.from_ms);
}

/** What a chart of the device needs to show labels and to take a span. */
export function labelling(data, context) {
  const d = data.device;
  reset(d);
  const shown = labelsOf(d, data).map((label) => [label.from_ms, label.to_ms, labelWords(label), label.kind]);
  if (form.open && form.from !== null) shown.push([form.from, form.to ?? form.from, "", "selected"]);
  const onselect = (from, to) => {
    Object.assign(form, { open: true, from, to, said: null, round: form.round + 1 });
    context.redraw();
  };
  return { labels: shown, ...(may(data.settings) && { onselect }) };
}

/** The form belongs to one device. */
function reset(d) {
  if (form.path !== pathOf(d)) Object.assign(form, { path: pathOf(d), from: null, to: null, text: "", example: "", open: false, said: null, round: form.round + 1 });
}

/** Say that the newest score is right or wrong. */
export function judgeButtons(d, data, context) {
  if (!may(data.settings) || !d.time_ms) return null;
  const judge = (kind) => {
    Object.assign(form, { open: true, kind, from: d.time_ms, to: null, text: "", said: null, round: form.round + 1 });
    context.redraw();
  };
  return [["confirmed", "Score right", "check"], ["wrong", "Score wrong", "alert"]].map(([kind, text, sign]) =>
    h("button.action", { key: `judge-${kind}`, type: "button", title: `Say that the newest ${text.toLowerCase().replace(" ", " is ")}`, onclick: () => judge(kind) }, icon(sign), text));
}

/** The card with the labels of a device and the form for a new one. */
export function labelCard(d, data, context) {
  reset(d);
  const found = labelsOf(d, data);
  const takes = may(data.settings);
  if (!found.length && !takes) return null;
  const open = () => {
    const newest = d.time_ms ?? d.account?.last_event_ms ?? context.now;
    Object.assign(form, { open: !form.open, from: form.from ?? newest - 60_000, to: form.to ?? newest, said: null, round: form.round + 1 });
    context.redraw();
  };
  return h("section.card.pad", { key: "labels", "aria-labelledby": "labels-title" },
    h("div.card-head", {}, h("h2", { id: "labels-title" }, "Labels ", h("span.unit", {}, "what people say, to train on")),
      takes && h("button.action", { type: "button", "aria-expanded": String(form.open), onclick: open }, icon("label"), form.open ? "Close" : "Add a label")),
    form.open && takes && formOf(d, data, context),
    form.said && h("p.label-said", { role: "status", class: form.isError ? "bad" : "good" }, icon(form.isError ? "alert" : "check"), form.said),
    found.length
      ? h("ul.labels", {}, found.slice(0, SHOWN).map((label) => h("li", { key: `label-${label.id}` },
          h("i.swatch", { class: `label-${label.kind}` }), h("b", {}, labelWords(label)),
          h("span.muted", {}, whenOf(label), label.by && ` · ${label.by}`),
          takes && h("button.link", { type: "button", "aria-label": `Revoke ${labelWords(label)}`, onclick: () => give(d, { ...label, revoked: true }, context) }, "Revoke"))),
        found.length > SHOWN && h("li.muted", { key: "more" }, `${found.length - SHOWN} older ones: kpstream label list`))
      : h("p.muted", {}, takes ? "None yet. Drag over a chart to mark a span, or add a label." : "None yet."));
}

const whenOf = (label) => (label.from_ms === label.to_ms ? dateTime(label.from_ms) : `${dateTime(label.from_ms)}, for ${duration(label.to_ms - label.from_ms)}`);

function formOf(d, data, context) {
  const isMoment = MOMENTS.includes(form.kind);
  const set = (name, change) => (event) => {
    form[name] = change(event.currentTarget.value);
    if (name === "kind") context.redraw();
  };
  const time = (value) => (value ? new Date(value).getTime() : null);
  const input = (name, text, attributes, change) => h("label.field", { key: `field-${name}-${form.round}` }, h("span", {}, text), h("input", { ...attributes, oninput: set(name, change) }));
  return h("form.label-form", {
    key: "label-form",
    onsubmit: (event) => {
      event.preventDefault();
      give(d, drafted(), context);
    },
  },
  h("div.buttons", { role: "group", "aria-label": "Kind of label" }, KINDS.map(([kind, text]) =>
    h("button", { type: "button", "aria-pressed": String(kind === form.kind), onclick: () => { Object.assign(form, { kind, said: null }); context.redraw(); } }, text))),
  h("div.fields", {},
    input("from", isMoment ? "When" : "From", { type: "datetime-local", step: "0.001", required: true, value: form.from === null ? "" : localTime(form.from) }, time),
    !isMoment && input("to", form.kind === "span" ? "To" : "To (a moment if empty)", { type: "datetime-local", step: "0.001", required: form.kind === "span", value: form.to === null ? "" : localTime(form.to) }, time),
    TEXTS[form.kind] && input("text", TEXTS[form.kind], { maxlength: "80", required: form.kind === "span", list: "label-names", value: form.text }, (value) => value.trim()),
    form.kind === "span" && data.labels.length > 0 && h("label.field", { key: `field-example-${form.round}` }, h("span", {}, "Recognise it from now on"),
      h("select", { onchange: set("example", (value) => value) }, EXAMPLES.map(([value, text]) => h("option", { value, selected: value === form.example }, text)))),
    input("by", "Your name", { maxlength: "80", value: form.by, autocomplete: "off" }, (value) => { remembered.set("by", value.trim()); return value.trim(); }),
    h("button.action", { type: "submit", "aria-busy": String(form.busy) }, icon("check"), form.busy ? "Saving …" : "Save")),
  h("datalist", { id: "label-names" }, [...new Set([...data.labels, ...data.given_labels.filter((label) => label.kind === "span").map((label) => label.label)])].map((name) => h("option", { value: name }))));
}

/** The label that the form says. */
function drafted() {
  const isMoment = MOMENTS.includes(form.kind) || form.to === null;
  const random = [...crypto.getRandomValues(new Uint8Array(6))].map((part) => part.toString(16).padStart(2, "0")).join("");
  return {
    id: `${form.kind}-${random}`, kind: form.kind, from_ms: form.from, to_ms: isMoment ? form.from : form.to,
    label: TEXTS[form.kind] ? form.text : "", by: form.by, example: form.kind === "span" ? form.example : "",
  };
}

/** Send a label; the answer comes when the log has it. */
async function give(d, label, context) {
  if (form.busy) return;
  Object.assign(form, { busy: true, said: null });
  context.redraw();
  const when = label.from_ms === label.to_ms ? { at_ms: label.from_ms } : { from_ms: label.from_ms, to_ms: label.to_ms };
  const body = { id: label.id, kind: label.kind, ...when, label: label.label, by: form.by, revoked: Boolean(label.revoked), ...(label.example && { example: label.example }) };
  try {
    const answer = await fetch(pathOf(d), {
      method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body), signal: AbortSignal.timeout(20_000),
    });
    const page = await answer.json();
    if (answer.ok) {
      given.set(label.id, { ...label, path: pathOf(d) });
      Object.assign(form, { said: label.revoked ? "Revoked." : `Saved: ${labelWords(label)}.`, isError: false, text: "", example: "", round: form.round + 1 });
    } else Object.assign(form, { said: page.error, isError: true });
  } catch {
    Object.assign(form, { said: "The gateway did not answer; try again.", isError: true });
  }
  form.busy = false;
  context.redraw();
}
