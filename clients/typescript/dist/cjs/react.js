"use strict";
"use client";
Object.defineProperty(exports, "__esModule", { value: true });
exports.ValroProvider = ValroProvider;
exports.useValro = useValro;
exports.useTask = useTask;
/**
 * React's hook for a task: `<ValroProvider client={valro}>` around the page, `useTask(id)` in it.
 *
 *     const { task, error, isReconnecting } = useTask(id);
 */
const react_1 = require("react");
const Context = (0, react_1.createContext)(null);
const NOTHING = { task: undefined, error: undefined, isReconnecting: false };
/** Gives a client to all components below. Make the client once, outside of any component. */
function ValroProvider(props) {
    return (0, react_1.createElement)(Context.Provider, { value: props.client }, props.children);
}
/** The client of the nearest ValroProvider. */
function useValro() {
    const client = (0, react_1.useContext)(Context);
    if (!client)
        throw new Error("useTask and useValro need a <ValroProvider client={…}> around them.");
    return client;
}
/** Watches a task while the component is mounted; without an id there is nothing to watch. */
function useTask(id) {
    const client = useValro();
    const [state, setState] = (0, react_1.useState)({ client, id, ...NOTHING });
    (0, react_1.useEffect)(() => {
        if (!id)
            return undefined;
        const unmounted = new AbortController();
        const { signal } = unmounted;
        const show = (news) => {
            if (signal.aborted)
                return;
            setState((old) => {
                const isOurs = old.client === client && old.id === id;
                const next = { ...(isOurs ? old : NOTHING), client, id, ...news };
                const isNews = next.task !== old.task || next.error !== old.error;
                return isOurs && !isNews && next.isReconnecting === old.isReconnecting ? old : next;
            });
        };
        const watch = async () => {
            const onRetry = (failure) => show({ isReconnecting: failure !== null });
            for await (const task of client.watchTask(id, { signal, onRetry }))
                show({ task });
        };
        show(NOTHING);
        watch().catch((error) => show({ error }));
        return () => unmounted.abort();
    }, [client, id]);
    // Until the effect has run, the state may be that of the id before.
    const { task, error, isReconnecting } = state.client === client && state.id === id ? state : NOTHING;
    return { task, error, isReconnecting };
}
