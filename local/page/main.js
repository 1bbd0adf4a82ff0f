import { apiUrl, docsUrl } from "./api.js";
import { $ } from "./dom.js";
import { showProblem } from "./form.js";
import { keepList } from "./list.js";
import { select } from "./task.js";

function open() {
  select({ focus: true });
  if (location.hash === "#description") $("description").focus();
}

$("api").textContent = apiUrl || "none";
if (docsUrl) {
  $("docs").hidden = false;
  $("docs").href = docsUrl;
}
if (/^https?:\/\//.test(apiUrl)) {
  window.addEventListener("hashchange", open);
  select({ focus: false });
  keepList();
} else {
  showProblem("This page does not know where the API is. Open it with ?api=https://… at its end.");
  $("submit").disabled = true;
}
