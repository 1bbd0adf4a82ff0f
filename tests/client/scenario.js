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

  const ended = await cancelAndDelete(valro, id);
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
    ended,
  };
}

/** Cancels a task in mid-stream, finds it by its status, and deletes it. */
async function cancelAndDelete(valro, completed) {
  const idempotencyKey = `to cancel, not ${completed}`;
  const description = "Find me a roofer in Boise [agent: stall 60]";
  const { id } = await valro.createTask(description, { idempotencyKey });
  const codeOf = (promise) => promise.then(() => "none", (error) => error.code);
  const codes = [await codeOf(valro.cancelTask(completed))];
  let cancelled;
  let last;
  for await (const task of valro.watchTask(id)) {
    if (task.status === "processing" && !cancelled) {
      codes.push(await codeOf(valro.deleteTask(id)));
      cancelled = await valro.cancelTask(id);
    }
    last = task;
  }
  const again = await valro.cancelTask(id);
  const found = [];
  let page = await valro.listTasks({ limit: 2, status: ["error", "pending"] });
  for (;;) {
    found.push(...page.tasks.map((task) => [task.id, task.status]));
    if (!page.next) break;
    page = await valro.listTasks({ page: page.next });
  }
  await valro.deleteTask(id);
  const calls = [valro.getTask(id), valro.cancelTask(id), valro.deleteTask(id)];
  codes.push(...await Promise.all(calls.map(codeOf)));
  codes.push(await codeOf(valro.createTask(description, { idempotencyKey })));
  return { id, cancelled, last, again, found, codes };
}
