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
const REQUEST_TIMEOUT_MS = 35_000; // the gateway gives up after 30
const MAX_BACKOFF_SECONDS = 30;
const POLL_SECONDS = 5; // where no Retry-After says better
// A status that usually passes, but asking again gives these same answers.
const LASTING = new Set(["not_configured", "worker_unavailable"]);
/** An answer that is an error. Its message is a sentence for a person. */
export class ApiError extends Error {
    name = "ApiError";
    status;
    code;
    /** The task that the error is about, where the API names one. */
    taskId;
    /** Seconds after which the API wants to be asked again, if it says so. */
    retryAfter;
    constructor(response, body) {
        // The API's own errors are {error, code}, the gateway's are {message}.
        const said = (typeof body === "object" && body !== null ? body : {});
        const plain = ["The API answered", response.status, said["message"]].filter(Boolean).join(" ");
        super(typeof said["error"] === "string" ? said["error"] : `${plain}.`);
        this.status = response.status;
        this.code = said["code"];
        this.taskId = said["id"];
        this.retryAfter = secondsOf(response);
    }
    /** Whether the same request may be answered otherwise later: throttling and crashes pass. */
    get passes() {
        return this.status === 429 || (this.status >= 500 && !LASTING.has(this.code));
    }
}
/** Whether a task has ended; then nothing in it changes any more. */
export function isFinal(task) {
    return task.status === "completed" || task.status === "error";
}
/** A key for one task: random, without crypto.randomUUID, which pages have over HTTPS only. */
export function makeIdempotencyKey() {
    const bytes = crypto.getRandomValues(new Uint8Array(16));
    return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
export class ValroClient {
    baseUrl;
    #options;
    constructor(baseUrl, options = {}) {
        this.baseUrl = String(baseUrl).replace(/\/+$/, "");
        this.#options = options;
    }
    /** Creates a task. The key is the same at every try: one call is one task, whatever is lost. */
    async createTask(description, options = {}) {
        const { idempotencyKey = makeIdempotencyKey(), ...call } = options;
        const { body } = await this.#ask("POST", "/tasks", call, {
            headers: { "Content-Type": "application/json", "Idempotency-Key": idempotencyKey },
            body: JSON.stringify({ description }),
        });
        return body;
    }
    /** Gives a task as it is now and whenever it has changed, and ends when the task is final. */
    async *watchTask(id, options = {}) {
        let task;
        let etag = null;
        for (;;) {
            const headers = etag ? { "If-None-Match": etag } : {};
            const answer = await this.#ask("GET", taskPath(id), options, { headers });
            if (answer.response.status !== 304) { // 304: as it was
                task = answer.body;
                etag = answer.response.headers.get("ETag");
                yield task;
            }
            if (task && isFinal(task))
                return;
            await this.#wait(secondsOf(answer.response) ?? POLL_SECONDS, options.signal);
        }
    }
    async getTask(id, options = {}) {
        return (await this.#ask("GET", taskPath(id), options)).body;
    }
    async listTasks(options = {}) {
        const { limit, status, page, ...call } = options;
        const query = new URLSearchParams();
        if (limit !== undefined)
            query.set("limit", String(limit));
        if (status?.length)
            query.set("status", status.join(","));
        const { response, body } = await this.#ask("GET", `/tasks${page ?? asQuery(query)}`, call);
        return { tasks: body, next: nextPage(response) };
    }
    /**
     * Asks for a task's end. One that waits has ended in the answer (`error`, `cancelled`); one that
     * runs has `cancel_requested_at`, and ends within a minute. ApiError 409 if it has ended already.
     */
    async cancelTask(id, options = {}) {
        return (await this.#ask("POST", `${taskPath(id)}/cancel`, options)).body;
    }
    /** Deletes a task that has ended; ApiError 409 while it runs. */
    async deleteTask(id, options = {}) {
        let tries = 0;
        const onRetry = (error, seconds) => {
            tries += error ? 1 : 0;
            options.onRetry?.(error, seconds);
        };
        try {
            await this.#ask("DELETE", taskPath(id), { ...options, onRetry });
        }
        catch (error) {
            // Not there after a try whose answer was lost: that try has deleted it.
            if (!(tries && error instanceof ApiError && error.code === "task_not_found"))
                throw error;
        }
    }
    /** Sends a request until it is answered; throws ApiError for an answer that will not change. */
    async #ask(method, path, call, init = {}) {
        for (let failures = 0;; failures++) {
            call.signal?.throwIfAborted();
            try {
                const answer = await this.#send(method, path, call.signal, init);
                call.onRetry?.(null, 0);
                return answer;
            }
            catch (error) {
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
    async #send(method, path, signal, init) {
        const own = await this.#options.headers?.();
        const timeout = AbortSignal.timeout(REQUEST_TIMEOUT_MS);
        const response = await fetch(this.baseUrl + path, {
            ...init,
            method,
            headers: { ...own, ...init.headers },
            cache: "no-store", // the ETag is ours to send, not the browser cache's
            signal: signal ? AbortSignal.any([signal, timeout]) : timeout,
        });
        // Gateways send a Content-Type with these two, and no body.
        if (response.status === 304 || response.status === 204)
            return { response, body: null };
        const isJson = response.headers.get("Content-Type")?.startsWith("application/json") ?? false;
        if (response.ok && isJson)
            return { response, body: (await response.json()) };
        throw new ApiError(response, isJson ? await response.json().catch(() => null) : null);
    }
    async #wait(seconds, signal) {
        await (this.#options.wait ?? sleep)(seconds, signal ?? new AbortController().signal);
    }
}
/** Waits; rejects with the signal's reason as soon as that is aborted. */
export function sleep(seconds, signal) {
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
function taskPath(id) {
    return `/tasks/${encodeURIComponent(id)}`;
}
function asQuery(query) {
    return query.size ? `?${query}` : "";
}
function secondsOf(response) {
    return Number(response.headers.get("Retry-After")) || undefined;
}
/** The query of the next page. Its path is ours: a link never leads a token to another host. */
function nextPage(response) {
    const reference = /<([^>]*)>; *rel="next"/.exec(response.headers.get("Link") ?? "")?.[1];
    return reference === undefined ? null : new URL(reference, response.url).search;
}
