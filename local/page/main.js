import { apiUrl, docsUrl } from "./api.js";
import { $ } from "./dom.js";
import { close } from "./form.js";
import { keepList } from "./list.js";
import { open } from "./task.js";
import "./actions.js";

if (docsUrl) {
  $("developers").hidden = false;
  $("api").textContent = apiUrl || "none";
  $("docs").href = docsUrl;
}
if (/^https?:\/\//.test(apiUrl)) {
  window.addEventListener("hashchange", () => open({ isChosen: true }));
  open({ isChosen: false });
  keepList();
} else {
  close("This page does not know which service to use. Add ?api=https://… to its address.");
}
