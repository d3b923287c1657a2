// The card of each task. A task names its card; one whose card is not here is shown by the generic one.

import { activityCard } from "./activity.js";
import { forecastCard } from "./forecast.js";
import { genericCard } from "./generic.js";
import { rulCard } from "./rul.js";

const CARDS = { rul: rulCard, activity: activityCard, forecast: forecastCard };

export const cardOf = (tasks, task) => (Object.hasOwn(CARDS, tasks[task]?.card ?? "") ? CARDS[tasks[task].card] : genericCard);

/** What the cards add to the address of a device's page: choices that the gateway answers. */
export const deviceQuery = () => Object.assign({}, ...Object.values(CARDS).map((card) => card.query?.()));

/** Sections of the fleet page: [card, section, devices]. Devices without a model are shown as machines of the first task. */
export function sections({ tasks, sections: all, devices }) {
  const first = Object.keys(tasks)[0];
  return all
    .map(({ task, subject, matching }) => [
      cardOf(tasks, Object.hasOwn(tasks, task) ? task : first),
      { task: Object.hasOwn(tasks, task) ? task : first, subject: subject || "machine", matching },
      devices.filter((d) => (d.task ?? "") === task && d.subject === subject),
    ])
    .filter(([, , found]) => found.length > 0);
}
