// Only compiled: what the compiler must allow, and what it must refuse.

import {
  AnswerError, ApiError, NetworkError, TimeoutError, ValroClient, isFinal,
  type ClientError, type ListedTask, type Task, type TaskErrorCode,
} from "valro-client";
import { useTask } from "valro-client/react";

const wordsFor: Partial<Record<TaskErrorCode, string>> = { worker_lost: "We lost track of it." };

export async function allowed(valro: ValroClient, signal: AbortSignal | undefined): Promise<string> {
  const { id } = await valro.createTask("Find me a painter", { idempotencyKey: "a key", signal });
  for await (const task of valro.watchTask(id, { signal: undefined })) {
    if (task.status === "completed") return task.agent_response.trim();
    if (task.error_code) return wordsFor[task.error_code] ?? task.error_message;
    if (task.error_code === "a_new_one") return "codes may be added";
    if (isFinal(task)) return task.status satisfies "error";
  }
  const cancelled = await valro.cancelTask(id);
  if (cancelled.cancel_requested_at) return cancelled.cancel_requested_at;
  await valro.deleteTask(id);
  for await (const { description } of valro.listAllTasks({ status: ["error"] })) return description;
  const { tasks, next } = await valro.listTasks({ limit: 5, status: ["pending", "processing"] });
  const { task, error, isReconnecting } = useTask(tasks[0]?.id);
  return next ?? `${task?.agent_response} ${error} ${isReconnecting}`;
}

export function told(error: ClientError): string {
  if (error instanceof ApiError) return error.code ?? `${error.status}`;
  if (error instanceof NetworkError || error instanceof TimeoutError) return `${error.cause}`;
  if (error.name === "AnswerError") return `${error.status} ${(error satisfies AnswerError).requestId}`;
  return error satisfies never;
}

export async function refused(valro: ValroClient, task: Task, listed: ListedTask): Promise<void> {
  // @ts-expect-error a description is text
  await valro.createTask(42);
  // @ts-expect-error there is no such status
  await valro.listTasks({ status: ["done"] });
  // @ts-expect-error there is no such status
  if (task.status === "done") return;
  // @ts-expect-error nothing comes of a deletion
  (await valro.deleteTask("a")).id;
  // @ts-expect-error an agent may leave it out
  task.vendors[0]?.name.toUpperCase();
  // @ts-expect-error only a failed task has a message
  task.error_message.length;
  // @ts-expect-error only a completed task has an answer for certain
  task.agent_response.length;
  // @ts-expect-error a list leaves the answer out
  if (listed.status === "completed") listed.agent_response;
}
