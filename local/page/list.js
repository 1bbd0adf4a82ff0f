// The list of tasks.

import { ApiError, ValroError, isFinal, sleep } from "valro-client";
import { troubleOf, valro, inWords } from "./api.js";
import { $, announce, keepFocus, make, makeText, setText, setTime } from "./dom.js";
import { tellOfEnd } from "./notify.js";
import { count, moment, stateOf } from "./words.js";

const REFRESH_SECONDS = 15;
const HIDDEN_REFRESH_SECONDS = 30;
const PAGE_TASKS = 12;
const MAX_PAGE_TASKS = 100;
const FILTERED_FROM = 6; // fewer are seen at a glance
const INDEX_LAG_SECONDS = 60; // a task made a moment ago may be missing from a list

const known = new Map(); // id -> task; pages overlap while tasks are being created
const gone = new Set(); // ids; a page that was asked for earlier may still name a deleted task
let next = null; // the page after the oldest that was loaded
let isLoaded = false;
let filter = { looks: null, words: "" };
const forever = new AbortController().signal;

export const addressOf = (id) => `#/tasks/${id}`;
export const selectedId = () => /^#\/tasks\/([\w-]+)$/.exec(location.hash)?.[1] ?? "";
export const knownTask = (id) => known.get(id);

export function remember(tasks) {
  for (const task of tasks) {
    const before = known.get(task.id);
    if (gone.has(task.id) || before?.updated_at > task.updated_at) continue; // an answer from before
    known.set(task.id, task);
    if (before && !isFinal(before) && isFinal(task)) tellOfEnd(task);
  }
  showTasks();
}

export function forget(id) {
  gone.add(id);
  known.delete(id);
  showTasks();
}

// By id where two were made at the same time.
const isNewer = (a, b) => a.created_at > b.created_at || (a.created_at === b.created_at && a.id > b.id);

const threadOf = (task) => task.thread_id ?? task.id;

/** The last task of each conversation, the newest first. */
function conversations() {
  const threads = new Set();
  return [...known.values()].sort((a, b) => (isNewer(a, b) ? -1 : 1))
    .filter((task) => threads.size < threads.add(threadOf(task)).size);
}

export function showTasks() {
  const wanted = conversations().filter(isWanted);
  const list = $("tasks");
  const items = new Map([...list.children].map((item) => [item.dataset.id, item]));
  const stay = new Set(wanted.map(({ id }) => id));
  keepFocus($("list-title"), () => {
    for (const [id, item] of items) if (!stay.has(id)) item.remove();
  });
  const selected = known.get(selectedId());
  wanted.forEach((task, index) => {
    const item = items.get(task.id) ?? makeItem(task);
    // Moving an element that has the focus would take it away.
    if (list.children[index] !== item) list.insertBefore(item, list.children[index] ?? null);
    const { look, word } = stateOf(task);
    const status = item.querySelector(".status");
    status.className = `status ${look}`;
    setText(status, word);
    setText(item.querySelector(".what"), titleOf(task).slice(0, 300));
    const link = item.firstElementChild;
    if (selected && threadOf(task) === threadOf(selected)) link.setAttribute("aria-current", "true");
    else link.removeAttribute("aria-current");
  });
  const isFiltered = Boolean(filter.looks || filter.words);
  keepFocus($("list-title"), () => { $("older").hidden = !next; });
  setText($("older"), isFiltered ? "Look through older tasks" : "Older tasks");
  if (known.size >= FILTERED_FROM) $("filter").hidden = false;
  document.body.classList.toggle("has-tasks", known.size > 0);
  if (isLoaded) sayOfList(!known.size ? "No tasks yet." : wanted.length ? "" : "No matching tasks.");
}

/** What a conversation began with, as far as that is known. */
const titleOf = (task) => (known.get(threadOf(task)) ?? task).description;

function isWanted(task) {
  if (filter.looks && !filter.looks.includes(stateOf(task).look)) return false;
  const text = `${titleOf(task)} ${task.description}`.toLowerCase();
  return filter.words.split(" ").every((word) => text.includes(word));
}

