// The contract's types: generated ones (openapi.ts), and what OpenAPI cannot say well of them.

import type { components } from "./openapi.js";

type Schemas = components["schemas"];

export type TaskEvent = Schemas["Event"];
export type Vendor = Schemas["Vendor"];
export type Quote = Schemas["Quote"];
export type Email = Schemas["Email"];
export type Status = Schemas["Status"];
/** What the API says of a task that it has accepted. */
export type Accepted = Schemas["Accepted"];
/** Why a task ended as `error`; there may be new ones. */
export type TaskErrorCode = Schemas["TaskErrorCode"] | (string & {});
/** The API's codes for its errors; there may be new ones. The gateway's own errors have none. */
export type ErrorCode = Schemas["ErrorCode"] | (string & {});

type Never<Field extends string> = { [name in Field]?: never };
type Failure = Pick<Schemas["ListedTask"], "error_message" | "may_have_acted">;
type Common = Omit<Schemas["ListedTask"], "status" | "error_code" | keyof Failure>;

export interface PendingTask extends Common, Never<"error_code" | keyof Failure> {
  status: "pending";
  agent_response?: never;
}

export interface ProcessingTask extends Common, Never<"error_code" | keyof Failure> {
  status: "processing";
  agent_response?: never;
}

/** A completed task as the list shows it: without `agent_response`. */
export interface ListedCompletedTask extends Common, Never<"error_code" | keyof Failure> {
  status: "completed";
}

/** A failed or cancelled task as the list shows it: without `agent_response`. */
export interface ListedFailedTask extends Common, Omit<Failure, "error_message"> {
  status: "error";
  error_message: string;
  /** Missing only where the task ended before the API had codes. */
  error_code?: TaskErrorCode;
}

export interface CompletedTask extends ListedCompletedTask {
  agent_response: string;
}

export interface FailedTask extends ListedFailedTask {
  /** What the agent had answered before the end, if anything. */
  agent_response?: string;
}

/** A task that has ended; nothing in it changes any more. */
export type FinalTask = CompletedTask | FailedTask;
/** A task with everything that is known of it, told apart by `status`. */
export type Task = PendingTask | ProcessingTask | FinalTask;
/** A task as the list shows it: without `agent_response`. */
export type ListedTask = PendingTask | ProcessingTask | ListedCompletedTask | ListedFailedTask;

/** One page of tasks, newest first. */
export interface TaskPage {
  tasks: ListedTask[];
  /** Hand this to `listTasks` as `page`; null on the last page. */
  next: string | null;
}
