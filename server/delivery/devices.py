"""What the client runs on: device, operating system, browser, in names that targeting can use.

The user agent is read by ua-parser. Client hints, which browsers send in place of details that they
no longer tell there, have the last word. Whatever is not on these lists is `other`:

device   desktop phone tablet tv console wearable robot
os       windows macos linux chromeos android ios tvos watchos tizen webos roku kaios
browser  chrome safari firefox edge samsung opera ie webview silk brave vivaldi duckduckgo yandex
         uc facebook instagram

An iPad's Safari asks as a Mac and can't be told from one by its headers: it is `desktop`, `macos`.
Other browsers on an iPad give themselves away: `tablet`, `ios`. An Android device whose user agent
does not say Mobile is a tablet, by Android's own rule.
"""

import re
from functools import lru_cache
from typing import NamedTuple

from ua_parser import Domain
from ua_parser.loaders import load_lazy_builtins
from ua_parser.regex import Resolver

USER_AGENT_CHARS_MAX = (
    512  # browsers send 110 to 250; bounds the parser's time and the cache's keys
)
CACHE_USER_AGENTS = 16_384  # 12 MB at most

OTHER = "other"

_OS = {
    "Windows": "windows",
    "Mac OS X": "macos",
    "Linux": "linux",
    "Ubuntu": "linux",
    "Fedora": "linux",
    "Debian": "linux",
    "Chrome OS": "chromeos",
    "Android": "android",
    "iOS": "ios",
    "ATV OS X": "tvos",
    "tvOS": "tvos",
    "WatchOS": "watchos",
    "Tizen": "tizen",
    "Web0S": "webos",
    "webOS": "webos",
    "Roku": "roku",
    "KaiOS": "kaios",
}
_DESKTOP_OS = ("windows", "macos", "linux", "chromeos")
_TV_OS = ("tvos", "webos", "roku")

# Families are tried by their first word or words: "Chrome Mobile iOS" is a Chrome.
_BROWSERS = {
    "Chrome Mobile WebView": "webview",
    "Mobile Safari UI/WKWebView": "webview",
    "Chrome": "chrome",
    "HeadlessChrome": "chrome",
    "Chromium": "chrome",
    "Mobile Safari": "safari",
    "Safari": "safari",
    "Firefox": "firefox",
    "Edge": "edge",
    "Samsung Internet": "samsung",
    "Opera": "opera",
    "IE": "ie",
    "Amazon Silk": "silk",
    "Brave": "brave",
    "Vivaldi": "vivaldi",
    "DuckDuckGo": "duckduckgo",
    "Yandex Browser": "yandex",
    "UC Browser": "uc",
    "Facebook": "facebook",
    "Instagram": "instagram",
}

# What ua-parser has no word for, in the user agent itself.
_CONSOLE = re.compile(r"PlayStation|Xbox|Nintendo")
_TV = re.compile(r"S(?:mart|MART)-?TV|[Hh]bbTV|GoogleTV|Android TV|BRAVIA|CrKey|; AFT[A-Z]")
_WEARABLE = re.compile(r"Apple ?Watch|Wear ?OS|SM-R[789]\d\d")
_IOS_ONLY = re.compile(r"CriOS|FxiOS|EdgiOS|Mobile/")

# Sec-CH-UA-Platform and Sec-CH-UA-Mobile, as they are sent.
_PLATFORMS = {
    '"Windows"': "windows",
    '"macOS"': "macos",
    '"Linux"': "linux",
    '"Chrome OS"': "chromeos",
    '"Chromium OS"': "chromeos",
    '"Android"': "android",
    '"iOS"': "ios",
}
_MOBILE = {"?1": True, "?0": False}


class Device(NamedTuple):
    device: str
    os: str
    browser: str
    robot: bool


class DeviceReader:
    """Reads headers into a Device, and remembers. Building takes 0.4 s and 35 MB: one a process."""

    def __init__(self, cache_size: int = CACHE_USER_AGENTS) -> None:
        self._parse = Resolver(load_lazy_builtins())
        # Keyed by what the hints mean: their spellings are the client's to invent.
        self._cached = lru_cache(cache_size)(self._read)

    def read(
        self, user_agent: str | None, ch_mobile: str | None, ch_platform: str | None
    ) -> Device:
        """Tell the device from the values of User-Agent, Sec-CH-UA-Mobile and Sec-CH-UA-Platform.

        A robot is what ua-parser calls a spider, and whoever does not say what it is.
        """
        return self._cached(
            user_agent[:USER_AGENT_CHARS_MAX] if user_agent else "",
            None if ch_mobile is None else _MOBILE.get(ch_mobile),
            None if ch_platform is None else _PLATFORMS.get(ch_platform),
        )

    def lookups(self) -> tuple[int, int]:
        """Count hits and misses of the cache so far."""
        info = self._cached.cache_info()
        return info.hits, info.misses

    def _read(self, user_agent: str, mobile: bool | None, platform: str | None) -> Device:
        found = self._parse(user_agent, Domain.ALL)
        browser = _browser(found.user_agent.family) if found.user_agent else OTHER
        os = _OS.get(found.os.family, OTHER) if found.os else OTHER
        if not user_agent or (found.device and found.device.family == "Spider"):
            return Device("robot", os, browser, robot=True)
        if "Macintosh" in user_agent and _IOS_ONLY.search(user_agent):
            return Device("tablet", "ios", browser, robot=False)
        os = platform or os
        device = _special(user_agent, os) or _hinted(os, mobile) or _general(user_agent, os)
        return Device(device, os, browser, robot=False)


def _browser(family: str) -> str:
    while family and family not in _BROWSERS:
        family = family.rpartition(" ")[0]
    return _BROWSERS.get(family, OTHER)


def _special(user_agent: str, os: str) -> str | None:
    """Tell what a hint about phones and desktops can't."""
    if _CONSOLE.search(user_agent):
        return "console"
    if os in _TV_OS or _TV.search(user_agent):
        return "tv"
    if os == "watchos" or _WEARABLE.search(user_agent):
        return "wearable"
    return None


def _hinted(os: str, mobile: bool | None) -> str | None:
    if mobile is None:
        return None
    if mobile:
        return "phone"
    return "desktop" if os in _DESKTOP_OS else "tablet" if os in ("android", "ios") else None


def _general(user_agent: str, os: str) -> str:
    if "iPad" in user_agent or "Tablet" in user_agent or "Kindle" in user_agent:
        return "tablet"
    if os == "android" and "Mobile" not in user_agent and "Dalvik/" not in user_agent:
        return "tablet"
    if os in ("android", "ios", "kaios") or "Mobile" in user_agent:
        return "phone"
    return "desktop" if os in _DESKTOP_OS else OTHER
