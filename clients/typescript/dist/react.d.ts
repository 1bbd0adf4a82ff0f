import type { ReactElement, ReactNode } from "react";
import type { Task, ValroClient } from "./index.js";
/** What is known of a task by now. */
export interface TaskState {
    /** Undefined until the first answer. */
    task: Task | undefined;
    /** Why it is no longer watched: an ApiError 404 if there is no such task, for example. */
    error: unknown;
    /** Whether the last request failed and will be sent again. */
    isReconnecting: boolean;
}
/** Gives a client to all components below. Make the client once, outside of any component. */
export declare function ValroProvider(props: {
    client: ValroClient;
    children?: ReactNode;
}): ReactElement;
/** The client of the nearest ValroProvider. */
export declare function useValro(): ValroClient;
/** Watches a task while the component is mounted; without an id there is nothing to watch. */
export declare function useTask(id: string | null | undefined): TaskState;
