/** Lays the newspaper out for one section, and leaves room for the ads among the articles. */

import { byId, el } from "./dom.js";
import { ordered, SECTIONS } from "./stories.js";

const LATEST = 6;
const MORE = 3;

const picture = (story) =>
  el("img", { src: `/assets/stories/${story.picture}.svg`, alt: "", width: 640, height: 360, class: "picture" });

const byline = (story) => el("p", { class: "byline" }, `By ${story.byline} · ${story.minutes} min`);

const kicker = (story) => el("p", { class: `tag tag-${story.section}` }, SECTIONS[story.section]);

function card(story, level) {
  return el(
    "article",
    { class: "card" },
    story.picture ? picture(story) : null,
    kicker(story),
    el(level, { class: "card-title" }, story.title),
    el("p", { class: "card-deck" }, story.deck),
    byline(story),
  );
}

function row(story) {
  return el(
    "article",
    { class: "row" },
    el("div", { class: "row-text" }, kicker(story), el("h3", { class: "row-title" }, story.title), el("p", { class: "row-deck" }, story.deck)),
  );
}

export function drawSections(chosen, choose) {
  byId("sections").replaceChildren(
    ...Object.entries(SECTIONS).map(([key, name]) => {
      const button = el("button", { type: "button", "aria-current": key === chosen ? "page" : null }, name);
      button.addEventListener("click", () => choose(key));
      return button;
    }),
  );
}

/** Draws everything but the ads; returns the lead story, whose topic the ad request tells. */
export function drawPaper(section) {
  const stories = ordered(section);
  const lead = stories.find((story) => story.picture);
  const others = stories.filter((story) => story !== lead);
  const pictured = others.filter((story) => story.picture);
  const pair = pictured.slice(0, 2);
  const more = pictured.slice(2, 2 + MORE);
  const latest = others.filter((story) => !story.picture).slice(0, LATEST);

  byId("lead").replaceChildren(
    picture(lead),
    kicker(lead),
    el("h1", { class: "lead-title" }, lead.title),
    el("p", { class: "lead-deck" }, lead.deck),
    byline(lead),
  );
  byId("pair").replaceChildren(...pair.map((story) => card(story, "h2")));
  byId("latest").replaceChildren(...latest.map(row));
  byId("more").replaceChildren(...more.map((story) => card(story, "h3")));
  byId("most-read").replaceChildren(
    ...[...pictured].reverse().slice(0, 5).map((story) => el("li", {}, story.title)),
  );
  byId("today").textContent = new Intl.DateTimeFormat("en-GB", {
    weekday: "long", day: "numeric", month: "long", year: "numeric", timeZone: "Europe/Berlin",
  }).format(new Date());
  return lead;
}
