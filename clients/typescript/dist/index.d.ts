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
/** An answer that is an error. Its message is a sentence for a person. */
export declare class ApiError extends Error {
    readonly name = "ApiError";
    readonly status: number;
    readonly code: ErrorCode | undefined;
    /** The task that the error is about, where the API names one. */
    readonly taskId: string | undefined;
    /** Seconds after which the API wants to be asked again, if it says so. */
    readonly retryAfter: number | undefined;
    constructor(response: Response, body: unknown);
    /** Whether the same request may be answered otherwise later: throttling and crashes pass. */
    get passes(): boolean;
}
/** Whether a task has ended; then nothing in it changes any more. */
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
    /** Gives a task as it is now and whenever it has changed, and ends when the task is final. */
    watchTask(id: string, options?: CallOptions): AsyncGenerator<Task, void, undefined>;
    getTask(id: string, options?: CallOptions): Promise<Task>;
    listTasks(options?: ListOptions): Promise<TaskPage>;
    /**
     * Asks for a task's end. One that waits has ended in the answer (`error`, `cancelled`); one that
     * runs has `cancel_requested_at`, and ends within a minute. ApiError 409 if it has ended already.
     */
    cancelTask(id: string, options?: CallOptions): Promise<Task>;
    /** Deletes a task that has ended; ApiError 409 while it runs. */
    deleteTask(id: string, options?: CallOptions): Promise<void>;
}
/** Waits; rejects with the signal's reason as soon as that is aborted. */
export declare function sleep(seconds: number, signal: AbortSignal): Promise<void>;
export {};
