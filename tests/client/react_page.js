// A page with the hook in it: what it renders is kept in `texts`, what React warns of in `warnings`.

import { StrictMode, createElement, useState } from "react";
import { createRoot } from "react-dom/client";
import { ValroClient } from "./dist/index.js";
import { ValroProvider, useTask } from "./dist/react.js";

window.texts = [];
window.warnings = [];
console.error = (...words) => window.warnings.push(words.join(" "));

function Shown({ id }) {
  const { task, error, isReconnecting } = useTask(id);
  const text = error?.code ?? (isReconnecting ? "reconnecting" : task ? `${task.id} ${task.status}` : "nothing");
  if (task && task.id !== id) window.warnings.push(`${task.id} is shown for ${id}`);
  if (window.texts.at(-1) !== text) window.texts.push(text);
  return text;
}

function Page() {
  const [id, setId] = useState(null);
  window.show = setId;
  return createElement(Shown, { id });
}

window.start = (url) => {
  const client = new ValroClient(url);
  const root = createRoot(document.querySelector("main"));
  root.render(createElement(StrictMode, null, createElement(ValroProvider, { client }, createElement(Page))));
  window.unmount = () => root.unmount();
};
