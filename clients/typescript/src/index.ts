/**
 * A client of the Valro API, for browsers and Node. It needs fetch and nothing else.
 *
 *     const valro = new ValroClient("https://….amazonaws.com");
 *     const { id } = await valro.createTask("Find me a landscaper in Charlotte under $300");
 *     for await (const task of valro.watchTask(id)) console.log(task.status, task.events.at(-1));
 *
 * Every call is sent again until it is answered, waiting longer after each failure: all of them may
 * be repeated without harm. Give a `signal` to end that.
 */

import type { components } from "./openapi.js";

type Schemas = components["schemas"];

/** A task with everything that is known of it. */
export type Task = Schemas["Task"];
/** A task as the list shows it: without `agent_response`. */
export type ListedTask = Schemas["ListedTask"];
export type TaskEvent = Schemas["Event"];
export type Vendor = Schemas["Vendor"];
export type Quote = Schemas["Quote"];
export type Email = Schemas["Email"];
export type Status = Schemas["Status"];
/** What the API says of a task that it has accepted. */
export type Accepted = Schemas["Accepted"];
/** Why a task ended as `error`; there may be new ones. */
export type TaskErrorCode = Schemas["KnownTaskErrorCode"] | (string & {});
/** The API's words for its errors; there may be new ones. The gateway's own errors have none. */
export type ErrorCode = Schemas["KnownErrorCode"] | (string & {});

/** One page of tasks, newest first. */
export interface TaskPage {
  tasks: ListedTask[];
  /** Hand this to `listTasks` as `page`; null on the last page. */
  next: string | null;
}

export interface ClientOptions {
  /** Headers of every request, made anew for each: `() => ({ Authorization: "Bearer …" })`. */
  headers?: () => Record<string, string> | Promise<Record<string, string>>;
  /** Waits between tries and polls; it rejects with the signal's reason when that is aborted. */
  wait?: (seconds: number, signal: AbortSignal) => Promise<void>;
}

export interface CallOptions {
  signal?: AbortSignal;
  /** Hears of each failure that passes, and when the next try is; of null when one was answered. */
  onRetry?: (error: unknown, seconds: number) => void;
}

export interface CreateOptions extends CallOptions {
  /** Keep it over a reload to ask for the same task again; by default each call makes a new one. */
  idempotencyKey?: string;
}

export interface ListOptions extends CallOptions {
  limit?: number;
  /** Only tasks with one of these statuses. */
  status?: readonly Status[];
  /** `next` of the page before; limit and status are in it already. */
  page?: string;
}

const REQUEST_TIMEOUT_MS = 35_000; // the gateway gives up after 30
const MAX_BACKOFF_SECONDS = 30;
const POLL_SECONDS = 5; // where no Retry-After says better
// A status that usually passes, but asking again gives these same answers.
const LASTING: ReadonlySet<string | undefined> = new Set(["not_configured", "worker_unavailable"]);

/** An answer that is an error. Its message is a sentence for a person. */
export class ApiError extends Error {
  override readonly name = "ApiError";
  readonly status: number;
  readonly code: ErrorCode | undefined;
  /** The task that the error is about, where the API names one. */
  readonly taskId: string | undefined;
  /** Seconds after which the API wants to be asked again, if it says so. */
  readonly retryAfter: number | undefined;

  constructor(response: Response, body: unknown) {
    // The API's own errors are {error, code}, the gateway's are {message}.
    const said = (typeof body === "object" && body !== null ? body : {}) as Record<string, unknown>;
    const plain = ["The API answered", response.status, said["message"]].filter(Boolean).join(" ");
    super(typeof said["error"] === "string" ? said["error"] : `${plain}.`);
    this.status = response.status;
    this.code = said["code"] as ErrorCode | undefined;
    this.taskId = said["id"] as string | undefined;
    this.retryAfter = secondsOf(response);
  }

  /** Whether the same request may be answered otherwise later: throttling and crashes pass. */
  get passes(): boolean {
    return this.status === 429 || (this.status >= 500 && !LASTING.has(this.code));
  }
}

/** Whether a task has ended; then nothing in it changes any more. */
export function isFinal(task: { status: Status }): boolean {
  return task.status === "completed" || task.status === "error";
}

