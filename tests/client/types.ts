// Only compiled: what the compiler must allow, and what it must refuse.

import { ValroClient, type Task } from "valro-client";

export async function allowed(valro: ValroClient): Promise<string> {
  const { id } = await valro.createTask("Find me a painter", { idempotencyKey: "a key" });
  for await (const task of valro.watchTask(id)) {
    if (task.status === "completed") return task.agent_response ?? "";
  }
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
  // @ts-expect-error an agent's value may be anything
  task.vendors[0]?.name.toUpperCase();
  // @ts-expect-error only a failed task has a message
  task.error_message.length;
  // @ts-expect-error a list leaves the answer out
  (await valro.listTasks()).tasks[0]?.agent_response;
}
