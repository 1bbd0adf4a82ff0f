// What things are called, for the person whose task it is.

const MINUTE = 60;
const HOUR = 60 * MINUTE;

/** How a task stands: its look and a word for it. */
export function stateOf(task) {
  if (task.error_code === "cancelled") return { look: "cancelled", word: "Cancelled" };
  if (task.cancel_requested_at && task.status === "processing") {
    return { look: "cancelling", word: "Cancelling" };
  }
  if (task.interrupts?.length && !task.followed_by) return { look: "asking", word: "Needs your answer" };
  const words = { pending: "Waiting", processing: "In progress", completed: "Completed", error: "Failed" };
  return { look: task.status, word: words[task.status] ?? task.status };
}

// Why a task failed, and what helps.
const FAILURES = {
  cancelled: { title: "This task was cancelled." },
  dispatch_failed: { title: "The work could not be started.", advice: "Please try again in a few minutes." },
  not_started: { title: "The work could not be started in time.", advice: "Please try again in a few minutes." },
  not_configured: { title: "Valro is not set up yet.", advice: "Its operator has to finish the setup first." },
  worker_lost: { title: "We lost track of the work." },
  agent_failed: { title: "The agent could not finish.", isAgents: true },
  agent_lost: { title: "We lost contact with the agent." },
  agent_timeout: { title: "The agent ran out of time." },
  answer_too_large: { title: "The agent's answer was too long to keep.", advice: "Try asking for less at once." },
};
// For an API without error codes, or with a newer one.
const OTHER_FAILURE = { title: "This task failed.", isAgents: true };

/** What to say of a failed task: a title, what is known, and the agent's own words. */
export function failureOf(task) {
  const { title, advice, isAgents } = FAILURES[task.error_code] ?? OTHER_FAILURE;
  const details = [contactsOf(task), advice].filter(Boolean).join(" ");
  return { title, details, report: (isAgents && task.error_message) || "" };
}

/** Whether a task may have led to e-mails; an API that does not say leaves it open. */
export const mayHaveActed = (task) => task.may_have_acted !== false;

function contactsOf(task) {
  const vendors = task.vendors.filter(({ emails }) => emails.length).length;
  if (vendors) return `${count(vendors, "vendor")} ${vendors === 1 ? "was" : "were"} e-mailed.`;
  if (task.emails_sent > 0) return `${emailsSent(task)}.`;
  return mayHaveActed(task) ? "Vendors may already have been contacted." : "Nobody was contacted.";
}

/** How many e-mails were sent; "" for 0, which may mean that the agent did not say. */
export function emailsSent({ emails_sent: sent }) {
  return sent > 0 ? `${count(sent, "e-mail")} sent` : "";
}

/** What an agent asks that stopped to ask. */
export const questionIn = ({ message }) => message || "The agent needs an answer before it can continue";

// The timeline's fixed lines are an operator's. Null: the next line says it better.
const EVENTS = {
  "Task created": "Request received",
  "Worker Lambda invoked - processing started": null,
  "Agent processing started": "The agent has started",
  "Agent completed task successfully": "Finished",
  "further progress not recorded": "The agent did more than is listed here",
};

/** An event in a homeowner's words; null if it is not worth a line. */
export function wordsOf({ message, type }, task) {
  if (Object.hasOwn(EVENTS, message)) return EVENTS[message];
  return type === "error" ? failureOf(task).title : message; // an error is an end
}

export function count(number, noun) {
  return `${number.toLocaleString()} ${noun}${number === 1 ? "" : "s"}`;
}

/** A duration as people say it: 8 s, 3 min 20 s, 2 h 5 min. */
export function duration(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < MINUTE) return `${whole} s`;
  if (whole < HOUR) return `${Math.floor(whole / MINUTE)} min ${whole % MINUTE} s`;
  return `${Math.floor(whole / HOUR)} h ${Math.floor((whole % HOUR) / MINUTE)} min`;
}

export const secondsBetween = (earlier, later) => (new Date(later) - new Date(earlier)) / 1000;

/** A moment: the time of today, with its day if that is another, with its year if that is another. */
export function moment(ts) {
  const then = new Date(ts);
  const now = new Date();
  const clock = { hour: "numeric", minute: "2-digit" };
  if (then.toDateString() === now.toDateString()) return then.toLocaleString(undefined, clock);
  const year = then.getFullYear() === now.getFullYear() ? {} : { year: "numeric" };
  return then.toLocaleString(undefined, { month: "short", day: "numeric", ...year, ...clock });
}

/** An agent's value as text; it may be anything that JSON can hold. */
export function asText(value) {
  if (typeof value === "string") return value;
  if (typeof value === "number") return String(value); // it may be a postcode or a year
  if (typeof value === "boolean") return value ? "Yes" : "No";
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
