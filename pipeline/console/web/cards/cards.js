// The card of each task. A task names its card; one whose card is not here is shown by the generic one.

import { activityCard } from "./activity.js";
import { forecastCard } from "./forecast.js";
import { genericCard } from "./generic.js";
import { rulCard } from "./rul.js";

const CARDS = { rul: rulCard, activity: activityCard, forecast: forecastCard };

export const cardOf = (tasks, task) => (Object.hasOwn(CARDS, tasks[task]?.card ?? "") ? CARDS[tasks[task].card] : genericCard);

/** What the cards add to the address of a device's page: choices that the gateway answers. */
export const deviceQuery = () => Object.assign({}, ...Object.values(CARDS).map((card) => card.query?.()));

/** Sections of the fleet page: [card, task, devices]. Devices without a model are in the first one. */
export function sections(tasks, devices) {
  const names = Object.keys(tasks);
  return names
    .map((task, i) => [cardOf(tasks, task), task, devices.filter((d) => (Object.hasOwn(tasks, d.task ?? "") ? d.task === task : i === 0))])
    .filter(([, , found]) => found.length > 0);
}
