// One task: what is shown of it, and what can be done with it. The address bar says which.

import { ApiError, isFinal } from "valro-client";
import { inWords, troubleOf, valro, wake } from "./api.js";
import { $, announce, ask, make, setText, setTime } from "./dom.js";
import { send } from "./form.js";
import { forget, knownTask, remember, selectedId, showTasks } from "./list.js";
import { makeQuote, makeVendor } from "./answer.js";
import { dayAndClock, duration, failureOf, secondsBetween, stateOf, wordsOf } from "./words.js";

const INVITATION = "Write what you need. You can watch the agent work on it here.";
const SILENCE_SECONDS = 120;
const MAX_TRIES = 3; // of what a person asked for and waits for: then it is said

const narrow = matchMedia("(max-width: 55.99rem)");

let watching = new AbortController();
let shown = null; // the task that is on the page
let found = ""; // its vendors and quotes, as text
const notOffered = new Set(); // what this API turned out not to do: "cancel", "delete"

export async function select({ focus, otherwise = INVITATION }) {
  watching.abort();
  watching = new AbortController();
  const { signal } = watching;
  const id = selectedId();
  order();
  showNothing(id ? "Loading …" : otherwise);
  troubleOf("task")(null);
  showTasks();
  if (!id) return;
  if (knownTask(id)) showTask(knownTask(id), { whole: false });
  if (shown && focus) lookAtTask();
  try {
    for await (const task of valro.watchTask(id, { signal, onRetry: troubleOf("task") })) {
      const isFirst = !shown;
      showTask(task, { whole: true });
      if (isFirst && focus) lookAtTask();
      remember([task]);
    }
  } catch (error) {
    if (signal.aborted) return;
    if (!(error instanceof ApiError)) throw error; // ours
    if (error.status === 404) forget(id);
    showNothing(inWords(error));
  }
}

/** On a phone the open task comes first, for the eye and for Tab alike. */
function order() {
  const wanted = narrow.matches && selectedId() ? $("form") : $("nav");
  if ($("task").nextElementSibling !== wanted) wanted.before($("task"));
}

narrow.addEventListener("change", order);

function showNothing(text) {
  shown = null;
  $("details").hidden = true;
  $("nothing").hidden = false;
  $("nothing-text").textContent = text;
  document.title = "Valro";
  document.body.classList.toggle("has-open", Boolean(selectedId()));
}

function lookAtTask() {
  $("what").focus({ preventScroll: true });
  if ($("task").getBoundingClientRect().top < 0 || $("what").getBoundingClientRect().bottom > innerHeight) {
    $("task").scrollIntoView();
  }
}

function showTask(task, { whole }) {
  const isNew = shown?.id !== task.id;
  const heard = isNew ? 0 : shown.events.length;
  const news = task.events.slice(heard).filter((event) => wordsOf(event, task) !== null);
  if (isNew) $("timeline").replaceChildren();
  $("timeline").append(...news.map((event) => makeLine(event, task, { arrives: !isNew })));
  if (!isNew && news.length) announce(news.map((event) => wordsOf(event, task)).join(". "));
  $("nothing").hidden = true;
  $("details").hidden = false;
  setText($("what"), task.description);
  $("what").classList.toggle("long", task.description.length > 200);
  showAnswer(task, { whole });
  shown = task;
  showState();
  showTime();
}

function makeLine(event, task, { arrives }) {
  const after = secondsBetween(task.created_at, event.ts);
  const when = after < 1 ? shownClock(event.ts) : `+ ${duration(after)}`;
  const look = event.type === "error" && task.error_code === "cancelled" ? "info" : event.type;
  return make(`li.${look}${arrives ? ".new" : ""}`,
    make("span", wordsOf(event, task)), setTime(make("time"), event.ts, when));
}

const shownClock = (ts) => new Date(ts).toLocaleTimeString(undefined, { timeStyle: "short" });

/** What can change without a new event: status, cancellation, what can be done. */
function showState() {
  const { look, word } = stateOf(shown);
  const final = isFinal(shown);
  document.title = `${word}: ${shown.description.slice(0, 60)} – Valro`;
  $("status").className = `status ${look}`;
  setText($("status"), word);
  setTime($("created"), shown.created_at, dayAndClock(shown.created_at));
  setText($("emails"), emailsOf(shown));
  const failure = shown.status === "error" ? failureOf(shown) : null;
  $("failure").hidden = !failure;
  $("failure").classList.toggle("calm", look === "cancelled");
  setText($("failure-title"), failure?.title ?? "");
  setText($("failure-text"), failure?.details ?? "");
  $("failure").title = shown.error_message ?? ""; // the API's own words, for an operator
  $("cancelling").hidden = look !== "cancelling";
  $("again").hidden = !failure?.again;
  $("cancel").hidden = final || look === "cancelling" || notOffered.has("cancel");
  $("delete").hidden = !final || notOffered.has("delete");
  $("deeds").hidden = ["again", "cancel", "delete"].every((id) => $(id).hidden);
}

function emailsOf(task) {
  // 0 may mean that the agent did not say.
  return task.emails_sent > 0 ? `${task.emails_sent.toLocaleString()} e-mail${task.emails_sent === 1 ? "" : "s"} sent` : "";
}

