"use client";
/**
 * React's hook for a task: `<ValroProvider client={valro}>` around the page, `useTask(id)` in it.
 *
 *     const { task, error, isReconnecting } = useTask(id);
 */

import { createContext, createElement, useContext, useEffect, useState } from "react";
import type { ReactElement, ReactNode } from "react";
import type { Task, ValroClient } from "./index.js";

const Context = createContext<ValroClient | null>(null);

/** What is known of a task by now. */
export interface TaskState {
  /** Undefined until the first answer. */
  task: Task | undefined;
  /** Why it is no longer watched: an ApiError 404 if there is no such task, for example. */
  error: unknown;
  /** Whether the last request failed and will be sent again. */
  isReconnecting: boolean;
}

const NOTHING: TaskState = { task: undefined, error: undefined, isReconnecting: false };

/** Gives a client to all components below. Make the client once, outside of any component. */
export function ValroProvider(props: { client: ValroClient; children?: ReactNode }): ReactElement {
  return createElement(Context.Provider, { value: props.client }, props.children);
}

/** The client of the nearest ValroProvider. */
export function useValro(): ValroClient {
  const client = useContext(Context);
  if (!client) throw new Error("useTask and useValro need a <ValroProvider client={…}> around them.");
  return client;
}

/** Watches a task while the component is mounted; without an id there is nothing to watch. */
export function useTask(id: string | null | undefined): TaskState {
  const client = useValro();
  const [state, setState] = useState({ client, id, ...NOTHING });
  useEffect(() => {
    if (!id) return undefined;
    const unmounted = new AbortController();
    const { signal } = unmounted;
    const show = (news: Partial<TaskState>) => {
      if (signal.aborted) return;
      setState((old) => {
        const isOurs = old.client === client && old.id === id;
        const next = { ...(isOurs ? old : NOTHING), client, id, ...news };
        const isNews = next.task !== old.task || next.error !== old.error;
        return isOurs && !isNews && next.isReconnecting === old.isReconnecting ? old : next;
      });
    };
    const watch = async () => {
      const onRetry = (failure: unknown) => show({ isReconnecting: failure !== null });
      for await (const task of client.watchTask(id, { signal, onRetry })) show({ task });
    };
    show(NOTHING);
    watch().catch((error: unknown) => show({ error }));
    return () => unmounted.abort();
  }, [client, id]);
  // Until the effect has run, the state may be that of the id before.
  const { task, error, isReconnecting } = state.client === client && state.id === id ? state : NOTHING;
  return { task, error, isReconnecting };
}
