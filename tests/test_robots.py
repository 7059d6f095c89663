"""Robots: all samples of the list are flagged, no browser is, and the list itself is the oracle."""

import random
import re

import pytest
from crawleruseragents import CRAWLER_USER_AGENTS_DATA
from hypothesis import given
from hypothesis import strategies as st

from server.delivery.devices import USER_AGENT_CHARS_MAX
from server.delivery.robots import AUTOMATION, NARROWED, Robots
from server.events.records import Outcome
from tests.user_agents import browsers, robots

pytestmark = pytest.mark.plain

SEED = 7
MIXED = 400  # user agents that are pieced together; the oracle takes a millisecond for each
ROBOTS = Robots()
NOBODY = (
    "",
    "-",
    "null",
    "Mozilla/5.0",
    "Mozilla/4.0",
    " Mozilla/5.0 ",
    "Mozilla/5.0 (compatible)",
)
CHROME = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/150.0.0.0"

LISTED = [re.compile(entry["pattern"]) for entry in CRAWLER_USER_AGENTS_DATA]
NARROW = [re.compile(NARROWED.get(pattern.pattern, pattern.pattern)) for pattern in LISTED]
DRIVEN = [re.compile(pattern) for pattern in AUTOMATION]


def matches(patterns: list[re.Pattern[str]], user_agent: str) -> bool:
    return any(pattern.search(user_agent) for pattern in patterns)


def assert_agrees(user_agent: str) -> None:
    outcome = ROBOTS.judge(user_agent)
    if outcome is Outcome.ACCEPTED:
        assert not matches(NARROW + DRIVEN, user_agent)
    elif outcome is Outcome.ROBOT:
        assert matches(NARROW, user_agent)
        assert matches(LISTED, user_agent)
    elif outcome is Outcome.HEADLESS:
        assert matches(DRIVEN, user_agent)
    else:
        assert user_agent.strip() in ("", "-", "null", "undefined") or "Mozilla" in user_agent


# -- the list and the corpus


def test_all_samples_of_the_list_are_flagged():
    assert len(robots()) > 2_000
    assert [sample for sample in robots() if ROBOTS.judge(sample) is Outcome.ACCEPTED] == []
    assert max(map(len, robots())) < USER_AGENT_CHARS_MAX


def test_no_browser_is_flagged():
    assert len(browsers()) > 35_000
    assert [text for text in browsers() if ROBOTS.judge(text) is not Outcome.ACCEPTED] == []
    assert max(map(len, browsers())) < USER_AGENT_CHARS_MAX


def test_what_is_narrowed_is_in_the_list_and_flags_people_without():
    """A newer list may do without: then so do we."""
    assert NARROWED.keys() <= {pattern.pattern for pattern in LISTED}
    text = "\n".join(browsers())
    needless = [pattern for pattern in NARROWED if not re.search(pattern, text, re.MULTILINE)]
    assert needless == []


def test_what_is_narrowed_still_matches_its_samples():
    for entry in CRAWLER_USER_AGENTS_DATA:
        if narrow := NARROWED.get(entry["pattern"]):
            assert all(re.search(narrow, sample) for sample in entry["instances"]), narrow


# -- the oracle


def test_samples_and_browsers_are_judged_as_by_one_regex_after_another():
    for user_agent in random.Random(SEED).sample(browsers(), MIXED) + list(robots()):
        assert_agrees(user_agent)


def test_pieces_of_robots_and_browsers_are_judged_as_by_one_regex_after_another():
    dice = random.Random(SEED)
    for _ in range(MIXED):
        robot, browser = dice.choice(robots()), dice.choice(browsers())
        begin, end = sorted(dice.choices(range(len(robot) + 1), k=2))
        at = dice.randrange(len(browser) + 1)
        assert_agrees((browser[:at] + robot[begin:end] + browser[at:])[:USER_AGENT_CHARS_MAX])


@given(st.text(max_size=USER_AGENT_CHARS_MAX))
def test_any_text_is_judged_as_by_one_regex_after_another(user_agent):
    assert_agrees(user_agent)


# -- who says nothing, and whom a program drives


@pytest.mark.parametrize("user_agent", [*NOBODY, None])
def test_who_says_nothing_is_nobody(user_agent):
    assert ROBOTS.judge(user_agent) is Outcome.NO_USER_AGENT


@pytest.mark.parametrize(
    "user_agent",
    [
        CHROME.replace("Chrome", "HeadlessChrome") + " Safari/537.36",
        CHROME + " Safari/537.36 HeadlessEdg/150.0.0.0",
        CHROME + " Cypress/14.0.0 Electron/33.2.1 Safari/537.36",
        CHROME + " Playwright/1.40.0",
        "Mozilla/5.0 (Unknown; Linux x86_64) AppleWebKit/538.1 PhantomJS/2.1.1 Safari/538.1",
        "Mozilla/5.0 (linux) AppleWebKit/537.36 (KHTML, like Gecko) jsdom/26.0.0",
    ],
)
def test_a_browser_that_a_program_drives_is_headless(user_agent):
    assert ROBOTS.judge(user_agent) is Outcome.HEADLESS


def test_a_robot_that_says_who_it_is_is_a_robot_although_its_browser_is_headless():
    assert ROBOTS.judge(CHROME + " HeadlessChrome/150.0.0.0 Googlebot/2.1") is Outcome.ROBOT


# -- bounds


@pytest.mark.parametrize("text", ["\ud800", "é\ud800\U0001f916", "\0", "x" * 100_000])
def test_anything_can_be_sent(text):
    assert ROBOTS.judge(text) is Outcome.ACCEPTED
    assert ROBOTS.judge("Googlebot/2.1 " + text) is Outcome.ROBOT


def test_only_the_beginning_counts():
    for room, outcome in ((0, Outcome.ROBOT), (1, Outcome.ACCEPTED)):
        blanks = " " * (USER_AGENT_CHARS_MAX - len("xGooglebot/") + room)
        assert ROBOTS.judge(f"x{blanks}Googlebot/") is outcome


def test_the_cache_is_bounded_and_its_keys_are_cut():
    few = Robots(cache_size=2)
    for number in range(5):
        few.judge(f"{CHROME} {number}")
    assert few.lookups() == (0, 5)
    few.judge(f"{CHROME} 4")
    assert few.lookups() == (1, 5)
    few.judge(f"{CHROME} 0")
    assert few.lookups() == (1, 6)
    few.judge("x" * USER_AGENT_CHARS_MAX)
    few.judge("x" * 9_999)
    assert few.lookups() == (2, 7)
