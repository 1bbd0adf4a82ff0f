// The list of tasks.

import { ApiError, isFinal, sleep } from "valro-client";
import { tabIsVisible, troubleOf, valro, inWords } from "./api.js";
import { $, announce, make, setText, setTime } from "./dom.js";
import { count, shortly, stateOf } from "./words.js";

const REFRESH_SECONDS = 15;
const PAGE_TASKS = 12;

const known = new Map(); // id -> task; pages overlap while tasks are being created
const gone = new Set(); // ids; a page that was asked for earlier may still name a deleted task
let next = null; // the page after the oldest that was loaded
let isLoaded = false;
const forever = new AbortController().signal;

export const addressOf = (id) => `#/tasks/${id}`;
export const selectedId = () => /^#\/tasks\/([\w-]+)$/.exec(location.hash)?.[1] ?? "";
export const knownTask = (id) => known.get(id);

export function remember(tasks) {
  for (const task of tasks) if (!gone.has(task.id)) known.set(task.id, task);
  showTasks();
}

export function forget(id) {
  gone.add(id);
  known.delete(id);
  $("tasks").querySelector(`[data-id="${CSS.escape(id)}"]`)?.remove();
  showTasks();
}

export function showTasks() {
  const newestFirst = [...known.values()].sort((a, b) => (
    a.created_at === b.created_at ? (a.id < b.id ? 1 : -1) : (a.created_at < b.created_at ? 1 : -1)));
  const list = $("tasks");
  newestFirst.forEach((task, index) => {
    const item = list.querySelector(`[data-id="${CSS.escape(task.id)}"]`) ?? makeItem(task);
    // Moving an element that has the focus would take it away.
    if (list.children[index] !== item) list.insertBefore(item, list.children[index] ?? null);
    const { look, word } = stateOf(task);
    const status = item.querySelector(".status");
    status.className = `status ${look}`;
    setText(status, word);
    const link = item.firstElementChild;
    if (task.id === selectedId()) link.setAttribute("aria-current", "true");
    else link.removeAttribute("aria-current");
  });
  $("older").hidden = !next;
  document.body.classList.toggle("has-tasks", known.size > 0);
  if (isLoaded) sayOfList(known.size ? "" : "No tasks yet.");
}

function sayOfList(text) {
  $("list-text").hidden = !text;
  setText($("list-text"), text);
}

function makeItem(task) {
  const link = make("a",
    make("span.what", task.description.slice(0, 300)),
    make("span.when", make("span.status"), setTime(make("time"), task.created_at, shortly(task.created_at))));
  link.href = addressOf(task.id);
  const item = make("li", link);
  item.dataset.id = task.id;
  return item;
}

async function loadPage(page) {
  const options = page ? { page } : { limit: PAGE_TASKS };
  const onRetry = (error, seconds) => {
    if (error && !isLoaded) sayOfList("They appear here as soon as the API answers.");
    troubleOf("list")(error, seconds);
  };
  const loaded = await valro.listTasks({ ...options, onRetry });
  if (isLoaded && !page && loaded.next && !loaded.tasks.some((task) => known.has(task.id))) {
    // So many are new that there is a gap before those that we know: begin again.
    known.clear();
    $("tasks").replaceChildren();
    isLoaded = false;
  }
  if (page || !isLoaded) next = loaded.next;
  isLoaded = true;
  remember(loaded.tasks);
  return loaded.tasks;
}

/** Renews the newest page: slowly while one of its tasks runs, else when something happens. */
export async function keepList() {
  for (;;) {
    await tabIsVisible(forever);
    const isRunning = await renewList();
    const later = isRunning ? [sleep(REFRESH_SECONDS, forever)] : [];
    await Promise.race([somethingHappens(), ...later]);
  }
}

/** Returns whether one of the newest tasks runs that is not being polled already. */
async function renewList() {
  try {
    const tasks = await loadPage(null);
    return tasks.some((task) => !isFinal(task) && task.id !== selectedId());
  } catch (error) {
    if (!(error instanceof ApiError)) throw error; // ours
    sayOfList(inWords(error));
    return false;
  }
}

/** Resolves when the tab is looked at again or another task is opened. */
function somethingHappens() {
  return new Promise((resolve) => {
    document.addEventListener("visibilitychange", resolve, { once: true });
    window.addEventListener("hashchange", resolve, { once: true });
  });
}

$("older").addEventListener("click", async () => {
  const last = $("tasks").lastElementChild;
  try {
    const tasks = await loadPage(next);
    announce(`${count(tasks.length, "older task")} loaded.`);
    last?.nextElementSibling?.firstElementChild.focus();
  } catch (error) {
    announce(inWords(error));
  }
});
