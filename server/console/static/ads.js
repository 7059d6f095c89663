/** Fills the page's slots with one `POST /api/v2`, counts what is seen, and says why each ad is there. */

import { audience, pretendedSeconds, USER_AGENTS } from "./audience.js";
import { byId, el } from "./dom.js";

const API = "/api/v2";
const WIDE = matchMedia("(min-width: 1000px)");
const MIDDLE = matchMedia("(min-width: 760px)");
const NETWORK = 1;
const VIEWABLE_SHARE = 0.5; // MRC: half of the pixels, for one second without a break
const VIEWABLE_MS = 1000;
const FEED_EVERY = 2; // one article card after every two articles

const [BILLBOARD, LEADERBOARD, RECTANGLE, HALF_PAGE, BANNER, LARGE_BANNER, ARTICLE] = [1, 2, 3, 4, 5, 6, 7];
const RATES = { 1: "flat", 2: "CPM", 3: "CPC", 6: "CPA" };

const reader = `reader-${Math.random().toString(36).slice(2, 10)}`;

// -- the request -----------------------------------------------------------------------------------

function slots() {
  const [top, right, between, feed, anchor] = audience.site === 1 ? [101, 102, 103, 104, 105] : [201, 203, 203, 204, 205];
  const shown = [{ name: "right", adTypes: [RECTANGLE], zone: right }];
  if (WIDE.matches) {
    shown.unshift({ name: "top", adTypes: [BILLBOARD, LEADERBOARD], zone: top });
    shown.push({ name: "half", adTypes: [HALF_PAGE], zone: right }, { name: "between", adTypes: [LEADERBOARD], zone: between });
  } else if (MIDDLE.matches) {
    shown.unshift({ name: "top", adTypes: [LEADERBOARD], zone: top });
    shown.push({ name: "between", adTypes: [LEADERBOARD], zone: between });
  } else {
    shown.unshift({ name: "top", adTypes: [LARGE_BANNER], zone: top });
    shown.push({ name: "anchor", adTypes: [BANNER], zone: anchor });
  }
  return [...shown, { name: "feed", adTypes: [ARTICLE], zone: feed, count: audience.count }];
}

function requestFor(lead) {
  const properties = { section: audience.section, topic: lead.topic, logged_in: audience.loggedIn, age: audience.age };
  const host = audience.site === 1 ? "harbourledger.example" : "app.harbourledger.example";
  const seconds = pretendedSeconds();
  const headers = {
    "Content-Type": "application/json",
    "X-Country": audience.country,
    "X-Device-User-Agent": USER_AGENTS[audience.device],
  };
  if (seconds !== null) headers["X-Adcore-Time"] = String(seconds);
  const body = {
    placements: slots().map(({ name, adTypes, zone, count }) => ({
      divName: name, networkId: NETWORK, siteId: audience.site, adTypes, zoneIds: [zone], ...(count && { count }), properties,
    })),
    user: { key: reader, ...(audience.visitor && { segments: ["skerry-visitor"] }) },
    keywords: audience.keywords,
    url: `https://${host}/${audience.section}`,
    includePricingData: true,
  };
  return { headers, body };
}

/** The request as a command to copy: one line a header, one a placement. */
export function curlOf({ headers, body }) {
  const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;
  const { placements, ...rest } = body;
  const lots = placements.map((placement) => `  ${JSON.stringify(placement)}`).join(",\n");
  const json = `{"placements": [\n${lots}\n ],\n ${JSON.stringify(rest).slice(1)}`;
  const lines = Object.entries(headers).map(([name, value]) => `-H ${quoted(`${name}: ${value}`)}`);
  return [`curl -s ${location.origin}${API}`, ...lines, `-d ${quoted(json)}`].join(" \\\n  ");
}

// -- what is seen ----------------------------------------------------------------------------------

const timers = new Map();
const urls = new WeakMap();

const watcher = new IntersectionObserver(
  (entries) => {
    for (const { target, intersectionRatio } of entries) {
      // A hidden tab shows nothing, whatever the geometry says.
      const seen = intersectionRatio >= VIEWABLE_SHARE && !document.hidden;
      if (seen && !timers.has(target)) timers.set(target, setTimeout(() => count(target), VIEWABLE_MS));
      if (!seen) stop(target);
    }
  },
  { threshold: [0, VIEWABLE_SHARE] },
);

function stop(ad) {
  clearTimeout(timers.get(ad));
  timers.delete(ad);
}

function count(ad) {
  forget(ad);
  new Image().src = urls.get(ad);
  ad.closest(".ad")?.classList.add("counted");
}

function forget(ad) {
  stop(ad);
  watcher.unobserve(ad);
}

document.addEventListener("visibilitychange", () => {
  for (const ad of document.querySelectorAll("[data-watched]")) {
    forget(ad);
    // Observing anew reports at once where the ad stands now.
    if (!document.hidden && !ad.closest(".counted")) watcher.observe(ad);
  }
});

/** Counting starts when the ad has been drawn: an empty frame is not an impression. */
function watch(ad, impressionUrl) {
  urls.set(ad, impressionUrl);
  ad.setAttribute("data-watched", "");
  const drawn = ad.matches("iframe") ? ad : ad.querySelector("img");
  if (drawn === null || drawn.complete) watcher.observe(ad);
  else drawn.addEventListener("load", () => ad.isConnected && watcher.observe(ad), { once: true });
}

// -- one ad ----------------------------------------------------------------------------------------