/** What changes by itself: how long it has been running, and how long nothing was heard. */
function showTime() {
  if (!shown) return;
  const last = shown.events.at(-1).ts;
  const end = isFinal(shown) ? last : new Date();
  const took = duration(secondsBetween(shown.created_at, end), { exactly: true });
  const verb = isFinal(shown) ? "Took" : shown.status === "pending" ? "Waiting for" : "Running for";
  setText($("elapsed"), `${verb} ${took}`);
  const silence = secondsBetween(last, new Date());
  $("silence").hidden = shown.status !== "processing" || silence < SILENCE_SECONDS;
  setText($("silence"), `Nothing heard for ${duration(silence)}. The agent may be waiting for an answer; this page keeps watching.`);
}

setInterval(showTime, 1000);

function showAnswer(task, { whole }) {
  const isComing = !whole && task.status === "completed"; // a list leaves the answer out
  $("answer-section").hidden = !task.agent_response?.trim() && !isComing;
  setText($("answer"), task.agent_response ?? (isComing ? "Loading …" : ""));
  $("answer").classList.toggle("muted", isComing);
  $("truncated").hidden = !task.agent_response_truncated;
  const { vendors, quotes } = task;
  const news = JSON.stringify([task.id, vendors, quotes]);
  if (news === found) return; // what was opened stays open
  found = news;
  $("vendors-section").hidden = !vendors.length;
  $("vendors").replaceChildren(...vendors.map((vendor) => makeVendor(vendor, quotes)));
  $("quotes-section").hidden = !quotes.length;
  $("quotes").replaceChildren(...quotes.map((quote) => makeQuote(quote, vendors)));
  $("quotes-section").classList.toggle("plain", !$("quotes").querySelector(".details:not(:empty)"));
}

// ---- what can be done

/** Asks the API for what a person wants once; says so if it does not do that. */
async function attempt(deed, verb, task, request) {
  showDeedProblem("");
  const giveUp = new AbortController();
  let tries = 0;
  const onRetry = (error) => { if (error && ++tries >= MAX_TRIES) giveUp.abort(); };
  const button = $(deed);
  button.setAttribute("aria-disabled", "true");
  try {
    return await request(task.id, { signal: AbortSignal.any([giveUp.signal, watching.signal]), onRetry });
  } catch (error) {
    if (watching.signal.aborted && !giveUp.signal.aborted) return undefined;
    if (isNotOffered(error)) {
      notOffered.add(deed);
      showDeedProblem(`This service does not let pages ${verb} tasks.`);
      showState();
    } else if (error.code === "task_ended" || error.code === "task_not_final") {
      wake(); // the next poll shows how it stands
    } else {
      // Where there is no route, a gateway's answer may be one that browsers keep from pages.
      showDeedProblem(giveUp.signal.aborted
        ? `The API does not answer this. It may not let pages ${verb} tasks; if it does, try again later.` : inWords(error));
    }
    return undefined;
  } finally {
    button.removeAttribute("aria-disabled");
  }
}

/** An API has these routes only if its operator wants them. */
function isNotOffered(error) {
  return error instanceof ApiError
    && ([403, 405].includes(error.status) || (error.status === 404 && error.code !== "task_not_found"));
}

function showDeedProblem(text) {
  $("deed-problem").textContent = text;
}

$("cancel").addEventListener("click", async () => {
  const task = shown;
  const isWanted = await ask({
    title: "Cancel this task?",
    text: task.status === "pending"
      ? "Its agent has not started yet. If that stays so, nobody is contacted."
      : "The agent is stopped. Vendors that it has already e-mailed may still answer.",
    yes: "Cancel the task",
    no: "Let it run",
  });
  if (!isWanted) return;
  const cancelled = await attempt("cancel", "cancel", task, (...call) => valro.cancelTask(...call));
  if (!cancelled || shown?.id !== task.id) return;
  showTask(cancelled, { whole: true });
  remember([cancelled]);
  if (!isFinal(cancelled)) announce("Cancellation requested.");
  $("what").focus({ preventScroll: true }); // the button is gone
  wake();
});

$("delete").addEventListener("click", async () => {
  const task = shown;
  const isWanted = await ask({
    title: "Delete this task?",
    text: "It is removed for good, with everything the agent found. Vendors are not told.",
    yes: "Delete the task",
    no: "Keep it",
  });
  if (!isWanted) return;
  const request = async (...call) => { await valro.deleteTask(...call); return true; };
  if (!(await attempt("delete", "delete", task, request))) return;
  forget(task.id);
  announce("Task deleted.");
  if (selectedId() !== task.id) return;
  history.replaceState(null, "", location.pathname + location.search); // back does not lead to it
  select({ focus: false, otherwise: "The task is deleted." });
  $("description").focus({ preventScroll: true });
});

$("again").addEventListener("click", async () => {
  const task = shown;
  const isWanted = await ask({
    title: "Try again?",
    text: failureOf(task).mayHaveActed
      ? "This makes a new task with the same words. Vendors that were already contacted may get a second e-mail."
      : "This makes a new task with the same words. Nobody was contacted for this one.",
    yes: "Try again",
    no: "Not now",
  });
  if (isWanted) send(task.description);
});
