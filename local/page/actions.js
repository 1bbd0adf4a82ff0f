// What can be done with the task that is open.

import { isFinal } from "valro-client";
import { inWords, isNotOffered, notOffered, valro } from "./api.js";
import { $, announce, ask } from "./dom.js";
import { editAgain } from "./form.js";
import { forget, remember, selectedId } from "./list.js";
import { open, showState, showTask, shownTask, openTaskSignal } from "./task.js";

const MAX_RETRIES = 2; // of what a person asked for and waits for: then it is said

/** Asks the API for what a person wants once; says so if it does not do that. */
async function attempt(action, request) {
  const signal = openTaskSignal();
  const button = $(action);
  $("action-problem").textContent = "";
  button.setAttribute("aria-disabled", "true");
  try {
    return await request(shownTask().id, { signal, maxRetries: MAX_RETRIES });
  } catch (error) {
    if (signal.aborted) return undefined;
    if (isNotOffered(error)) {
      notOffered.add(action);
      showState();
      $("action-problem").textContent = `You can't ${action} tasks here.`;
    } else if (error.code === "task_ended" || error.code === "task_not_final") {
      valro.wake(); // the next poll shows how it stands
    } else {
      // Where there is no route, a gateway's answer may be one that browsers keep from pages.
      $("action-problem").textContent = `We could not ${action} this task. ${inWords(error)}`;
    }
    return undefined;
  } finally {
    button.removeAttribute("aria-disabled");
  }
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
    fallback: $("what"),
  });
  if (!isWanted) return;
  const cancelled = await attempt("cancel", (...call) => valro.cancelTask(...call));
  if (!cancelled || shownTask()?.id !== task.id) return;
  showTask(cancelled, { isWhole: true });
  remember([cancelled]);
  if (!isFinal(cancelled)) announce("Cancellation requested.");
  valro.wake();
});

$("delete").addEventListener("click", async () => {
  const task = shownTask();
  const isWanted = await ask({
    title: "Delete this task?",
    text: `${task.follows ? "This part of the conversation" : "The task"} and everything the agent found will be removed for good. Vendors are not told.`,
    yes: "Delete the task",
    no: "Keep it",
    fallback: $("what"),
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