const linkTo = (decision, attributes, ...children) =>
  el("a", { href: decision.clickUrl, target: "_blank", rel: "noopener sponsored", ...attributes }, ...children);

function creative(decision) {
  const [content] = decision.contents;
  const { width, height } = decision;
  if (content.type === "raw") return articleCard(decision, content.data);
  if (content.template === "image") {
    const { imageUrl, title } = content.data;
    return linkTo(decision, { class: "creative" }, el("img", { src: imageUrl, alt: title, width, height }));
  }
  // Markup of an advertiser's own: it may open its link, and can do nothing else.
  return el("iframe", {
    class: "creative", srcdoc: content.body, width, height, title: "Advertisement", scrolling: "no",
    sandbox: "allow-popups allow-popups-to-escape-sandbox",
  });
}

function articleCard(decision, { title, body, sponsoredBy, cta, imageUrl, iconUrl }) {
  return linkTo(
    decision,
    { class: "creative native" },
    imageUrl ? el("img", { class: "native-picture", src: imageUrl, alt: "", width: 600, height: 400 }) : null,
    el("span", { class: "native-text" },
      el("span", { class: "native-sponsor" }, iconUrl ? el("img", { src: iconUrl, alt: "", width: 20, height: 20 }) : null, `Sponsored by ${sponsoredBy}`),
      el("span", { class: "native-title" }, title),
      body ? el("span", { class: "native-body" }, body) : null,
      cta ? el("span", { class: "native-cta" }, cta) : null),
  );
}

function money(amount, currency) {
  return new Intl.NumberFormat("en", { style: "currency", currency, maximumFractionDigits: 2 }).format(amount);
}

function why(decision, answer, names) {
  const line = names.line_items?.[decision.flightId];
  const tier = names.priorities?.[decision.priorityId] ?? `Priority ${decision.priorityId}`;
  const currency = names.currency ?? "EUR";
  const { price, clearPrice, rateType, eCPM } = decision.pricing;
  const facts = [
    ["Line item", `${line?.name ?? "Line item"} (${decision.flightId})`],
    ["Advertiser", `${line?.advertiser ?? "Advertiser"} (${decision.advertiserId})`],
    ["Priority", `${tier} (${decision.priorityId})`],
    ["Price", `${money(price, currency)} ${RATES[rateType]}`],
    ["Clears at", money(clearPrice, currency)],
    ["eCPM", money(eCPM, currency)],
    ["Creative", String(decision.creativeId)],
    ["Decision", `${answer.decisionId ?? "–"}`],
  ];
  return el(
    "details",
    { class: "why" },
    el("summary", {}, el("span", { class: "why-mark", "aria-hidden": "true" }), `${tier} · ${eCPM ? `${money(eCPM, currency)} eCPM` : "unsold"}`, el("span", { class: "visually-hidden" }, ": why this ad?")),
    el("div", { class: "why-card" },
      el("h3", {}, "Why this ad"),
      el("dl", {}, ...facts.flatMap(([term, text]) => [el("dt", {}, term), el("dd", {}, text)]))),
  );
}

function framed(decision, answer, names) {
  const shown = creative(decision);
  const frame = el("div", { class: "ad", "data-tier": decision.priorityId }, el("p", { class: "ad-label" }, "Advertisement"), shown, why(decision, answer, names));
  watch(shown, decision.impressionUrl);
  return frame;
}

// -- the page --------------------------------------------------------------------------------------

function fill(slot, ads) {
  for (const seen of slot.querySelectorAll("[data-watched]")) forget(seen);
  slot.replaceChildren(...ads);
  slot.hidden = ads.length === 0;
}

function fillFeed(ads) {
  const list = byId("latest");
  for (const seen of list.querySelectorAll("[data-watched]")) forget(seen);
  for (const old of list.querySelectorAll(".ad")) old.remove();
  const rows = [...list.children];
  ads.forEach((ad, number) => {
    ad.classList.add("ad-row");
    const after = rows[Math.min(number * FEED_EVERY, rows.length - 1)];
    if (number * FEED_EVERY < rows.length) after.after(ad);
    else list.append(ad);
  });
}

let asking = 0;

/** Asks for all slots of the page and fills them; returns the request for the panel. */
export async function askAndFill(lead, names) {
  const turn = ++asking;
  const request = requestFor(lead);
  let answer = {};
  let fault = "";
  try {
    const response = await fetch(API, { method: "POST", headers: request.headers, body: JSON.stringify(request.body) });
    if (response.ok) answer = await response.json();
    else fault = `The ad server answered ${response.status}.`;
  } catch {
    fault = "The ad server can't be reached.";
  }
  // A later question has been asked meanwhile: its answer is the one to show.
  if (turn !== asking) return null;
  const ads = (name) => [answer.decisions?.[name]].flat().filter(Boolean).map((decision) => framed(decision, answer, names));
  for (const name of ["top", "right", "half", "between", "anchor"]) fill(byId(`slot-${name}`), ads(name));
  fillFeed(ads("feed"));
  document.body.classList.toggle("anchored", !byId("slot-anchor").hidden);
  const filled = document.querySelectorAll(".ad").length;
  return { request, status: fault || `${filled} ads shown.` };
}

/** Calls `changed` when the page crosses a width that has other slots. */
export function onLayoutChange(changed) {
  WIDE.addEventListener("change", changed);
  MIDDLE.addEventListener("change", changed);
}
