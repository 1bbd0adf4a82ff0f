// What things are called, for the person whose task it is.

const MINUTE = 60;
const HOUR = 60 * MINUTE;

/** How a task stands: its look and a word for it. */
export function stateOf(task) {
  if (task.error_code === "cancelled") return { look: "cancelled", word: "Cancelled" };
  if (task.cancel_requested_at && task.status === "processing") {
    return { look: "cancelling", word: "Cancelling" };
  }
  const words = { pending: "Waiting", processing: "In progress", completed: "Completed", error: "Failed" };
  return { look: task.status, word: words[task.status] ?? task.status };
}

const NOBODY = "Nobody was contacted.";
const PERHAPS = "Vendors may already have been contacted.";

// Why a task failed, and whether the same words sent again may fare better. Where `details` are
// missing the API's own words are for the person too: they are the agent's.
const FAILURES = {
  cancelled: { title: "This task was cancelled.", details: PERHAPS },
  dispatch_failed: { title: "The work could not be started.", details: NOBODY, again: true },
  not_started: { title: "The work was not started in time.", details: NOBODY, again: true },
  not_configured: { title: "This service is not set up yet.", details: `Its operator has to do that. ${NOBODY}` },
  worker_lost: { title: "We lost track of the work.", details: PERHAPS, again: true },
  agent_failed: { title: "The agent could not finish.", again: true },
  agent_lost: { title: "The agent fell silent.", details: PERHAPS, again: true },
  agent_timeout: { title: "The agent ran out of time.", details: PERHAPS, again: true },
  answer_too_large: { title: "The agent's answer was too large to be kept.", details: `Ask for less at once. ${PERHAPS}` },
};
// How the API says that the agent was never started.
const UNSTARTED = /no vendor was contacted|^Cancelled before the agent was started$/;

/** What to say of a failed task: title, details, whether trying again makes sense and may harm. */
export function failureOf({ error_code: code, error_message: message = "" }) {
  // The default is for an API without error codes, or with a newer one.
  const known = FAILURES[code] ?? { title: "This task failed.", again: true };
  const isUnstarted = UNSTARTED.test(message) || known.details === NOBODY;
  const details = known.details === PERHAPS && isUnstarted ? NOBODY : known.details ?? message;
  return { ...known, details, mayHaveActed: !isUnstarted };
}

// The API's words are an operator's. Null: the next line says it better.
const EVENTS = {
  "Task created": "Request received",
  "Worker Lambda invoked - processing started": null,
  "Agent processing started": "The agent has started",
  "Agent completed task successfully": "Finished",
  "further progress not recorded": "The agent did more than is listed here",
};
const PREFIXES = {
  "Agent error: ": "The agent could not finish: ",
  "Error invoking worker: ": "The work could not be started: ",
};

/** An event in a homeowner's words; null if it is not worth a line. */
export function wordsOf({ message, type }, task) {
  if (Object.hasOwn(EVENTS, message)) return EVENTS[message];
  // What the failure's notice says in full need not be said twice.
  if (type === "error" && task.error_message && message.endsWith(task.error_message)) {
    return failureOf(task).title;
  }
  for (const [prefix, words] of Object.entries(PREFIXES)) {
    if (message.startsWith(prefix)) return words + message.slice(prefix.length);
  }
  return message;
}

export function count(number, noun) {
  return `${number.toLocaleString()} ${noun}${number === 1 ? "" : "s"}`;
}

/** A duration as people say it: 8 s, 3 min, 2 h 5 min. */
export function duration(seconds, { exactly = false } = {}) {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < MINUTE) return `${whole} s`;
  if (exactly && whole < HOUR) return `${Math.floor(whole / MINUTE)} min ${whole % MINUTE} s`;
  if (whole < HOUR) return `${Math.floor(whole / MINUTE)} min`;
  const minutes = Math.floor((whole % HOUR) / MINUTE);
  return `${Math.floor(whole / HOUR)} h${minutes ? ` ${minutes} min` : ""}`;
}

export const secondsBetween = (earlier, later) => (new Date(later) - new Date(earlier)) / 1000;

export function dayAndClock(ts) {
  return new Date(ts).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
}

/** The time of what happened today, the day of what did not. */
export function shortly(ts) {
  const moment = new Date(ts);
  const isToday = moment.toDateString() === new Date().toDateString();
  return moment.toLocaleString(undefined, isToday ? { timeStyle: "short" } : { dateStyle: "medium" });
}

/** An agent's value as text; it may be anything that JSON can hold. */
export function asText(value) {
  if (typeof value === "string") return value;
  if (typeof value === "number") return value.toLocaleString();
  if (Array.isArray(value) && value.every((one) => typeof one !== "object")) return value.map(asText).join(", ");
  return JSON.stringify(value).slice(0, 500);
}

/** The first of some values that says anything. */
export function firstOf(...values) {
  return values.find((value) => value !== undefined && value !== null && value !== "");
}

/** A price as money; agents that name no currency mean US dollars, as the requests do. */
export function asMoney(value, currency = "USD") {
  if (typeof value !== "number") return value === undefined ? "" : asText(value);
  try {
    return value.toLocaleString(undefined, { style: "currency", currency });
  } catch { // not a currency
    return [asText(value), currency].filter((part) => typeof part === "string").join(" ");
  }
}
