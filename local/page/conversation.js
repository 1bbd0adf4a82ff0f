// The rest of a conversation: what came before the open task, above it, and a reply below it.

import { ApiError } from "valro-client";
import { isNotOffered, notOffered, troubleOf, valro } from "./api.js";
import { makeTable } from "./comparison.js";
import { $, keepFocus, make, makeText } from "./dom.js";
import { problemOf } from "./form.js";
import { addressOf } from "./list.js";
import { makeMarkdown } from "./markdown.js";
import { Sender } from "./sending.js";
import { asText, failureOf, questionIn, stateOf } from "./words.js";

const MAX_TURNS = 20;
const MAX_CHARACTERS = 4_000;

const sender = new Sender($("reply"));
const ended = new Map(); // id -> task: what has ended does not change
let open = null; // the task that is replied to
let fields = []; // of the reply: what was asked, and where it is answered

// ---- above

/** Shows the tasks that came before one, folded, the first one first. */
export async function showEarlier(task, signal) {
  $("turns").replaceChildren();
  $("earlier").hidden = true;
  troubleOf("earlier")(null);
  let id = task.follows;
  for (let turns = 0; id && turns < MAX_TURNS; turns++) {
    const turn = await earlierTask(id, signal);
    if (signal.aborted) return;
    $("turns").prepend(turn ? makeTurn(turn) : make("li.muted.small", "An earlier part of this conversation was deleted."));
    $("earlier").hidden = false;
    id = turn?.follows;
  }
}

async function earlierTask(id, signal) {
  if (ended.has(id)) return ended.get(id);
  try {
    const task = await valro.getTask(id, { signal, onRetry: troubleOf("earlier") });
    ended.set(id, task);
    return task;
  } catch (error) {
    if (!signal.aborted && !(error instanceof ApiError)) throw error;
    return null;
  }
}

function makeTurn(task) {
  const { look, word } = stateOf({ ...task, interrupts: undefined }); // it was answered
  const turn = make("details",
    make("summary", makeText("h2.what", task.description), " ", make(`span.status.${look}`, word)));
  if (task.status === "error") {
    const { title, details } = failureOf(task);
    turn.append(make("p", `${title} ${details}`));
  }
  if (task.agent_response?.trim()) turn.append(make("div.prose", ...makeMarkdown(task.agent_response, 3)));
  const table = makeTable(task.vendors, task.quotes);
  if (table) turn.append(table);
  return make("li", turn);
}

// ---- below

/** Offers a reply to a task that has ended, or leads to the one that there is. */
export function showReply(task) {
  // A task without a thread is of an API that knows no conversations.
  $("reply").hidden = !task?.thread_id || Boolean(task.followed_by) || notOffered.has("reply");
  $("followed").hidden = !task?.followed_by;
  if (task?.followed_by) $("follower").href = addressOf(task.followed_by);
  if ($("reply").hidden || open === task.id) return;
  open = task.id;
  sender.showProblem("");
  const questions = task.interrupts ?? [null];
  fields = questions.map((question, index) => makeField(task, question, {
    draft: `reply ${task.id} ${index}`, isOnly: questions.length === 1,
  }));
  $("questions").replaceChildren(...fields.map(({ element }) => element));
}

/** Where one question is answered: by a button where it wants one of few answers, or in words. */
function makeField(task, question, { draft, isOnly }) {
  const text = document.createElement("textarea");
  const field = { question, text, draft, chosen: null };
  text.dir = "auto";
  text.rows = 2;
  text.value = sessionStorage.getItem(draft) ?? "";
  text.addEventListener("input", () => {
    if (text.value) sessionStorage.setItem(draft, text.value);
    else sessionStorage.removeItem(draft);
    choose(field, null);
    sender.showProblem("");
  });
  const invitation = task.status === "error" ? "Say what to change, and try again" : "Ask for more, or change something";
  const label = make("label", question ? "Your answer" : invitation, text);
  field.element = question ? make("fieldset", makeText("legend.text", questionIn(question)), label) : make("div", label);
  const choices = question ? choicesOf(question.response_schema) : [];
  field.buttons = choices.map((choice) => {
    const button = make("button.secondary", choice.label);
    button.type = "button";
    button.dir = "auto";
    button.setAttribute("aria-pressed", false);
    button.addEventListener("click", () => {
      text.value = "";
      sessionStorage.removeItem(draft);
      choose(field, choice);
      if (isOnly) $("reply").requestSubmit();
    });
    field.element.insertBefore(button, label);
    return [button, choice];
  });
  if (choices.length) label.firstChild.textContent = "Or answer in your own words";
  return field;
}

function choose(field, choice) {
  field.chosen = choice;
  for (const [button, each] of field.buttons) button.setAttribute("aria-pressed", each === choice);
}

/** The few answers that a JSON Schema allows, as buttons. */
function choicesOf(schema) {
  if (schema?.type === "boolean") return [{ label: "Yes", value: true }, { label: "No", value: false }];
  if (Array.isArray(schema?.enum)) return schema.enum.map((value) => ({ label: asText(value), value }));
  // Frameworks that ask for an object want no more than one thing of it, as a rule.
  const [[name, only] = [], ...others] = Object.entries(schema?.properties ?? {});
  return !only || others.length ? [] : choicesOf(only).map((one) => ({ ...one, value: { [name]: one.value } }));
}

async function submit(event) {
  event.preventDefault();
  const answered = fields
    .map((field) => ({ ...field, words: field.chosen?.label ?? field.text.value.trim() }))
    .filter(({ words }) => words);
  const isAsked = fields[0].question !== null;
  const words = answered.map((field) => (fields.length > 1 ? `${questionIn(field.question)} ${field.words}` : field.words));
  const description = [...words.join("\n")].slice(0, isAsked ? MAX_CHARACTERS : undefined).join("");
  const problem = problemOf(description);
  if (problem) {
    sender.showProblem(isAsked && !description ? "Please answer first." : problem);
    fields[0].text.focus();
    return;
  }
  const follows = open;
  const answers = Object.fromEntries(answered.map((field) => [field.question?.id, field.chosen ? field.chosen.value : field.words]));
  const result = await sender.send(description, { follows, answers: isAsked ? answers : undefined });
  if (result === true) for (const { draft } of answered) sessionStorage.removeItem(draft);
  if (result.code === "already_followed") { // from another tab, or another device
    location.hash = addressOf((await valro.getTask(follows)).followed_by);
  } else if (isNotOffered(result) && open === follows) {
    notOffered.add("reply");
    keepFocus($("what"), () => { $("reply").hidden = true; });
    $("action-problem").textContent = "You can't reply here.";
  }
}

$("reply").addEventListener("submit", submit);
