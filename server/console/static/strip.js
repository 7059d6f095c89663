/** The live strip: `GET /demo/counters` once a second, as figures with the last minute behind them. */

import { byId, el } from "./dom.js";

const PERIOD_MS = 1000;
const KEPT = 60;
const SHOWN_MIN = 20; // so that the first seconds are a line, and not yet the whole width
const [WIDTH, HEIGHT] = [56, 20];
const SVG = "http://www.w3.org/2000/svg";

const ms = (us) => (us === undefined ? "–" : `${(us / 1000).toFixed(us < 100 ? 3 : 2)} ms`);
const whole = new Intl.NumberFormat("en");

/** name, what is shown, and what the sparkline draws (null: none) */
const FIGURES = [
  ["decisions", "Decisions", (now) => whole.format(now.decisions), null],
  ["rate", "Decisions/s", (now) => whole.format(now.rate), (now) => now.rate],
  ["filled", "Filled", (now) => whole.format(now.filled), null],
  ["no_fill", "No fill", (now) => whole.format(now.no_fill), null],
  ["impressions", "Impressions", (now) => whole.format(now.impressions), (now) => now.impressions_rate],
  ["clicks", "Clicks", (now) => whole.format(now.clicks), null],
  ["p50", "p50", (now) => ms(now.decision_us_p50), (now) => now.decision_us_p50],
  ["p99", "p99", (now) => ms(now.decision_us_p99), (now) => now.decision_us_p99],
  ["generation", "Catalog", (now) => `gen ${now.generation}`, null],
];

const history = [];

function sparkline() {
  const svg = document.createElementNS(SVG, "svg");
  for (const [name, value] of Object.entries({ viewBox: `0 0 ${WIDTH} ${HEIGHT}`, width: WIDTH, height: HEIGHT, "aria-hidden": "true" })) {
    svg.setAttribute(name, value);
  }
  svg.append(document.createElementNS(SVG, "polyline"));
  return svg;
}

function draw(svg, values) {
  const top = Math.max(...values, 1);
  const shown = Math.max(values.length, SHOWN_MIN);
  const step = WIDTH / (shown - 1);
  const from = shown - values.length;
  const points = values.map((value, at) => `${((from + at) * step).toFixed(1)},${(HEIGHT - 2 - (value / top) * (HEIGHT - 4)).toFixed(1)}`);
  svg.firstChild.setAttribute("points", points.join(" "));
}

function build() {
  byId("counters").replaceChildren(
    ...FIGURES.map(([name, label, , series]) => {
      const value = el("dd", {}, el("span", { class: "figure" }, "–"));
      if (series) value.append(sparkline());
      return el("div", { class: `counter counter-${name}` }, el("dt", {}, label), value);
    }),
  );
}

function show(now) {
  const before = history.at(-1);
  // A restarted server counts from zero: no rate is negative.
  const since = (name) => (before ? Math.max(0, now[name] - before[name]) : 0);
  history.push({ ...now, rate: since("decisions"), impressions_rate: since("impressions") });
  if (history.length > KEPT) history.shift();
  const latest = history.at(-1);
  for (const [name, , text, series] of FIGURES) {
    const counter = document.querySelector(`.counter-${name}`);
    counter.querySelector(".figure").textContent = text(latest);
    if (series) draw(counter.querySelector("svg"), history.map(series).map((value) => value ?? 0));
  }
}

async function poll() {
  try {
    const response = await fetch("/demo/counters", { cache: "no-store" });
    if (response.ok) show(await response.json());
    document.body.classList.toggle("offline", !response.ok);
  } catch {
    document.body.classList.add("offline");
  }
}

export function startStrip() {
  build();
  poll();
  setInterval(() => { if (!document.hidden) poll(); }, PERIOD_MS);
}
