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

const CANCELLED_UNSTARTED = "Cancelled before the agent was started";
const NOBODY = "The agent had not started, so nobody was contacted.";

// Why a task failed, and whether the same words sent again may fare better.
const FAILURES = {
  cancelled: { title: "You cancelled this task." },
  dispatch_failed: { title: "The work could not be started.", again: true },
  not_started: { title: "The work was not started in time.", again: true },
  not_configured: { title: "This service is not set up yet. Its operator has to do that." },
  worker_lost: { title: "We lost track of the work.", again: true, mayHaveActed: true },
  agent_failed: { title: "The agent could not finish.", again: true, mayHaveActed: true },
  agent_lost: { title: "The agent fell silent.", again: true, mayHaveActed: true },
  agent_timeout: { title: "The agent ran out of time.", again: true, mayHaveActed: true },
  answer_too_large: { title: "The agent's answer was too large to be kept. Ask for less at once." },
};

/** What the API says of a failure, less what its title says already. */
export function detailsOf({ error_message: message = "", error_code: code }) {
  if (code !== "cancelled") return message;
  return message === CANCELLED_UNSTARTED ? NOBODY : message.replace(/^Cancelled\. /, "");
}

export function failureOf(task) {
  // An API without error codes, or with a newer one.
  return FAILURES[task.error_code] ?? { title: "This task failed.", again: true, mayHaveActed: true };
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
