// What a frontend does with the client; a test runs it in Node and in Chromium alike.

/** Runs a task to its end and looks at the list; returns what was seen. */
export async function scenario({ ValroClient, ApiError, isFinal }, url) {
  const valro = new ValroClient(`${url}/`);
  const { id } = await valro.createTask("Find me a painter in Austin");
  const seen = [];
  for await (const task of valro.watchTask(id)) seen.push(task);
  const task = await valro.getTask(id);
  await valro.createTask("Find me a plumber in Denver", { idempotencyKey: `other than ${id}` });

  const pages = [await valro.listTasks({ limit: 1 })];
  while (pages.at(-1).next) pages.push(await valro.listTasks({ page: pages.at(-1).next }));

  const refused = await valro.createTask(" ").catch((error) => error);
  const unknown = await valro.getTask("unknown").catch((error) => error);
  const aborted = new AbortController();
  aborted.abort(new Error("enough"));
  const unasked = await valro.getTask(id, { signal: aborted.signal }).catch((error) => error);
  return {
    task,
    statuses: seen.map(({ status }) => status),
    isSame: JSON.stringify(seen.at(-1)) === JSON.stringify(task) && isFinal(task),
    listed: pages.flatMap(({ tasks }) => tasks.map((one) => one.id)),
    errors: [refused, unknown].map((error) => [error instanceof ApiError, error.status, error.code, error.message]),
    unasked: unasked.message,
  };
}
