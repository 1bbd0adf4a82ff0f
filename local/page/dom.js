// Elements. All text goes through textContent: what users and agents wrote is never markup.

export const $ = (id) => document.getElementById(id);

/** Makes an element: make("p.small", "text") or make("li", child, child). */
export function make(name, ...children) {
  const [tag, ...classes] = name.split(".");
  const element = document.createElement(tag);
  if (classes.length) element.className = classes.join(" ");
  element.append(...children); // strings become text nodes
  return element;
}

/** The same for what a person or an agent wrote, which may run from right to left. */
export function makeText(name, ...children) {
  const element = make(name, ...children);
  element.dir = "auto";
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

// What a link that an agent wrote may do: lead to a website, write an e-mail, call somebody.
const SCHEMES = new Set(["https:", "mailto:", "tel:"]);

/** A link to an address that somebody wrote; the children alone if a link to it is not safe. */
export function makeLink(address, ...children) {
  const url = asUrl(address);
  // "https://your-bank.com@evil.example" looks like what it is not.
  if (!url || !SCHEMES.has(url.protocol) || url.username || url.password) return make("span", ...children);
  if (url.protocol !== "https:") url.search = ""; // no copies to somebody else, no text of theirs
  const link = make("a", ...children);
  link.href = url.href;
  link.title = url.protocol === "https:" ? url.href : "";
  link.target = "_blank";
  link.rel = "noopener noreferrer";
  return link;
}

function asUrl(address) {
  try {
    return new URL(address);
  } catch {
    return null;
  }
}

/** Says something to a screen reader. */
export function announce(text) {
  $("news").textContent = text;
}

const isShown = (element) => element.isConnected && element.getClientRects().length > 0;

/** Changes the page; if that takes away what has the focus, `fallback` gets it. */
export function keepFocus(fallback, change) {
  const focused = document.activeElement;
  const had = focused && focused !== document.body;
  change();
  if (had && !isShown(focused)) fallback.focus({ preventScroll: true });
}

/** Asks before something that cannot be taken back; resolves to whether it is wanted. */
export function ask({ title, text, yes, no, fallback }) {
  const dialog = $("question");
  const asked = document.activeElement;
  $("question-title").textContent = title;
  $("question-text").textContent = text;
  $("question-yes").textContent = yes;
  $("question-no").textContent = no;
  dialog.returnValue = "";
  dialog.showModal();
  $("question-no").focus(); // Enter pressed in haste does nothing
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      // The button may have gone meanwhile: the task has ended.
      (isShown(asked) ? asked : fallback).focus({ preventScroll: true });
      resolve(dialog.returnValue === "yes");
    }, { once: true });
  });
}

$("question-yes").addEventListener("click", () => $("question").close("yes"));
$("question-no").addEventListener("click", () => $("question").close("no"));
