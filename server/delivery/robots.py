"""Whom a user agent gives away as no person: nobody, a robot, a browser without a screen.

The list is `crawler-user-agents`. One regex after another takes a millisecond, their union 0.4 ms.
ua-parser's matcher looks for the literals that each regex needs, all of them in one pass, and then
tries the few whose literals are there: 1.4 us for a browser, and time linear in the length whatever
is sent.

A few of the list's patterns are also in the user agents of people: a phone's name, an app's, the
build of Android 15. `NARROWED` says what is taken in their place. A change may only narrow.
"""

from functools import lru_cache
from typing import Final

from crawleruseragents import CRAWLER_USER_AGENTS_DATA  # type: ignore[import-untyped]
from ua_parser_rs import UserAgentExtractor

from server.delivery.devices import USER_AGENT_CHARS_MAX
from server.events.records import Outcome

CACHE_USER_AGENTS: Final = 8_192  # 2 MB of browsers, 18 MB of what can be made up

NARROWED: Final = {
    # A build of Android 15, here for one phone that was taken for a robot.
    r"AP3A\.240617\.008": r"CPH2557 Build/AP3A\.240617\.008; wv\).* Instagram 406\.0\.0\.58\.159 ",
    r"008\/": r"(^|; )008/",  # ends the names of phones and of tokens
    "Butterfly": "; Butterfly/",  # phones by HTC
    "Expanse": "^Expanse, ",  # a phone
    "Fever": "Fever/",  # a tablet
    "Sogou": "Sogou[ -].*[Ss]pider",  # a browser, and the search engine's app
    "Sonic": "; (Rank)?Sonic",  # ViewSonic, and phones
    "Viber": "^Viber",  # pages in the app; the fetcher of previews says nothing else
    "WhatsApp": "^WhatsApp",  # the same
}
"""What is taken for a pattern of the list. Each is in the list, and all its samples still match."""

AUTOMATION: Final = (
    "Headless",
    "Cypress/",
    "Electron/.* Cypress",
    "PhantomJS",
    "Playwright",
    "Puppeteer",
    "Selenium",
    "SlimerJS",
    "WebDriver",
    "jsdom/",
)
"""Browsers that a program drives. Whoever says so and who he is besides is a robot by name."""

# What libraries and scanners send where a browser says what it is.
_NOTHING: Final = frozenset(
    (
        *("", "-", "null", "undefined", "Mozilla"),
        *("Mozilla/4.0", "Mozilla/4.0 (compatible)", "Mozilla/4.0 (compatible;)"),
        *("Mozilla/5.0", "Mozilla/5.0 (compatible)", "Mozilla/5.0 (compatible;)"),
    )
)


class Robots:
    """Judges user agents, and remembers. Building takes 50 ms and 12 MB: one a process."""

    def __init__(self, cache_size: int = CACHE_USER_AGENTS) -> None:
        # The first that matches gives the verdict: a matcher of families, whose families are ours.
        self._find = UserAgentExtractor(
            (pattern, outcome.name, None, None, None, None) for pattern, outcome in _patterns()
        ).extract
        self._cached = lru_cache(cache_size)(self._read)

    def judge(self, user_agent: str | None) -> Outcome:
        """Give NO_USER_AGENT, ROBOT, HEADLESS or ACCEPTED; only the first 512 characters count."""
        return self._cached(user_agent[:USER_AGENT_CHARS_MAX] if user_agent else "")

    def lookups(self) -> tuple[int, int]:
        """Count hits and misses of the cache so far."""
        info = self._cached.cache_info()
        return info.hits, info.misses

    def _read(self, user_agent: str) -> Outcome:
        if user_agent.strip() in _NOTHING:
            return Outcome.NO_USER_AGENT
        try:
            found = self._find(user_agent)
        except UnicodeEncodeError:  # half a surrogate pair
            found = self._find(user_agent.encode(errors="replace").decode())
        return Outcome.ACCEPTED if found is None else Outcome[found.family]


def _patterns() -> list[tuple[str, Outcome]]:
    listed = [entry["pattern"] for entry in CRAWLER_USER_AGENTS_DATA]
    # The list has some of these itself: as robots they would hide that nobody said whose.
    robots = [NARROWED.get(pattern, pattern) for pattern in listed if not _is_automation(pattern)]
    return [(pattern, Outcome.ROBOT) for pattern in robots] + [
        (pattern, Outcome.HEADLESS) for pattern in AUTOMATION
    ]


def _is_automation(pattern: str) -> bool:
    return any(pattern.startswith(marker) for marker in AUTOMATION)
