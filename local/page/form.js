// The form: what is written becomes one task, however often it is sent.

import { makeIdempotencyKey } from "valro-client";
import { inWords, troubleOf, valro } from "./api.js";
import { $, announce, ask, keepFocus } from "./dom.js";
import { addressOf } from "./list.js";
import { count, mayHaveActed } from "./words.js";

const MAX_CHARACTERS = 4_000;
const ANNOUNCE_FROM = 3_600;
const SUBMIT = $("submit").textContent;

let submitting = null; // an AbortController while a task is being sent

/** The text as the API counts it: characters, not UTF-16 units. */
const lengthOf = (text) => [...text].length;

/**
 * The key of what is being sent. It is kept until the API has answered, over a reload too, so that
 * the same text sent again is the same task.
 */
function keyFor(description) {
  let sent = JSON.parse(sessionStorage.getItem("sent") ?? "null");
  if (sent?.description !== description) {
    sent = { description, key: makeIdempotencyKey() };
    sessionStorage.setItem("sent", JSON.stringify(sent));
  }
  return sent.key;
}

function submit(event) {
  event.preventDefault();
  const description = $("description").value.trim();
  const problem = problemOf(description);
  showProblem(problem);
  if (problem) $("description").focus();
  else send(description);
}

function problemOf(description) {
  if (!description) return "Please describe what you need.";
  const over = lengthOf(description) - MAX_CHARACTERS;
  return over > 0 ? `This is ${count(over, "character")} too long. Please shorten it.` : "";
}

/** Creates a task and opens it. */
async function send(description) {
  if (submitting) return; // a double click
  submitting = new AbortController();
  showSubmitting();
  const onRetry = (error, seconds) => {
    keepFocus($("submit"), () => { $("stop").hidden = !error; });
    troubleOf("submit")(error, seconds);
  };
  try {
    const options = { idempotencyKey: keyFor(description), signal: submitting.signal, onRetry };
    const { id } = await valro.createTask(description, options);
    sessionStorage.removeItem("sent");
    if ($("description").value.trim() === description) write("");
    announce("Request sent.");
    location.hash = addressOf(id);
  } catch (error) {
    if (submitting.signal.aborted) {
      troubleOf("submit")(null);
      showProblem("We couldn't confirm that it was sent. You can safely send it again; it won't create a duplicate.");
    } else {
      sessionStorage.removeItem("sent"); // a final answer: the next try is a new one
      showProblem(inWords(error));
      if (error.taskId) location.hash = addressOf(error.taskId);
    }
  } finally {
    submitting = null;
    showSubmitting();
  }
}

function showSubmitting() {
  $("submit").setAttribute("aria-disabled", Boolean(submitting));
  $("description").readOnly = Boolean(submitting);
  $("submit").textContent = submitting ? "Sending…" : SUBMIT;
  keepFocus($("submit"), () => { $("stop").hidden = true; });
}

export function showProblem(text) {
  $("problem").textContent = text;
  $("description").setAttribute("aria-invalid", Boolean(text));
}

/** Writes into the form, as if the person had. */
function write(text) {
  $("description").value = text;
  noteDraft();
}

/** What is not sent yet survives a reload. */
function noteDraft() {
  const text = $("description").value;
  if (text) sessionStorage.setItem("draft", text);
  else sessionStorage.removeItem("draft");
  if (!text) $("repeat").hidden = true;
  const length = lengthOf(text.trim());
  $("length").hidden = length < ANNOUNCE_FROM;
  $("length").classList.toggle("over", length > MAX_CHARACTERS);
  $("length").textContent = `${length.toLocaleString()} of ${MAX_CHARACTERS.toLocaleString()} characters`;
  if (length <= MAX_CHARACTERS && length) showProblem("");
}

/** Puts an ended task's words into the form; the person changes them, and sends them or not. */
export async function editAgain(task) {
  const written = $("description").value.trim();
  const isWanted = !written || written === task.description || await ask({
    title: "Replace what you have written?",
    text: "The form holds a request that you have not sent yet.",
    yes: "Replace it",
    no: "Keep it",
    heir: $("what"),
  });
  if (!isWanted) return;
  write(task.description);
  $("repeat").hidden = task.status === "error" && !mayHaveActed(task);
  location.hash = "#/new";
  $("description").focus();
}

$("form").addEventListener("submit", submit);
$("stop").addEventListener("click", () => submitting?.abort());
$("description").addEventListener("input", noteDraft);
$("description").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) $("form").requestSubmit();
});
for (const example of document.querySelectorAll(".example")) {
  example.addEventListener("click", () => {
    write(example.textContent);
    $("description").focus();
  });
}
write(sessionStorage.getItem("draft") ?? "");
