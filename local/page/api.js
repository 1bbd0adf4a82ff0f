// The API, and the one notice for everything that keeps the page from reaching it.

import { ApiError, ValroClient, sleep } from "valro-client";
import { $, announce, keepFocus, setText } from "./dom.js";

const config = JSON.parse($("config").textContent);
export const apiUrl = (new URLSearchParams(location.search).get("api") ?? config.api ?? "").replace(/\/+$/, "");
export const docsUrl = config.docs;
export const valro = new ValroClient(apiUrl, { wait: waitUntilWanted, maxRetries: Infinity });

/** Waits; "online" and "wake" (a person does not want to wait) end it early, a hidden tab late. */
async function waitUntilWanted(seconds, signal) {
  const woken = new AbortController();
  const wake = () => woken.abort();
  const until = { signal: AbortSignal.any([signal, woken.signal]) };
  for (const name of ["online", "wake"]) window.addEventListener(name, wake, until);
  try {
    await sleep(seconds, until.signal);
  } catch {
    signal.throwIfAborted();
  } finally {
    wake();
  }
}

/** Ends all waits for a next try or poll. */
export const wake = () => window.dispatchEvent(new Event("wake"));

// What the API's errors are to a homeowner. Its own sentences are for developers: see the console.
const PROBLEMS = {
  not_configured: "Valro is not set up yet. Its operator has to finish the setup first.",
  worker_unavailable: "The work could not be started. Nobody was contacted. Please try again in a few minutes.",
  task_not_found: "This task was not found. It may have been deleted.",
  task_deleted: "You sent this before, and its task was deleted. Send it again to start over.",
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

$("wake").addEventListener("click", wake);
