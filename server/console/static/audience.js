/** Who reads and when: the state behind the panel, and the controls that change it. */

import { byId, el } from "./dom.js";
import { SECTIONS } from "./stories.js";

export const COUNTRIES = {
  DE: "Germany", AT: "Austria", CH: "Switzerland", DK: "Denmark", SE: "Sweden", NO: "Norway", NL: "Netherlands",
  FR: "France", PL: "Poland", GB: "United Kingdom", IE: "Ireland", US: "United States", CA: "Canada", JP: "Japan",
};

export const USER_AGENTS = {
  desktop: "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/138.0.0.0 Safari/537.36",
  phone: "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 Mobile/15E148 Safari/604.1",
  tablet: "Mozilla/5.0 (Linux; Android 15; SM-X910) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/138.0.0.0 Safari/537.36",
};

const DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
const KEYWORDS = ["football", "travel", "energy", "climate", "language"];

const SCENES = {
  "Berlin, breakfast": { section: "front", country: "DE", day: 1, hour: 7, age: 41 },
  "Derby Saturday": { section: "sport", country: "DE", day: 5, hour: 14, age: 36 },
  "London, 8 a.m.": { section: "front", country: "GB", day: 2, hour: 7, age: 29 },
  "Subscriber, 58": { section: "culture", country: "DE", day: 3, hour: 20, loggedIn: true, age: 58 },
  "New York, night": { section: "travel", country: "US", day: 4, hour: 1, age: 33 },
  "Tokyo, house ads": { section: "front", country: "JP", day: 6, hour: 3, age: 47 },
};

const WHEN_LIVE = -1;

export const audience = {
  site: 1, section: "front", country: "DE", device: matchMedia("(max-width: 700px)").matches ? "phone" : "desktop",
  day: WHEN_LIVE, hour: 12, keywords: [], loggedIn: false, visitor: false, age: 34, count: 2,
};

/** The pretended moment in UTC seconds: the chosen day and hour of this week in Berlin; null for now. */
export function pretendedSeconds(now = new Date()) {
  if (audience.day === WHEN_LIVE) return null;
  const { year, month, day, weekday } = berlin(now);
  const wall = Date.UTC(year, month - 1, day + audience.day - weekday, audience.hour);
  // The offset is that of the target, which differs from now's in the week the clocks change.
  return (wall - offsetMs(new Date(wall))) / 1000;
}

function berlin(moment) {
  const parts = new Intl.DateTimeFormat("en-GB", {
    timeZone: "Europe/Berlin", year: "numeric", month: "numeric", day: "numeric", weekday: "long", hour: "numeric",
    minute: "numeric", hourCycle: "h23",
  }).formatToParts(moment);
  const get = (type) => parts.find((part) => part.type === type).value;
  const number = (type) => Number(get(type));
  return {
    year: number("year"), month: number("month"), day: number("day"), hour: number("hour"), minute: number("minute"),
    weekday: DAYS.indexOf(get("weekday")),
  };
}

function offsetMs(moment) {
  const { year, month, day, hour, minute } = berlin(moment);
  return Date.UTC(year, month - 1, day, hour, minute) - Math.floor(moment.getTime() / 60000) * 60000;
}

// -- the controls ----------------------------------------------------------------------------------

function field(label, control, more = null) {
  return el("label", { class: "field" }, el("span", { class: "field-label" }, label), control, more);
}

function select(name, options) {
  const control = el("select", { name });
  for (const [value, text] of options) {
    control.append(el("option", { value, selected: String(value) === String(audience[name]) }, text));
  }
  return control;
}

function range(name, [min, max], shown) {
  const output = el("output", {}, shown(audience[name]));
  const control = el("input", { type: "range", name, min, max, value: audience[name] });
  control.addEventListener("input", () => { output.textContent = shown(Number(control.value)); });
  return [control, output];
}

function check(name, value, text, checked) {
  return el("label", { class: "check" }, el("input", { type: "checkbox", name, value, checked }), el("span", {}, text));
}

function chosenFrom(form) {
  const values = new FormData(form);
  const number = (name) => Number(values.get(name));
  Object.assign(audience, {
    site: number("site"), section: values.get("section"), country: values.get("country"), device: values.get("device"),
    day: number("day"), hour: number("hour"), age: number("age"), count: number("count"),
    keywords: values.getAll("keyword"), loggedIn: values.has("loggedIn"), visitor: values.has("visitor"),
  });
}

/** Draws the panel from the state; `changed` is called after each change of it. */
export function drawControls(changed) {
  const form = byId("controls");
  const [hour, hourShown] = range("hour", [0, 23], (value) => `${String(value).padStart(2, "0")}:00`);
  const [age, ageShown] = range("age", [16, 80], String);
  const [count, countShown] = range("count", [1, 4], String);
  hour.disabled = audience.day === WHEN_LIVE;
  const scenes = Object.entries(SCENES).map(([name, scene]) => {
    const button = el("button", { type: "button", class: "chip" }, name);
    button.addEventListener("click", () => {
      Object.assign(audience, { site: 1, device: "desktop", loggedIn: false, visitor: false, keywords: [] }, scene);
      drawControls(changed);
      changed();
    });
    return button;
  });
  form.replaceChildren(
    el("fieldset", {}, el("legend", {}, "Try a reader"), el("div", { class: "chips scenes" }, ...scenes)),
    el("div", { class: "two" },
      field("Country", select("country", Object.entries(COUNTRIES))),
      field("Device", select("device", [["desktop", "Desktop"], ["tablet", "Tablet"], ["phone", "Phone"]])),
      field("Section", select("section", Object.entries(SECTIONS))),
      field("Reading in", select("site", [[1, "Website"], [2, "App"]]))),
    field("When, in Berlin", select("day", [[WHEN_LIVE, "Now, live"], ...DAYS.map((name, day) => [day, name])])),
    field("Hour", hour, hourShown),
    field("Age", age, ageShown),
    field("Ads in the list", count, countShown),
    el("fieldset", {}, el("legend", {}, "Keywords of the page"),
      el("div", { class: "chips" }, ...KEYWORDS.map((word) => check("keyword", word, word, audience.keywords.includes(word))))),
    el("fieldset", {}, el("legend", {}, "About the reader"),
      el("div", { class: "chips" },
        check("loggedIn", "yes", "logged in", audience.loggedIn),
        check("visitor", "yes", "looked at flights", audience.visitor))),
  );
  form.onchange = () => {
    chosenFrom(form);
    hour.disabled = audience.day === WHEN_LIVE;
    changed();
  };
  form.onsubmit = (event) => event.preventDefault();
}
