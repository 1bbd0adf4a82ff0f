// The API, and the one notice for everything that keeps the page from reaching it.

import { ApiError, ValroClient, sleep } from "valro-client";
import { $, announce, setText } from "./dom.js";

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
  await tabIsVisible(signal);
}

/** Resolves at once, or when the tab is next looked at: a hidden one asks nothing. */
export function tabIsVisible(signal) {
  return new Promise((resolve, reject) => {
    const done = new AbortController();
    const look = () => {
      if (document.hidden && !signal.aborted) return;
      done.abort();
      signal.aborted ? reject(signal.reason) : resolve();
    };
    document.addEventListener("visibilitychange", look, { signal: done.signal });
    signal.addEventListener("abort", look, { signal: done.signal });
    look();
  });
}

/** Ends all waits for a next try or poll. */
export const wake = () => window.dispatchEvent(new Event("wake"));

/** An error in a sentence for the person who looks at the page. */
export function inWords(error) {
  if (!(error instanceof ApiError)) return "The API cannot be reached.";
  if (error.status === 401) return "This API is for people who have signed in, and this page has no sign-in.";
  return error.message;
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
  $("trouble").hidden = !worst;
  if (!worst) {
    if ($("trouble-text").textContent) announce("The API answers again.");
    $("trouble-text").textContent = "";
    return;
  }
  const text = worst.error instanceof ApiError
    ? worst.error.message : "The API cannot be reached. Nothing is lost: this page keeps trying.";
  if ($("trouble-text").textContent !== text) announce(text);
  setText($("trouble-text"), text);
  const tick = () => {
    const left = Math.ceil((worst.until - Date.now()) / 1000);
    $("trouble-wait").textContent = left > 0 ? `Next try in ${left} s.` : "Trying …";
  };
  tick();
  countdown = setInterval(tick, 500);
}

$("wake").addEventListener("click", wake);
