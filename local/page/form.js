// The form for a new task.

import { $, ask } from "./dom.js";
import { Sender } from "./sending.js";
import { count, mayHaveActed } from "./words.js";

const MAX_CHARACTERS = 4_000;
const ANNOUNCE_FROM = 3_600;

const sender = new Sender($("form"));

/** The text as the API counts it: characters, not UTF-16 units. */
const lengthOf = (text) => [...text].length;

/** What keeps a text from being sent; "" if nothing does. */
export function problemOf(text) {
  if (!text) return "Please describe what you need.";
  const over = lengthOf(text) - MAX_CHARACTERS;
  return over > 0 ? `This is ${count(over, "character")} too long. Please shorten it.` : "";
}

async function submit(event) {
  event.preventDefault();
  const description = $("description").value.trim();
  const problem = problemOf(description);
  sender.showProblem(problem);
  if (problem) $("description").focus();
  else if ((await sender.send(description)) === true && $("description").value.trim() === description) write("");
}

/** Says that there is no service to send anything to. */
export function close(problem) {
  sender.showProblem(problem);
  sender.submit.disabled = true;
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
  if (length <= MAX_CHARACTERS && length) sender.showProblem("");
}

/** Puts an ended task's words into the form; the person changes them, and sends them or not. */
export async function editAgain(task) {
  const written = $("description").value.trim();
  const isWanted = !written || written === task.description || await ask({
    title: "Replace what you have written?",
    text: "The form holds a request that you have not sent yet.",
    yes: "Replace it",
    no: "Keep it",
    fallback: $("what"),
  });
  if (!isWanted) return;
  write(task.description);
  $("repeat").hidden = task.status === "error" && !mayHaveActed(task);
  location.hash = "#/new";
  $("description").focus();
}

$("form").addEventListener("submit", submit);
$("description").addEventListener("input", noteDraft);
for (const example of document.querySelectorAll(".example")) {
  example.addEventListener("click", () => {
    write(example.textContent);
    $("description").focus();
  });
}
write(sessionStorage.getItem("draft") ?? "");
