// Creates a task with the types that openapi-typescript makes of openapi.yaml, polls it to its end
// and prints it. Usage: node client.js API_URL DESCRIPTION

import createClient from "openapi-fetch";
import type { components, paths } from "./api.js";

type Task = components["schemas"]["Task"];
type Problem = components["schemas"]["Error"] | components["schemas"]["GatewayMessage"];

const [baseUrl = "", description = ""] = process.argv.slice(2);
const api = createClient<paths>({ baseUrl });

function inWords(problem: Problem): string {
  return "error" in problem ? `${problem.error} (${problem.code})` : `${problem.message}`;
}

async function createTask(): Promise<string> {
  const { data, error } = await api.POST("/tasks", {
    params: { header: { "Idempotency-Key": crypto.randomUUID() } },
    body: { description },
  });
  if (!data) throw new Error(inWords(error));
  return data.id;
}

async function finalTask(id: string): Promise<Task> {
  for (;;) {
    const { data, error, response } = await api.GET("/tasks/{id}", { params: { path: { id } } });
    if (!data) throw new Error(inWords(error));
    if (data.status === "completed" || data.status === "error") return data;
    const seconds = Number(response.headers.get("Retry-After"));
    await new Promise((resolve) => setTimeout(resolve, seconds * 1000));
  }
}

/** Never called: the compiler must refuse what the contract does not allow. */
export async function refusedByTheCompiler(task: Task): Promise<void> {
  // @ts-expect-error a description is text
  await api.POST("/tasks", { body: { description: 42 } });
  // @ts-expect-error nothing else is required, but a description is
  await api.POST("/tasks", { body: {} });
  // @ts-expect-error there is no such path
  await api.GET("/task");
  // @ts-expect-error there is no such status
  if (task.status === "done") return;
  // @ts-expect-error an agent's value may be anything
  task.vendors[0]?.name.toUpperCase();
  // @ts-expect-error only a failed task has a message
  task.error_message.length;
}

const task = await finalTask(await createTask());
const { data: tasks } = await api.GET("/tasks", { params: { query: { limit: 5 } } });
console.log(JSON.stringify({ task, listed: tasks?.some(({ id }) => id === task.id) }));
