// What can be done with the task that is open.

import { ApiError, isFinal } from "valro-client";
import { inWords, valro, wake } from "./api.js";
import { $, announce, ask } from "./dom.js";
import { editAgain } from "./form.js";
import { forget, remember, selectedId } from "./list.js";
import { notOffered, open, showState, showTask, shownTask, whileOpen } from "./task.js";

const MAX_TRIES = 3; // of what a person asked for and waits for: then it is said

/** Asks the API for what a person wants once; says so if it does not do that. */
async function attempt(deed, request) {
  const task = shownTask();
  $("deed-problem").textContent = "";
  const giveUp = new AbortController();
  const closed = whileOpen();
  let tries = 0;
  const onRetry = (error) => { if (error && ++tries >= MAX_TRIES) giveUp.abort(); };
  const button = $(deed);
  button.setAttribute("aria-disabled", "true");
  try {
    return await request(task.id, { signal: AbortSignal.any([giveUp.signal, closed]), onRetry });
  } catch (error) {
    if (closed.aborted && !giveUp.signal.aborted) return undefined;
    if (isNotOffered(error)) {
      notOffered.add(deed);
      showState();
      $("deed-problem").textContent = `It is not possible to ${deed} tasks here.`;
    } else if (error.code === "task_ended" || error.code === "task_not_final") {
      wake(); // the next poll shows how it stands
    } else {
      // Where there is no route, a gateway's answer may be one that browsers keep from pages.
      $("deed-problem").textContent = giveUp.signal.aborted
        ? `We could not ${deed} this task. Please try again later.` : inWords(error);
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

$("cancel").addEventListener("click", async () => {
  const task = shownTask();
  const isWanted = await ask({
    title: "Cancel this task?",
    text: task.status === "pending"
      ? "The agent has not started yet, so nobody has been contacted."
      : "The agent will be stopped. Vendors it has already e-mailed may still reply.",
    yes: "Cancel the task",
    no: "Keep it running",
    heir: $("what"),
  });
  if (!isWanted) return;
  const cancelled = await attempt("cancel", (...call) => valro.cancelTask(...call));
  if (!cancelled || shownTask()?.id !== task.id) return;
  showTask(cancelled, { isWhole: true });
  remember([cancelled]);
  if (!isFinal(cancelled)) announce("Cancellation requested.");
  wake();
});

$("delete").addEventListener("click", async () => {
  const task = shownTask();
  const isWanted = await ask({
    title: "Delete this task?",
    text: "The task and everything the agent found will be removed for good. Vendors are not told.",
    yes: "Delete the task",
    no: "Keep it",
    heir: $("what"),
  });
  if (!isWanted) return;
  const isDeleted = await attempt("delete", async (...call) => {
    await valro.deleteTask(...call).catch((error) => {
      if (error.code !== "task_not_found") throw error; // it is gone: that is what was wanted
    });
    return true;
  });
  if (!isDeleted) return;
  forget(task.id);
  announce("Task deleted.");
  if (selectedId() !== task.id) return;
  history.replaceState(null, "", `${location.pathname}${location.search}#/`); // back does not lead to it
  open({ isChosen: true, otherwise: "The task was deleted." });
});

$("again").addEventListener("click", () => editAgain(shownTask()));
