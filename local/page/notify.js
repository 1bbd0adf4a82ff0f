// Tells of a task's end by a notification, where the person asked for that and looks elsewhere.

import { $ } from "./dom.js";
import { stateOf } from "./words.js";

const WANTED = "notify";
const isOffered = "Notification" in window && window.isSecureContext;
const isWanted = () => isOffered && Notification.permission === "granted" && localStorage.getItem(WANTED) === "yes";

export function tellOfEnd(task) {
  if (!isWanted() || document.hasFocus()) return;
  try {
    const title = `${stateOf(task).word}: ${task.description.slice(0, 80)}`;
    const notification = new Notification(title, { tag: task.id, icon: "icon.svg" });
    notification.addEventListener("click", () => {
      window.focus();
      location.hash = `#/tasks/${task.id}`;
      notification.close();
    });
  } catch { // Chrome on phones offers it, and then wants a service worker
    $("notify-choice").hidden = true;
  }
}

/** Offers notifications while there is an end to wait for. */
export function offerNotification(isRunning) {
  $("notify-choice").hidden = !isOffered || !isRunning;
}

$("notify").checked = isWanted();
$("notify").addEventListener("change", async () => {
  localStorage.setItem(WANTED, $("notify").checked ? "yes" : "no");
  $("notify-problem").textContent = "";
  if ($("notify").checked && (await Notification.requestPermission()) !== "granted") {
    $("notify").checked = false;
    $("notify-problem").textContent = "Your browser does not allow notifications from this page.";
  }
});
