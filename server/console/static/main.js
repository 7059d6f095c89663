/** The demo page: a newspaper, its ads, and a panel that changes who reads it. */

import { askAndFill, curlOf, onLayoutChange } from "./ads.js";
import { audience, drawControls } from "./audience.js";
import { byId } from "./dom.js";
import { drawPaper, drawSections } from "./paper.js";
import { startStrip } from "./strip.js";

const DOCKED = matchMedia("(min-width: 1264px)");

let lead = null;
let section = null;

const names = fetch("/demo/catalog.json")
  .then((response) => (response.ok ? response.json() : {}))
  .catch(() => ({})); // the page works with numbers in place of names

async function refresh() {
  if (section !== audience.section) {
    section = audience.section;
    lead = drawPaper(section);
    drawSections(section, (chosen) => {
      audience.section = chosen;
      drawControls(refresh);
      refresh();
    });
  }
  const shown = await askAndFill(lead, await names);
  if (shown === null) return;
  byId("curl").textContent = curlOf(shown.request);
  byId("status").textContent = shown.status;
}

function showPanel(open) {
  document.body.classList.toggle("panel-open", open);
  byId("panel").inert = !open;
  byId("panel-toggle").setAttribute("aria-expanded", String(open));
}

function togglePanel(open) {
  showPanel(open);
  if (!DOCKED.matches) byId(open ? "panel-close" : "panel-toggle").focus();
}

byId("panel-toggle").addEventListener("click", () => togglePanel(!document.body.classList.contains("panel-open")));
byId("panel-close").addEventListener("click", () => togglePanel(false));
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  const open = document.querySelector(".why[open]");
  if (open) open.removeAttribute("open");
  else if (!DOCKED.matches && document.body.classList.contains("panel-open")) togglePanel(false);
});
document.addEventListener("click", (event) => {
  for (const open of document.querySelectorAll(".why[open]")) {
    if (!open.contains(event.target)) open.removeAttribute("open");
  }
});
byId("copy").addEventListener("click", async () => {
  await navigator.clipboard.writeText(byId("curl").textContent);
  byId("copy").textContent = "Copied";
  setTimeout(() => { byId("copy").textContent = "Copy as curl"; }, 1500);
});

showPanel(DOCKED.matches);
DOCKED.addEventListener("change", () => showPanel(DOCKED.matches));
onLayoutChange(refresh);
drawControls(refresh);
startStrip();
refresh();
