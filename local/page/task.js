// One task: what is shown of it. The address bar says which.

import { ValroError, isFinal } from "valro-client";
import { inWords, notOffered, troubleOf, valro } from "./api.js";
import { makeTable } from "./comparison.js";
import { showEarlier, showReply } from "./conversation.js";
import { $, announce, keepFocus, make, makeText, setText, setTime } from "./dom.js";
import { forget, knownTask, remember, selectedId, showTasks } from "./list.js";
import { makeMarkdown } from "./markdown.js";
import { offerNotification } from "./notify.js";
import { duration, emailsSent, failureOf, count, moment, questionIn, secondsBetween, stateOf, wordsOf } from "./words.js";

const INVITATION = "Describe what you need, and watch the agent work on it here.";
const SILENCE_SECONDS = 120;

let watching = new AbortController();
let shown = null; // the task that is on the page
const drawn = {}; // of its answer and its table: what they show, as JSON

export const shownTask = () => shown;
/** Aborted when another task is opened. */
export const openTaskSignal = () => watching.signal;

/** Shows what the address bar names; the focus goes there if somebody chose it. */
export async function open({ isChosen, otherwise = INVITATION }) {
  watching.abort();
  watching = new AbortController();
  const { signal } = watching;
  const id = selectedId();
  const before = shown?.id;
  document.body.classList.toggle("has-open", Boolean(id));
  showNothing(id ? "Loading…" : otherwise);
  troubleOf("task")(null);
  showTasks();
  if (!id) {
    if (isChosen) leaveTask(before);
    return;
  }
  if (knownTask(id)) showTask(knownTask(id), { isWhole: false });
  if (isChosen) lookAtTask();
  try {
    for await (const task of valro.watchTask(id, { signal, onRetry: troubleOf("task") })) {
      const isFirst = !shown;
      showTask(task, { isWhole: true });
      if (isFirst && isChosen) lookAtTask();
      remember([task]);
    }
  } catch (error) {
    if (signal.aborted) return;
    if (!(error instanceof ValroError)) throw error; // ours
    if (error.status === 404) forget(id);
    showNothing(inWords(error));
  }
}

function showNothing(text) {
  keepFocus($("nothing-text"), () => {
    shown = null;
    $("details").hidden = true;
    $("nothing").hidden = false;
    setText($("nothing-text"), text);
  });
  document.title = "Valro";
}

function lookAtTask() {
  const place = shown ? $("what") : $("nothing-text");
  place.focus({ preventScroll: true });
  if ($("task").getBoundingClientRect().top < 0 || place.getBoundingClientRect().bottom > innerHeight) {
    $("task").scrollIntoView();
  }
}

/** Back in the list, at the task that was open; or in the form, if that was chosen. */
function leaveTask(id) {
  if (location.hash === "#/new") $("description").focus();
  else ($("tasks").querySelector(`[data-id="${CSS.escape(id ?? "")}"] a`) ?? $("list-title")).focus();
}

export function showTask(task, { isWhole }) {
  const isNew = shown?.id !== task.id;
  const news = task.events.slice(isNew ? 0 : shown.events.length).filter((event) => wordsOf(event, task) !== null);
  shown = task;
  $("nothing").hidden = true;
  $("details").hidden = false;
  setText($("what"), task.description);
  $("what").classList.toggle("long", task.description.length > 200);
  showAnswer({ isWhole });
  showSteps(news, { isNew });
  if (isNew) showEarlier(task, watching.signal);
  showState();
  showTime();
  if (!isNew && news.length) announce(news.map((event) => wordsOf(event, task)).join(". "));
}

function showSteps(news, { isNew }) {
  const [timeline, frame] = [$("timeline"), $("steps-frame")];
  if (isNew) {
    timeline.replaceChildren();
    $("steps").open = shown.status === "error";
    $("report").open = false;
  }
  const isAtEnd = frame.scrollTop + frame.clientHeight >= frame.scrollHeight - 4;
  for (const event of news) timeline.append(makeStep(event, timeline.lastElementChild, { isNew }));
  const isRunning = !isFinal(shown);
  frame.classList.toggle("followed", isRunning);
  // What scrolls must be reached without a mouse.
  if (isRunning) frame.tabIndex = 0;
  else frame.removeAttribute("tabindex");
  if (isRunning && isAtEnd) frame.scrollTop = frame.scrollHeight;
  setText($("steps-count"), count(timeline.children.length, "step"));
}