function sayOfList(text) {
  $("list-text").hidden = !text;
  setText($("list-text"), text);
}

function makeItem(task) {
  const link = make("a",
    makeText("span.what"),
    ...(task.follows ? [makeText("span.reply.small.muted", task.description.slice(0, 300))] : []),
    make("span.when", make("span.status"), setTime(make("time"), task.created_at, moment(task.created_at))));
  link.href = addressOf(task.id);
  const item = make("li", link);
  item.dataset.id = task.id;
  return item;
}

async function loadPage(options) {
  const onRetry = (error, seconds) => {
    if (error && !isLoaded) sayOfList("They will appear here once we can reach Valro.");
    troubleOf("list")(error, seconds);
  };
  return valro.listTasks({ ...options, onRetry });
}

/** Renews what is listed: slowly while one of its tasks runs, else when something happens. */
export async function keepList() {
  for (;;) {
    const isRunning = await renewList();
    const seconds = document.hidden ? HIDDEN_REFRESH_SECONDS : REFRESH_SECONDS;
    await Promise.race([somethingHappens(), ...(isRunning ? [sleep(seconds, forever)] : [])]);
  }
}

/** Returns whether a listed task runs that is not being polled already. */
async function renewList() {
  try {
    await renew();
  } catch (error) {
    if (!(error instanceof ValroError)) throw error; // ours
    sayOfList(inWords(error));
    return false;
  }
  return [...known.values()].some((task) => !isFinal(task) && task.id !== selectedId());
}

async function renew() {
  // Room for a page of new ones before those that are known.
  const limit = Math.min(known.size + PAGE_TASKS, MAX_PAGE_TASKS);
  const { tasks, next: older } = await loadPage({ limit: isLoaded ? limit : PAGE_TASKS });
  if (isLoaded && older && !tasks.some((task) => known.has(task.id))) {
    // So many are new that there is a gap before those that we know: begin again.
    known.clear();
    isLoaded = false;
  }
  if (!isLoaded) next = older;
  isLoaded = true;
  const listed = new Set(tasks.map(({ id }) => id));
  const isCovered = (task) => !older || isNewer(task, tasks.at(-1));
  for (const task of [...known.values()]) {
    if (listed.has(task.id)) continue;
    if (!isCovered(task)) {
      if (!isFinal(task) && task.id !== selectedId()) await renewOne(task.id);
    } else if (Date.now() - new Date(task.created_at) > INDEX_LAG_SECONDS * 1000) {
      known.delete(task.id); // deleted elsewhere
    }
  }
  remember(tasks);
}

async function renewOne(id) {
  try {
    remember([await valro.getTask(id, { onRetry: troubleOf("list") })]);
  } catch (error) {
    if (!(error instanceof ApiError && error.status === 404)) throw error;
    forget(id);
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
  const before = new Set([...$("tasks").children]);
  const isNew = (item) => !before.has(item);
  try {
    do {
      const page = await loadPage({ page: next });
      next = page.next;
      remember(page.tasks);
    } while (next && ![...$("tasks").children].some(isNew));
  } catch (error) {
    announce(inWords(error));
    return;
  }
  const added = [...$("tasks").children].filter(isNew);
  announce(`${count(added.length, "older task")} loaded.`);
  added[0]?.firstElementChild.focus();
});

function applyFilter() {
  const chosen = $("chips").querySelector("[aria-pressed=true]").dataset.looks;
  filter = { looks: chosen ? chosen.split(" ") : null, words: $("search").value.trim().toLowerCase() };
  showTasks();
  announce(count($("tasks").children.length, "task"));
}

$("search").addEventListener("input", applyFilter);
$("chips").addEventListener("click", ({ target }) => {
  const chip = target.closest("button");
  if (!chip) return;
  for (const each of $("chips").children) each.setAttribute("aria-pressed", each === chip);
  applyFilter();
});
