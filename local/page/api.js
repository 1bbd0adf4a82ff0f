// The API, and the one notice for everything that keeps the page from reaching it.

import { ApiError, ValroClient } from "valro-client";
import { $, announce, keepFocus, setText } from "./dom.js";

const config = JSON.parse($("config").textContent);
export const apiUrl = (new URLSearchParams(location.search).get("api") ?? config.api ?? "").replace(/\/+$/, "");
export const docsUrl = config.docs;
// It tries for as long as the page is open: the notice below says so, and has a button.
export const valro = new ValroClient(apiUrl, { maxRetries: Infinity });

/** What this API turned out not to do: "cancel", "delete", "reply". */
export const notOffered = new Set();

/** An API has some routes only if its operator wants them. */
export function isNotOffered(error) {
  return error instanceof ApiError
    && ([403, 405].includes(error.status) || (error.status === 404 && error.code !== "task_not_found"));
}

// What the API's errors are to a homeowner. Its own sentences are for developers: see the console.
const PROBLEMS = {
  not_configured: "Valro is not set up yet. Its operator has to finish the setup first.",
  worker_unavailable: "The work could not be started. Nobody was contacted. Please try again in a few minutes.",
  task_not_found: "This task was not found. It may have been deleted.",
  task_deleted: "You already sent this, and that task was deleted. Send it again to start over.",
  already_followed: "You have already replied to this.",
  401: "Please sign in first. This page has no sign-in of its own.",
  403: "You are not allowed to do this.",
  429: "Valro is busy right now.",
};

/** An error in a sentence for the person who looks at the page. */
export function inWords(error) {
  console.warn(error);
  if (!(error instanceof ApiError)) return "We can't reach Valro right now.";
  return PROBLEMS[error.code] ?? PROBLEMS[error.status] ?? "Something went wrong on our side. Please try again later.";
}

// ---- trouble

const troubles = new Map(); // who asks -> what keeps it from an answer
let countdown;

/** What to hand to the client as onRetry, by the name of who asks. */
export function troubleOf(name) {
  return (error, seconds) => {
    if (error) troubles.set(name, { error, until: Date.now() + seconds * 1000 });
    else troubles.delete(name);
    showTrouble();
  };
}

function showTrouble() {
  clearInterval(countdown);
  const worst = [...troubles.values()].at(-1);
  keepFocus($("what").offsetParent ? $("what") : $("description"), () => { $("trouble").hidden = !worst; });
  if (!worst) {
    if ($("trouble-text").textContent) announce("Connected again.");
    $("trouble-text").textContent = "";
    return;
  }
  const text = `${troubleInWords(worst.error)} Nothing is lost, and this page keeps trying.`;
  if ($("trouble-text").textContent !== text) announce(text);
  setText($("trouble-text"), text);
  const tick = () => {
    const left = Math.ceil((worst.until - Date.now()) / 1000);
    $("trouble-wait").textContent = left > 0 ? `Next try in ${left} s.` : "Trying…";
  };
  tick();
  countdown = setInterval(tick, 500);
}

function troubleInWords(error) {
  if (!(error instanceof ApiError)) return "We can't reach Valro right now.";
  return PROBLEMS[error.status] ?? "Valro is having trouble right now.";
}

$("wake").addEventListener("click", () => valro.wake());
