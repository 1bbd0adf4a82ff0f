// Only compiled: what the compiler must allow, and what it must refuse.

import { ValroClient, type Task, type TaskErrorCode } from "valro-client";

const wordsFor: Partial<Record<TaskErrorCode, string>> = { worker_lost: "We lost track of it." };

export async function allowed(valro: ValroClient): Promise<string> {
  const { id } = await valro.createTask("Find me a painter", { idempotencyKey: "a key" });
  for await (const task of valro.watchTask(id)) {
    if (task.status === "completed") return task.agent_response ?? "";
    if (task.error_code) return wordsFor[task.error_code] ?? task.error_message ?? "";
  }
  const cancelled = await valro.cancelTask(id);
  if (cancelled.cancel_requested_at) return cancelled.cancel_requested_at;
  await valro.deleteTask(id);
  const { tasks, next } = await valro.listTasks({ limit: 5, status: ["pending", "processing"] });
  return next ?? tasks[0]?.description ?? "";
}

export async function refused(valro: ValroClient, task: Task): Promise<void> {
  // @ts-expect-error a description is text
  await valro.createTask(42);
  // @ts-expect-error there is no such status
  await valro.listTasks({ status: ["done"] });
  // @ts-expect-error there is no such status
  if (task.status === "done") return;
  // @ts-expect-error there is no such code
  if (task.error_code === "tired") return;
  // @ts-expect-error nothing comes of a deletion
  (await valro.deleteTask("a")).id;
  // @ts-expect-error an agent's value may be anything
  task.vendors[0]?.name.toUpperCase();
  // @ts-expect-error only a failed task has a message
  task.error_message.length;
  // @ts-expect-error a list leaves the answer out
  (await valro.listTasks()).tasks[0]?.agent_response;
}