function makeStep(event, previous, { isNew }) {
  const look = event.type === "error" && shown.error_code === "cancelled" ? "info" : event.type;
  const time = setTime(make("time"), event.ts, moment(event.ts));
  // A time that stands in the line above says nothing here.
  time.classList.toggle("unseen", previous?.querySelector("time").textContent === time.textContent);
  return make(`li.${look}${isNew ? "" : ".new"}`, makeText("span", wordsOf(event, shown)), time);
}

/** What can change without a new event: status, cancellation, what can be done. */
export function showState() {
  const { look, word } = stateOf(shown);
  const isEnded = isFinal(shown);
  document.title = `${isEnded ? "● " : ""}${word}: ${shown.description.slice(0, 60)} – Valro`;
  $("status").className = `status ${look}`;
  setText($("status"), word);
  setTime($("created"), shown.created_at, moment(shown.created_at));
  setText($("emails"), emailsSent(shown));
  const failure = shown.status === "error" ? failureOf(shown) : null;
  setText($("failure-title"), failure?.title ?? "");
  setText($("failure-text"), failure?.details ?? "");
  setText($("report-text"), failure?.report ?? "");
  $("failure").classList.toggle("calm", look === "cancelled");
  offerNotification(!isEnded);
  keepFocus($("what"), () => {
    $("failure").hidden = !failure;
    $("report").hidden = !failure?.report;
    $("now").hidden = isEnded;
    $("cancel").hidden = look === "cancelling" || notOffered.has("cancel");
    $("delete").hidden = notOffered.has("delete");
    $("task-actions").hidden = !isEnded;
    showReply(isEnded ? shown : null);
  });
}

/** What the agent is doing, in a line. */
function nowOf(task) {
  if (task.status === "pending") return "Waiting to start";
  if (stateOf(task).look === "cancelling") return "Stopping the agent. This can take up to a minute.";
  return $("timeline").lastElementChild.firstElementChild.textContent;
}

/** What changes by itself: how long it has been running, and how long nothing was heard. */
function showTime() {
  if (!shown) return;
  const last = shown.events.at(-1).ts;
  const isEnded = isFinal(shown);
  const lasted = duration(secondsBetween(shown.created_at, isEnded ? last : new Date()));
  setText($("took"), isEnded ? `Took ${lasted}` : "");
  setText($("now-text"), isEnded ? "" : nowOf(shown));
  setText($("elapsed"), isEnded ? "" : lasted);
  const silence = secondsBetween(last, new Date());
  $("silence").hidden = shown.status !== "processing" || silence < SILENCE_SECONDS;
  setText($("silence"), `No update for ${Math.floor(silence / 60)} min. The agent may be waiting for a reply. This page keeps checking.`);
}

setInterval(showTime, 1000);

function showAnswer({ isWhole }) {
  const { agent_response: text = "", vendors, quotes, interrupts = [] } = shown;
  const isComing = !isWhole && shown.status === "completed"; // a list leaves the answer out
  const isQuestion = !text.trim() || text === interrupts.map(questionIn).join("\n"); // it stands where it is answered
  $("answer-section").hidden = isQuestion && !isComing;
  $("truncated").hidden = !shown.agent_response_truncated;
  drawIfNew("answer", [isComing, text], () => {
    $("answer").replaceChildren(...(isComing ? [make("p.muted", "Loading…")] : makeMarkdown(text)));
  });
  drawIfNew("vendors", [vendors, quotes], () => {
    const table = makeTable(vendors, quotes);
    $("vendors-section").hidden = !table;
    $("vendors").replaceChildren(...(table ? [table] : []));
  });
}

/** Draws a part of the task; what has not changed is left alone, selected or opened as it may be. */
function drawIfNew(part, content, draw) {
  const json = JSON.stringify([shown.id, ...content]);
  if (drawn[part] === json) return;
  drawn[part] = json;
  draw();
}
