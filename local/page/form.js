// The form: what is written becomes one task, however often it is sent.

import { makeIdempotencyKey } from "valro-client";
import { inWords, troubleOf, valro } from "./api.js";
import { $, announce, setText } from "./dom.js";
import { addressOf } from "./list.js";
import { count } from "./words.js";

const MAX_CHARACTERS = 4_000;
const ANNOUNCE_FROM = 3_600;

let submitting = null; // an AbortController while a task is being sent

/** The text as the API counts it: characters, not UTF-16 units. */
const lengthOf = (text) => [...text].length;

/**
 * The key of what is being sent. It is kept until the API has answered, over a reload too, so that
 * the same text sent again is the same task.
 */
function keyFor(description) {
  let draft = JSON.parse(sessionStorage.getItem("draft") ?? "null");
  if (draft?.description !== description) {
    draft = { description, key: makeIdempotencyKey() };
    sessionStorage.setItem("draft", JSON.stringify(draft));
  }
  return draft.key;
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
  if (!description) return "Write what you need first.";
  const over = lengthOf(description) - MAX_CHARACTERS;
  return over > 0 ? `This is ${count(over, "character")} too long. Please shorten it.` : "";
}

/** Creates a task and opens it. */
export async function send(description) {
  if (submitting) return; // a double click
  submitting = new AbortController();
  showSubmitting();
  const onRetry = (error, seconds) => {
    $("stop").hidden = !error;
    troubleOf("submit")(error, seconds);
  };
  try {
    const options = { idempotencyKey: keyFor(description), signal: submitting.signal, onRetry };
    const { id } = await valro.createTask(description, options);
    sessionStorage.removeItem("draft");
    if ($("description").value.trim() === description) $("description").value = "";
    showLength();
    announce("Task created.");
    location.hash = addressOf(id);
  } catch (error) {
    if (submitting.signal.aborted) {
      troubleOf("submit")(null);
      showProblem("Not sent, as far as this page knows. Sending the same text again cannot make a second task.");
    } else {
      sessionStorage.removeItem("draft"); // a final answer: the next try is a new one
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
  $("submit").textContent = submitting ? "Sending …" : "Find vendors";
  $("stop").hidden = true;
}

export function showProblem(text) {
  $("problem").textContent = text;
  $("description").setAttribute("aria-invalid", Boolean(text));
}

function showLength() {
  const length = lengthOf($("description").value.trim());
  $("length").hidden = length < ANNOUNCE_FROM;
  $("length").classList.toggle("over", length > MAX_CHARACTERS);
  $("length").textContent = `${length.toLocaleString()} of ${MAX_CHARACTERS.toLocaleString()} characters`;
  if (length <= MAX_CHARACTERS && length) showProblem("");
}

$("form").addEventListener("submit", submit);
$("stop").addEventListener("click", () => { submitting?.abort(); $("submit").focus(); });
$("description").addEventListener("input", showLength);
$("description").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) $("form").requestSubmit();
});
for (const example of document.querySelectorAll(".example")) {
  example.addEventListener("click", () => {
    $("description").value = example.textContent;
    showLength();
    $("description").focus();
  });
}
