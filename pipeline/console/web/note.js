// Notes on a device: somebody looks after its alarm, or it is out of use. The gateway decides who may say so.

import { h, icon, remembered } from "./dom.js";
import { devicePath } from "./parts.js";
import { may } from "./label.js";

const state = { path: null, busy: false, said: null };

/** Buttons beside the name of a device. */
export function noteButtons(d, data, context) {
  const path = `/api/v1/devices/${devicePath(d)}/note`;
  if (state.path !== path) Object.assign(state, { path, busy: false, said: null });
  if (!may(data.settings)) return null;
  const button = (kind, text, title) =>
    h("button.action", { key: `note-${kind}`, type: "button", title, disabled: state.busy, onclick: () => say(path, kind, context) }, icon("check"), text);
  return [
    d.note
      ? button(null, d.note.kind === "retired" ? "Bring back" : "No longer acknowledged", "End what was said about this device")
      : [
          button("acknowledged", "Acknowledge", "Somebody looks after it: it sorts behind the devices that nobody has looked at"),
          button("retired", "Retire", "It is out of use: it is no longer counted, and back by itself when it sends"),
        ],
    state.said && h("span.bad", { role: "status" }, state.said),
  ];
}

async function say(path, kind, context) {
  Object.assign(state, { busy: true, said: null });
  context.redraw();
  try {
    const answer = await fetch(path, {
      method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ kind, by: remembered.get("by", "") }), signal: AbortSignal.timeout(20_000),
    });
    if (!answer.ok) state.said = (await answer.json()).error;
  } catch {
    state.said = "The gateway did not answer; try again.";
  }
  state.busy = false;
  context.poll();
}
