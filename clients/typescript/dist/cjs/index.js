"use strict";
/**
 * A client of the Valro API, for browsers and servers. It needs fetch and nothing else.
 *
 *     const valro = new ValroClient("https://….amazonaws.com");
 *     const task = await valro.runTask("Find me a landscaper in Charlotte under $300", {
 *       onUpdate: (task) => console.log(task.status, task.events.at(-1)?.message),
 *     });
 *     if (task.status === "completed") console.log(task.agent_response);
 *
 * What may pass (no answer, 408, 425, 429, 5xx) is tried again, waiting longer after each failure;
 * everything else is thrown at once. All calls may be repeated without harm.
 *
 * This file is all of it at run time: what newer browsers have and older ones lack is not used.
 */
Object.defineProperty(exports, "__esModule", { value: true });
exports.ValroClient = exports.TimeoutError = exports.AnswerError = exports.NetworkError = exports.ApiError = exports.ValroError = void 0;
exports.isFinal = isFinal;
exports.makeIdempotencyKey = makeIdempotencyKey;
exports.sleep = sleep;
const ATTEMPT_SECONDS = 35; // the gateway gives up after 30
const MAX_RETRIES = 5;
const MAX_BACKOFF_SECONDS = 30;
const MAX_RETRY_AFTER_SECONDS = 300;
const POLL_SECONDS = 5; // where no Retry-After says better
const HIDDEN_POLL_SECONDS = 30;
const MAX_TIMEOUT_SECONDS = 2_000_000; // a timer holds no more
const TEMPORARY_STATUSES = [408, 425, 429];
// Their statuses usually pass, but asking again gives these same answers.
const LASTING_CODES = ["not_configured", "worker_unavailable"];
/** What all errors of the client have in common; `name` tells them apart. */
class ValroError extends Error {
    /** By which the operator finds the request in the logs. */
    requestId;
    /** With it `createTask` may be called again without making a second task. */
    idempotencyKey;
    constructor(message, response, cause) {
        super(message);
        if (cause !== undefined)
            this.cause = cause;
        const header = (name) => response?.headers.get(name) ?? undefined;
        this.requestId = header("apigw-requestid") ?? header("x-amzn-requestid");
    }
}
exports.ValroError = ValroError;
/** An answer that is an error. Its message is a sentence for a person. */
class ApiError extends ValroError {
    name = "ApiError";
    status;
    code;
    /** The task that the error is about, where the API names one. */
    taskId;
    /** Seconds after which the API wants to be asked again, if it says so. */
    retryAfter;
    /** All of the answer: some codes come with fields of their own. */
    body;
    constructor(response, body) {
        // The API's own errors are {error, code}, the gateway's are {message}.
        const { error, code, id, message } = asObject(body);
        const plain = ["The API answered", response.status, message].filter(Boolean).join(" ");
        super(typeof error === "string" ? error : `${plain}.`, response);
        this.status = response.status;
        this.body = body;
        this.code = typeof code === "string" ? code : undefined;
        this.taskId = typeof id === "string" ? id : undefined;
        this.retryAfter = secondsOf(response);
    }
    /** Whether the same request may be answered otherwise later: throttling and crashes pass. */
    get isTemporary() {
        if (this.status < 500)
            return TEMPORARY_STATUSES.includes(this.status);
        return !LASTING_CODES.includes(this.code);
    }
}
exports.ApiError = ApiError;
/** No answer came, `cause` says why. A page cannot tell a wrong address from a lost connection. */
class NetworkError extends ValroError {
    name = "NetworkError";
}
exports.NetworkError = NetworkError;
/** Something else than the API answered: a redirect, or what is not JSON. */
class AnswerError extends ValroError {
    name = "AnswerError";
    status;
    constructor(response, what) {
        super(`The API's address is answered by ${what}. Is it right?`, response);
        this.status = response.status;
    }
}
exports.AnswerError = AnswerError;
/** The call's `timeout` is over; `cause` is the last failure, if there was one. */
class TimeoutError extends ValroError {
    name = "TimeoutError";
}
exports.TimeoutError = TimeoutError;
function isFinal(task) {
    return task.status === "completed" || task.status === "error";
}
/** A key for one task: random, without crypto.randomUUID, which pages have over HTTPS only. */
function makeIdempotencyKey() {
    const bytes = crypto.getRandomValues(new Uint8Array(16));
    return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
class ValroClient {
    baseUrl;
    #options;
    #waits = new Set();
    constructor(baseUrl, options = {}) {
        this.baseUrl = String(baseUrl).replace(/\/+$/, "");
        this.#options = options;
    }
    /** Creates a task. The key is the same at every try: one call is one task, whatever is lost. */
    async createTask(description, options = {}) {
        return this.#during(options, (call) => this.#create(description, options, call));
    }
    /** Goes on from a task that has ended, with an answer, or with one thing more to say. */
    async reply(id, description, options = {}) {
        return this.createTask(description, { ...options, follows: id });
    }
    /** Creates a task and waits for its end, which may take minutes. */
    async runTask(description, options = {}) {
        return this.#during(options, async (call) => {
            const { id } = await this.#create(description, options, call);
            let last;
            for await (const task of this.#watch(id, call)) {
                options.onUpdate?.(task);
                last = task;
            }
            return last; // a watch ends with one, or throws
        });
    }
    /**
     * Gives a task as it is now and whenever it has changed, and ends when the task is final.
     * `return()`, which a `break` calls too, ends a wait at once.
     */
    watchTask(id, options = {}) {
        return this.#iterate(options, (call) => this.#watch(id, call));
    }
    async getTask(id, options = {}) {
        return this.#during(options, async (call) => {
            return (await this.#ask("GET", taskPath(id), call)).body;
        });
    }
    async listTasks(options = {}) {
        return this.#during(options, (call) => this.#list(options, call));
    }
    /** Gives all tasks, newest first; a page is asked for when it is needed. */
    listAllTasks(options = {}) {
        return this.#iterate(options, (call) => this.#listAll(options, call));
    }
    /**
     * Asks for a task's end. One that waits has ended in the answer (`error`, `cancelled`); one that
     * runs has `cancel_requested_at`, and ends within a minute. ApiError 409 if it has ended already.
     */
    async cancelTask(id, options = {}) {
        return this.#during(options, async (call) => {
            return (await this.#ask("POST", `${taskPath(id)}/cancel`, call)).body;
        });
    }
    /** Deletes a task that has ended; ApiError 409 while it runs. */
    async deleteTask(id, options = {}) {
        return this.#during(options, async (call) => {
            try {
                await this.#ask("DELETE", taskPath(id), call);
            }
            catch (error) {
                // Not there after a try whose answer was lost: that try has deleted it.
                const isGone = error instanceof ApiError && error.code === "task_not_found";
                if (!(isGone && call.failures))
                    throw error;
            }
        });
    }
    /** Ends all waits: whoever watches polls, and what failed is tried again, at once. */
    wake() {
        for (const end of [...this.#waits])
            end();
    }
    async #create(description, options, call) {
        const { idempotencyKey = makeIdempotencyKey(), follows, answers } = options;
        try {
            const { body } = await this.#ask("POST", "/tasks", call, {
                headers: { "Content-Type": "application/json", "Idempotency-Key": idempotencyKey },
                body: JSON.stringify({ description, follows, answers }),
            });
            return body;
        }
        catch (error) {
            if (error instanceof ValroError)
                error.idempotencyKey = idempotencyKey;
            throw error;
        }
    }
    async *#watch(id, call) {
        let last = "";
        for (;;) {
            call.hiddenSeconds = HIDDEN_POLL_SECONDS;
            const { response, text, body } = await this.#ask("GET", taskPath(id), call);
            const task = body;
            if (text !== last)
                yield task;
            if (isFinal(task))
                return;
            last = text;
            call.isEndless = true; // the task is there, and goes on whoever watches it
            await this.#wait(secondsOf(response) ?? POLL_SECONDS, call);
        }
    }
    async #list({ limit, status, page }, call) {
        const query = new URLSearchParams();
        if (limit !== undefined)
            query.set("limit", String(limit));
        if (status?.length)
            query.set("status", status.join(","));
        const path = `/tasks${page ?? (String(query) && `?${query}`)}`;
        const { response, body } = await this.#ask("GET", path, call);
        return { tasks: body, next: nextPage(response) };
    }
    async *#listAll(options, call) {
        for (let page;;) {
            const { tasks, next } = await this.#list({ ...options, page }, call);
            yield* tasks;
            if (next === null)
                return;
            page = next;
        }
    }
    /** Does something within a call's limits. */
    async #during(options, work) {
        const call = new Call({ ...this.#options, ...defined(options) });
        call.open();
        try {
            return await work(call);
        }
        finally {
            call.close();
        }
    }
    /** Iterates within a call's limits, and until return(), which a generator alone would keep waiting. */
    #iterate(options, work) {
        const call = new Call({ ...this.#options, ...defined(options) });
        const items = (async function* () {
            call.open();
            try {
                yield* work(call);
            }
            catch (error) {
                if (!call.isReturned)
                    throw error;
            }
            finally {
                call.close();
            }
        })();
        const end = items.return.bind(items);
        items.return = (value) => {
            call.return();
            return end(value);
        };
        return items;
    }
    /** Sends a request until it is answered; throws what asking again would not change. */
    async #ask(method, path, call, init = {}) {
        let isRefused = false;
        for (call.failures = 0;;) {
            call.check();
            try {
                const answer = await this.#send(method, path, call, init, isRefused);
                call.onRetry?.(null, 0);
                return answer;
            }
            catch (error) {
                call.check(error);
                if (error instanceof ApiError && error.status === 401 && this.#options.headers && !isRefused) {
                    isRefused = true;
                    continue;
                }
                const isTemporary = error instanceof NetworkError || (error instanceof ApiError && error.isTemporary);
                if (!isTemporary || call.failures >= call.maxRetries) {
                    call.onRetry?.(null, 0);
                    throw error;
                }
                // Jitter, so that all pages do not come back in the same second.
                const backoff = Math.min(MAX_BACKOFF_SECONDS, 2 ** call.failures++) * (0.5 + Math.random() / 2);
                const seconds = (error instanceof ApiError && error.retryAfter) || backoff;
                call.onRetry?.(error, seconds);
                await this.#wait(seconds, call, error);
            }
        }
    }
    async #send(method, path, call, init, isRefused) {
        const url = this.baseUrl + path;
        const own = await this.#options.headers?.(isRefused);
        const headers = { ...own, ...init.headers };
        checkRequest(url, method, headers);
        const attempt = new AbortController();
        const abort = () => attempt.abort();
        const timer = setTimeout(abort, ATTEMPT_SECONDS * 1000);
        call.signal.addEventListener("abort", abort);
        try {
            // A loop of redirects would look as if nobody answered; the API never redirects.
            const request = { ...init, method, headers, redirect: "manual", signal: attempt.signal };
            const response = await (this.#options.fetch ?? fetch)(url, request);
            return read(response, await response.text());
        }
        catch (error) {
            if (error instanceof ValroError)
                throw error;
            throw new NetworkError("The API cannot be reached.", undefined, error);
        }
        finally {
            clearTimeout(timer);
            call.signal.removeEventListener("abort", abort);
        }
    }
    async #wait(seconds, call, failure) {
        try {
            await (this.#options.wait?.(seconds, call.signal) ?? this.#waitUntilWanted(seconds, call));
        }
        finally {
            call.check(failure);
        }
    }
    /** Waits as long as nobody wants to see: longer in a hidden tab, and no longer once it is looked at. */
    #waitUntilWanted(seconds, { signal, hiddenSeconds }) {
        const page = globalThis.document; // there is none on a server
        return new Promise((resolve) => {
            const end = () => {
                clearTimeout(timer);
                this.#waits.delete(end);
                signal.removeEventListener("abort", end);
                page?.removeEventListener("visibilitychange", endIfVisible);
                for (const name of ["focus", "online"])
                    globalThis.removeEventListener?.(name, end);
                resolve();
            };
            const endIfVisible = () => {
                if (page?.visibilityState !== "hidden")
                    end();
            };
            const endUnlessHidden = () => {
                const more = page?.visibilityState === "hidden" ? hiddenSeconds - seconds : 0;
                if (more > 0)
                    timer = setTimeout(end, more * 1000);
                else
                    end();
            };
            let timer = setTimeout(endUnlessHidden, seconds * 1000);
            this.#waits.add(end);
            signal.addEventListener("abort", end);
            page?.addEventListener("visibilitychange", endIfVisible);
            for (const name of ["focus", "online"])
                globalThis.addEventListener?.(name, end);
            if (signal.aborted)
                end();
        });
    }
}
exports.ValroClient = ValroClient;
/** What ends one call: its caller's signal, its timeout, or its iterator's return(). */
class Call {
    onRetry;
    failures = 0;
    isReturned = false;
    isEndless = false;
    hiddenSeconds = 0;
    #options;
    #controller = new AbortController();
    #abort = () => this.#controller.abort();
    #timer;
    #isTimedOut = false;
    constructor(options) {
        this.#options = options;
        this.onRetry = options.onRetry;
    }
    open() {
        const { signal, timeout = Infinity } = this.#options;
        signal?.addEventListener("abort", this.#abort);
        if (signal?.aborted)
            this.#abort();
        if (timeout > MAX_TIMEOUT_SECONDS)
            return;
        this.#timer = setTimeout(() => {
            this.#isTimedOut = true;
            this.#abort();
        }, timeout * 1000);
    }
    get signal() {
        return this.#controller.signal;
    }
    get maxRetries() {
        return this.#options.maxRetries ?? (this.isEndless ? Infinity : MAX_RETRIES);
    }
    /** Throws if the call has been ended. */
    check(failure) {
        const { signal, timeout } = this.#options;
        if (signal?.aborted)
            throw reasonOf(signal);
        if (this.#isTimedOut) {
            throw new TimeoutError(`The call has not ended within ${timeout} seconds.`, undefined, failure);
        }
        if (this.isReturned)
            throw new Error("The iterator has returned.");
    }
    return() {
        this.isReturned = true;
        this.#abort();
    }
    close() {
        clearTimeout(this.#timer);
        this.#options.signal?.removeEventListener("abort", this.#abort);
    }
}
/** Waits; rejects with the signal's reason as soon as that is aborted. */
function sleep(seconds, signal) {
    return new Promise((resolve, reject) => {
        const abort = () => {
            clearTimeout(timer);
            reject(reasonOf(signal));
        };
        const timer = setTimeout(() => {
            signal.removeEventListener("abort", abort);
            resolve();
        }, seconds * 1000);
        signal.addEventListener("abort", abort, { once: true });
        if (signal.aborted)
            abort();
    });
}
function reasonOf(signal) {
    return signal.reason ?? new DOMException("The operation was aborted.", "AbortError");
}
/** An answer as JSON; throws ApiError for an error, AnswerError for what cannot be the API's. */
function read(response, text) {
    const isRedirect = response.type === "opaqueredirect" || (response.status >= 300 && response.status < 400);
    if (isRedirect)
        throw new AnswerError(response, "a redirect");
    const isJson = response.headers.get("Content-Type")?.startsWith("application/json") ?? false;
    let body;
    try {
        body = isJson && text ? JSON.parse(text) : undefined;
    }
    catch {
        if (response.ok)
            throw new AnswerError(response, "what begins as JSON and is none");
    }
    if (!response.ok)
        throw new ApiError(response, body);
    if (body === undefined && response.status !== 204)
        throw new AnswerError(response, "what is not JSON");
    return { response, text, body };
}
/** Throws for an address or a header that is none: fetch fails as it does where nobody answers. */
function checkRequest(url, method, headers) {
    if (typeof Request === "undefined")
        return; // with a fetch of one's own
    const { protocol } = new URL(new Request(url, { method, headers }).url);
    if (!["https:", "http:"].includes(protocol)) {
        throw new TypeError(`The API's address must begin with https:// or http://: ${url}`);
    }
}
/** Options that are given, so that an undefined one does not hide the client's own. */
function defined(options) {
    return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));
}
function asObject(value) {
    return typeof value === "object" && value !== null ? value : {};
}
function taskPath(id) {
    return `/tasks/${encodeURIComponent(id)}`;
}
function secondsOf(response) {
    const text = response.headers.get("Retry-After") ?? "";
    return /^\d+$/.test(text) ? Math.min(Number(text), MAX_RETRY_AFTER_SECONDS) || undefined : undefined;
}
/** The query of the next page. Its path is ours: a link never leads a token to another host. */
function nextPage(response) {
    const reference = /<([^>]*)>; *rel="next"/.exec(response.headers.get("Link") ?? "")?.[1];
    return reference === undefined ? null : new URL(reference, "https://any.host").search;
}
