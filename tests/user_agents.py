"""User agents of people, and of the robots on the list.

Phones, tablets, televisions, consoles, cars, watches and the apps on them are what device-detector
is tested with: its wheel holds them. What is written down here is what those lack.
"""

import re
from functools import cache
from importlib.resources import files

from crawleruseragents import CRAWLER_USER_AGENTS_DATA

_FIXTURES = files("device_detector") / "tests" / "fixtures" / "upstream"
_USER_AGENT = re.compile(r"^\s+user_agent: (.+)$", re.MULTILINE)
# Of the list's own kind: its samples are these, or the like of these.
_NOT_PEOPLE = re.compile(r"PTST/| Fluid/0\.9\.6 | Code/1\.61\.2 ")

_IPHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like"
_IPHONE += " Gecko) Mobile/15E148"
_PHONE = "Mozilla/5.0 (Linux; Android 15; Pixel 9 Build/AP4A.250105.002; wv) AppleWebKit/537.36"
_PHONE += " (KHTML, like Gecko) Version/4.0 Chrome/131.0.6778.200 Mobile Safari/537.36"
_DESKTOP = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko)"
_DESKTOP += " Chrome/150.0.0.0"

IN_APPS = (
    f"{_IPHONE} [FBAN/FBIOS;FBAV/490.0.0.44.108;FBDV/iPhone16,2;FBMD/iPhone;FBSN/iOS;FBLC/en_US]",
    f"{_PHONE} [FB_IAB/FB4A;FBAV/495.0.0.45.201;]",
    f"{_PHONE} [FB_IAB/MESSENGER;FBAV/490.0.0.60.109;]",
    f"{_IPHONE} Instagram 360.0.0.30.79 (iPhone16,2; iOS 18_1; en_US; scale=3.00; 1290x2796)",
    f"{_PHONE} Instagram 361.0.0.46.88 Android (35/15; 420dpi; 1080x2424; Google; Pixel 9; en_US)",
    f"{_PHONE} Barcelona 360.0.0.32.109 Android (35/15; 420dpi; 1080x2424; Google/google; Pixel 9)",
    f"{_IPHONE} [Pinterest/iOS]",
    f"{_PHONE} [Pinterest/Android]",
    f"{_IPHONE} Snapchat/13.20.0.41 (like Safari/8619.2.8.10.7, panda)",
    f"{_PHONE} trill_370402 BytedanceWebview/d8a21c6",
    f"{_IPHONE} musical_ly_37.4.0 JsSdk/2.0 NetType/WIFI Channel/App Store ByteLocale/en",
    f"{_IPHONE} Twitter for iPhone/10.70",
    f"{_PHONE} TwitterAndroid",
    f"{_IPHONE} [LinkedInApp]/9.30.1234",
    f"{_PHONE} [LinkedInApp]",
    f"{_IPHONE} Safari Line/14.20.0",
    f"{_PHONE} Line/14.20.1/IAB",
    f"{_PHONE} KAKAOTALK/25.1.0 (INAPP)",
    f"{_IPHONE} MicroMessenger/8.0.54(0x18003631) NetType/WIFI Language/zh_CN",
    f"{_PHONE} Telegram-Android/11.5.3 (Google Pixel 9; Android 15; SDK 35; HIGH)",
    f"{_PHONE} Viber/24.1.0.2",
    f"{_PHONE} WhatsApp/2.24.26.78",
    f"{_IPHONE} GSA/347.0.711816580 Safari/604.1",
    f"{_IPHONE} DuckDuckGo/7 Safari/605.1.15",
    f"{_PHONE} GoogleApp/15.50",
    f"{_PHONE} Flipboard/4.3.36",
    f"{_IPHONE} Reddit/Version 2024.50.1/Build 614/iOS Version 18.1",
    f"{_PHONE} Quora Android",
    f"{_DESKTOP} Safari/537.36 Teams/24295.605.3225.8804",
    f"{_DESKTOP} Electron/38.1.0 Slack/4.41.105 Safari/537.36",
    f"{_DESKTOP} Safari/537.36 Edg/150.0.0.0",
    f"{_DESKTOP} Safari/537.36 OPR/116.0.0.0",
    "Mozilla/5.0 (PlayStation; PlayStation 5/9.00) AppleWebKit/605.1.15 (KHTML, like Gecko)"
    " Version/17.0 Safari/605.1.15",
    "Mozilla/5.0 (Nintendo Switch; WifiWebAuthApplet) AppleWebKit/609.4 (KHTML, like Gecko)"
    " NF/6.0.3.26.0 NintendoBrowser/5.1.0.33803",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64; Xbox; Xbox Series X) AppleWebKit/537.36 (KHTML, like"
    " Gecko) Chrome/131.0.0.0 Safari/537.36 Edge/44.18363.8131",
    "Mozilla/5.0 (SMART-TV; LINUX; Tizen 8.0) AppleWebKit/537.36 (KHTML, like Gecko)"
    " 108.0.5359.1/8.0 TV Safari/537.36",
    "Mozilla/5.0 (Web0S; Linux/SmartTV) AppleWebKit/537.36 (KHTML, like Gecko)"
    " Chrome/120.0.6099.270 Safari/537.36 WebAppManager",
    "Roku/DVP-14.0 (14.0.4.1234-C0)",
    "Dalvik/2.1.0 (Linux; U; Android 15; Pixel 9 Build/AP4A.250105.002)",
    "AppleCoreMedia/1.0.0.22B83 (iPhone; U; CPU OS 18_1 like Mac OS X; en_us)",
)


@cache
def browsers() -> tuple[str, ...]:
    """Every browser, and every app with a browser in it, each once."""
    found = dict.fromkeys(IN_APPS)
    for path in sorted(_FIXTURES.iterdir(), key=str):
        if not path.name.endswith(".yml") or path.name == "bots.yml":
            continue
        for block in re.split(r"^-\s", path.read_text(encoding="utf-8"), flags=re.MULTILINE):
            sent = _USER_AGENT.search(block)
            if sent and ("type: browser" in block or "Mozilla/" in sent[1]):
                found[sent[1].strip("\"' ")] = None
    return tuple(text for text in found if text and not _NOT_PEOPLE.search(text))


@cache
def robots() -> tuple[str, ...]:
    """Every sample of the list."""
    return tuple(
        dict.fromkeys(
            sample for entry in CRAWLER_USER_AGENTS_DATA for sample in entry.get("instances", ())
        )
    )
