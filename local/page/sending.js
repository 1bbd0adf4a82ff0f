// What is written in a form becomes one task, however often it is sent.

import { makeIdempotencyKey } from "valro-client";
import { inWords, troubleOf, valro } from "./api.js";
import { announce, keepFocus } from "./dom.js";
import { addressOf } from "./list.js";

/** Sends what a form says; it has a submit button, one to stop and a place for problems. */
export class Sender {
  #form;
  #sending = null; // an AbortController

  constructor(form) {
    this.#form = form;
    this.submit = form.querySelector("[type=submit]");
    this.label = this.submit.textContent;
    this.stop = form.querySelector(".stop");
    this.stop.addEventListener("click", () => this.#sending?.abort());
    form.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
    });
  }

  /** Creates a task and opens it; resolves to whether there is one, or to the error. */
  async send(description, { follows, answers } = {}) {
    if (this.#sending) return false; // a double click
    const { signal } = this.#sending = new AbortController();
    const place = location.hash;
    const name = `sent ${follows ?? ""}`; // one thing at a time is under way to a task
    const trouble = troubleOf(this.#form.id);
    const onRetry = (error, seconds) => {
      keepFocus(this.submit, () => { this.stop.hidden = !error; });
      trouble(error, seconds);
    };
    this.showProblem("");
    this.#show();
    try {
      const idempotencyKey = keyFor(name, JSON.stringify([description, answers]));
      const { id } = await valro.createTask(description, { follows, answers, idempotencyKey, signal, onRetry });
      sessionStorage.removeItem(name);
      announce("Request sent.");
      if (location.hash === place) location.hash = addressOf(id);
      return true;
    } catch (error) {
      if (signal.aborted) {
        trouble(null);
        this.showProblem("We couldn't confirm that it was sent. You can safely send it again; it won't create a duplicate.");
        return false;
      }
      sessionStorage.removeItem(name); // a final answer: the next try is a new one
      this.showProblem(inWords(error));
      if (error.taskId) location.hash = addressOf(error.taskId);
      return error;
    } finally {
      this.#sending = null;
      this.#show();
    }
  }

  #show() {
    const isSending = Boolean(this.#sending);
    this.submit.setAttribute("aria-disabled", isSending);
    this.submit.textContent = isSending ? "Sending…" : this.label;
    for (const field of this.#form.querySelectorAll("textarea")) field.readOnly = isSending;
    if (!isSending) keepFocus(this.submit, () => { this.stop.hidden = true; });
  }

  showProblem(text) {
    this.#form.querySelector(".problem").textContent = text;
    this.#form.querySelector("textarea")?.setAttribute("aria-invalid", Boolean(text));
  }
}

/**
 * The key of what is being sent. It is kept until the API has answered, over a reload too, so that
 * the same sent again is the same task.
 */
function keyFor(name, content) {
  let sent = JSON.parse(sessionStorage.getItem(name) ?? "null");
  if (sent?.content !== content) {
    sent = { content, key: makeIdempotencyKey() };
    sessionStorage.setItem(name, JSON.stringify(sent));
  }
  return sent.key;
}
