// Elements. All text goes through textContent: what users and agents wrote is never markup.

export const $ = (id) => document.getElementById(id);

/** Makes an element: make("p.small", "text") or make("li", child, child). */
export function make(name, ...children) {
  const [tag, ...classes] = name.split(".");
  const element = document.createElement(tag);
  element.className = classes.join(" ");
  element.append(...children); // strings become text nodes
  return element;
}

/** Writes a text where it differs: what is selected or being read out is left alone. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Shows a moment as `text`; the whole of it is in the title. */
export function setTime(element, ts, text) {
  element.dateTime = ts;
  element.title = new Date(ts).toLocaleString();
  setText(element, text);
  return element;
}

/** Says something to a screen reader. */
export function announce(text) {
  $("news").textContent = text;
}

/** Asks before something that cannot be taken back; resolves to whether it is wanted. */
export function ask({ title, text, yes, no }) {
  const dialog = $("question");
  $("question-title").textContent = title;
  $("question-text").textContent = text;
  $("question-yes").textContent = yes;
  $("question-no").textContent = no;
  dialog.returnValue = "";
  dialog.showModal();
  $("question-no").focus(); // Enter pressed in haste does nothing
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
  });
}

$("question-yes").addEventListener("click", () => $("question").close("yes"));
$("question-no").addEventListener("click", () => $("question").close("no"));