/** A key for one task: random, without crypto.randomUUID, which pages have over HTTPS only. */
export function makeIdempotencyKey(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

export class ValroClient {
  readonly baseUrl: string;
  readonly #options: ClientOptions;

  constructor(baseUrl: string | URL, options: ClientOptions = {}) {
    this.baseUrl = String(baseUrl).replace(/\/+$/, "");
    this.#options = options;
  }

  /** Creates a task. The key is the same at every try: one call is one task, whatever is lost. */
  async createTask(description: string, options: CreateOptions = {}): Promise<Accepted> {
    const { idempotencyKey = makeIdempotencyKey(), ...call } = options;
    const { body } = await this.#ask("POST", "/tasks", call, {
      headers: { "Content-Type": "application/json", "Idempotency-Key": idempotencyKey },
      body: JSON.stringify({ description }),
    });
    return body as Accepted;
  }

  /** Gives a task as it is now and whenever it has changed, and ends when the task is final. */
  async *watchTask(id: string, options: CallOptions = {}): AsyncGenerator<Task, void, undefined> {
    let task: Task | undefined;
    let etag: string | null = null;
    for (;;) {
      const headers: Record<string, string> = etag ? { "If-None-Match": etag } : {};
      const answer = await this.#ask("GET", taskPath(id), options, { headers });
      if (answer.response.status !== 304) { // 304: as it was
        task = answer.body as Task;
        etag = answer.response.headers.get("ETag");
        yield task;
      }
      if (task && isFinal(task)) return;
      await this.#wait(secondsOf(answer.response) ?? POLL_SECONDS, options.signal);
    }
  }

  async getTask(id: string, options: CallOptions = {}): Promise<Task> {
    return (await this.#ask("GET", taskPath(id), options)).body as Task;
  }

  async listTasks(options: ListOptions = {}): Promise<TaskPage> {
    const { limit, status, page, ...call } = options;
    const query = new URLSearchParams();
    if (limit !== undefined) query.set("limit", String(limit));
    if (status?.length) query.set("status", status.join(","));
    const { response, body } = await this.#ask("GET", `/tasks${page ?? asQuery(query)}`, call);
    return { tasks: body as ListedTask[], next: nextPage(response) };
  }

  /**
   * Asks for a task's end. One that waits has ended in the answer (`error`, `cancelled`); one that
   * runs has `cancel_requested_at`, and ends within a minute. ApiError 409 if it has ended already.
   */
  async cancelTask(id: string, options: CallOptions = {}): Promise<Task> {
    return (await this.#ask("POST", `${taskPath(id)}/cancel`, options)).body as Task;
  }

  /** Deletes a task that has ended; ApiError 409 while it runs. */
  async deleteTask(id: string, options: CallOptions = {}): Promise<void> {
    let tries = 0;
    const onRetry: CallOptions["onRetry"] = (error, seconds) => {
      tries += error ? 1 : 0;
      options.onRetry?.(error, seconds);
    };
    try {
      await this.#ask("DELETE", taskPath(id), { ...options, onRetry });
    } catch (error) {
      // Not there after a try whose answer was lost: that try has deleted it.
      if (!(tries && error instanceof ApiError && error.code === "task_not_found")) throw error;
    }
  }

  /** Sends a request until it is answered; throws ApiError for an answer that will not change. */
  async #ask(method: string, path: string, call: CallOptions, init: RequestInit = {}) {
    for (let failures = 0; ; failures++) {
      call.signal?.throwIfAborted();
      try {
        const answer = await this.#send(method, path, call.signal, init);
        call.onRetry?.(null, 0);
        return answer;
      } catch (error) {
        call.signal?.throwIfAborted();
        if (error instanceof ApiError && !error.passes) {
          call.onRetry?.(null, 0);
          throw error;
        }
        // Jitter, so that all pages do not come back in the same second.
        const backoff = Math.min(MAX_BACKOFF_SECONDS, 2 ** failures) * (0.5 + Math.random() / 2);
        const seconds = (error instanceof ApiError && error.retryAfter) || backoff;
        call.onRetry?.(error, seconds);
        await this.#wait(seconds, call.signal);
      }
    }
  }

  async #send(method: string, path: string, signal: AbortSignal | undefined, init: RequestInit) {
    const own = await this.#options.headers?.();
    const timeout = AbortSignal.timeout(REQUEST_TIMEOUT_MS);
    const response = await fetch(this.baseUrl + path, {
      ...init,
      method,
      headers: { ...own, ...(init.headers as Record<string, string> | undefined) },
      cache: "no-store", // the ETag is ours to send, not the browser cache's
      signal: signal ? AbortSignal.any([signal, timeout]) : timeout,
    });
    // Gateways send a Content-Type with these two, and no body.
    if (response.status === 304 || response.status === 204) return { response, body: null };
    const isJson = response.headers.get("Content-Type")?.startsWith("application/json") ?? false;
    if (response.ok && isJson) return { response, body: (await response.json()) as unknown };
    throw new ApiError(response, isJson ? await response.json().catch(() => null) : null);
  }

  async #wait(seconds: number, signal: AbortSignal | undefined): Promise<void> {
    await (this.#options.wait ?? sleep)(seconds, signal ?? new AbortController().signal);
  }
}

/** Waits; rejects with the signal's reason as soon as that is aborted. */
export function sleep(seconds: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    signal.throwIfAborted();
    const abort = () => {
      clearTimeout(timer);
      reject(signal.reason);
    };
    const timer = setTimeout(() => {
      signal.removeEventListener("abort", abort);
      resolve();
    }, seconds * 1000);
    signal.addEventListener("abort", abort, { once: true });
  });
}

function taskPath(id: string): string {
  return `/tasks/${encodeURIComponent(id)}`;
}

function asQuery(query: URLSearchParams): string {
  return query.size ? `?${query}` : "";
}

function secondsOf(response: Response): number | undefined {
  return Number(response.headers.get("Retry-After")) || undefined;
}

/** The query of the next page. Its path is ours: a link never leads a token to another host. */
function nextPage(response: Response): string | null {
  const reference = /<([^>]*)>; *rel="next"/.exec(response.headers.get("Link") ?? "")?.[1];
  return reference === undefined ? null : new URL(reference, response.url).search;
}
