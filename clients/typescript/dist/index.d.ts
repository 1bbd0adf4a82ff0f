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
import type { Accepted, ErrorCode, FinalTask, ListedCompletedTask, ListedFailedTask, ListedTask, Status, Task, TaskPage } from "./types.js";
export type * from "./types.js";
export interface ClientOptions {
    /**
     * Headers for every request, made anew for each: `() => ({ Authorization: "Bearer …" })`.
     * `isRefused` is true after a 401: get a new token then; the request is sent once more.
     */
    headers?: (isRefused: boolean) => Record<string, string> | Promise<Record<string, string>>;
    /** Used in place of the global fetch. */
    fetch?: typeof fetch;
    /** For all calls that do not say otherwise. */
    maxRetries?: number;
    timeout?: number;
    /**
     * Waits between polls and tries, and rejects as soon as the signal is aborted. By default a hidden
     * tab polls every 30 seconds, and returning to it, focus and being online again end all waits.
     */
    wait?: (seconds: number, signal: AbortSignal) => Promise<void>;
}
export interface CallOptions {
    /** Ends the call, which throws the signal's reason. */
    signal?: AbortSignal | undefined;
    /** Seconds for the whole call, its retries and waits included; then it throws a TimeoutError. */
    timeout?: number | undefined;
    /** How often a request is sent again; 5 by default, without end for a task that is watched. */
    maxRetries?: number | undefined;
    /** Hears of each failure and when the next try is, and of null once no more try is due. */
    onRetry?: ((error: ClientError | null, seconds: number) => void) | undefined;
}
export interface CreateOptions extends CallOptions {
    /** Store it to ask for the same task again after a reload; by default each call makes a new one. */
    idempotencyKey?: string | undefined;
    /** The id of the earlier task that this one goes on from; it must have ended. */
    follows?: string | undefined;
    /** Answers to what the earlier task's agent asked, by the ids of its interrupts. */
    answers?: Record<string, unknown> | undefined;
}
export interface RunOptions extends CreateOptions {
    /** Hears of the task at first, and whenever it has changed. */
    onUpdate?: ((task: Task) => void) | undefined;
}
export interface FilterOptions extends CallOptions {
    limit?: number | undefined;
    /** Only tasks with one of these statuses. */
    status?: readonly Status[] | undefined;
}
export interface ListOptions extends FilterOptions {
    /** `next` of the page before; limit and status are in it already. */
    page?: string | undefined;
}
/** What all errors of the client have in common; `name` tells them apart. */
export declare abstract class ValroError extends Error {
    /** By which the operator finds the request in the logs. */
    readonly requestId: string | undefined;
    /** With it `createTask` may be called again without making a second task. */
    idempotencyKey: string | undefined;
    constructor(message: string, response?: Response, cause?: unknown);
}
/** An answer that is an error. Its message is a sentence for a person. */
export declare class ApiError extends ValroError {
    readonly name = "ApiError";
    readonly status: number;
    readonly code: ErrorCode | undefined;
    /** The task that the error is about, where the API names one. */
    readonly taskId: string | undefined;
    /** Seconds after which the API wants to be asked again, if it says so. */
    readonly retryAfter: number | undefined;
    /** All of the answer: some codes come with fields of their own. */
    readonly body: unknown;
    constructor(response: Response, body: unknown);
    /** Whether the same request may be answered otherwise later: throttling and crashes pass. */
    get isTemporary(): boolean;
}
/** No answer came, `cause` says why. A page cannot tell a wrong address from a lost connection. */
export declare class NetworkError extends ValroError {
    readonly name = "NetworkError";
}
/** Something else than the API answered: a redirect, or what is not JSON. */
export declare class AnswerError extends ValroError {
    readonly name = "AnswerError";
    readonly status: number;
    constructor(response: Response, what: string);
}
/** The call's `timeout` is over; `cause` is the last failure, if there was one. */
export declare class TimeoutError extends ValroError {
    readonly name = "TimeoutError";
}
export type ClientError = ApiError | NetworkError | AnswerError | TimeoutError;
/** Whether a task has ended; then nothing in it changes any more. */
export declare function isFinal(task: Task): task is FinalTask;
export declare function isFinal(task: ListedTask): task is ListedCompletedTask | ListedFailedTask;
export declare function isFinal(task: {
    status: Status;
}): boolean;
/** A key for one task: random, without crypto.randomUUID, which pages have over HTTPS only. */
export declare function makeIdempotencyKey(): string;
export declare class ValroClient {
    #private;
    readonly baseUrl: string;
    constructor(baseUrl: string | URL, options?: ClientOptions);
    /** Creates a task. The key is the same at every try: one call is one task, whatever is lost. */
    createTask(description: string, options?: CreateOptions): Promise<Accepted>;
    /** Goes on from a task that has ended, with an answer, or with one thing more to say. */
    reply(id: string, description: string, options?: CreateOptions): Promise<Accepted>;
    /** Creates a task and waits for its end, which may take minutes. */
    runTask(description: string, options?: RunOptions): Promise<FinalTask>;
    /**
     * Gives a task as it is now and whenever it has changed, and ends when the task is final.
     * `return()`, which a `break` calls too, ends a wait at once.
     */
    watchTask(id: string, options?: CallOptions): AsyncGenerator<Task, void, undefined>;
    getTask(id: string, options?: CallOptions): Promise<Task>;
    listTasks(options?: ListOptions): Promise<TaskPage>;
    /** Gives all tasks, newest first; a page is asked for when it is needed. */
    listAllTasks(options?: FilterOptions): AsyncGenerator<ListedTask, void, undefined>;
    /**
     * Asks for a task's end. One that waits has ended in the answer (`error`, `cancelled`); one that
     * runs has `cancel_requested_at`, and ends within a minute. ApiError 409 if it has ended already.
     */
    cancelTask(id: string, options?: CallOptions): Promise<Task>;
    /** Deletes a task that has ended; ApiError 409 while it runs. */
    deleteTask(id: string, options?: CallOptions): Promise<void>;
    /** Ends all waits: whoever watches polls, and what failed is tried again, at once. */
    wake(): void;
}
/** Waits; rejects with the signal's reason as soon as that is aborted. */
export declare function sleep(seconds: number, signal: AbortSignal): Promise<void>;
