"""Each user agent and its hints give one device, system and browser out of the documented names."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.delivery import devices
from server.delivery.devices import USER_AGENT_CHARS_MAX, Device, DeviceReader

pytestmark = pytest.mark.plain

READER = DeviceReader()

WEBKIT = "AppleWebKit/537.36 (KHTML, like Gecko)"
CHROME_WINDOWS = (
    f"Mozilla/5.0 (Windows NT 10.0; Win64; x64) {WEBKIT} Chrome/150.0.0.0 Safari/537.36"
)
CHROME_PHONE = f"Mozilla/5.0 (Linux; Android 10; K) {WEBKIT} Chrome/150.0.0.0 Mobile Safari/537.36"
CHROME_TABLET = f"Mozilla/5.0 (Linux; Android 10; K) {WEBKIT} Chrome/150.0.0.0 Safari/537.36"
APPLE = "AppleWebKit/605.1.15 (KHTML, like Gecko)"
IPHONE = f"Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) {APPLE}"
MAC = f"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) {APPLE}"
GOOGLEBOT = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"

# user agent -> device os browser
KNOWN = {
    CHROME_WINDOWS: "desktop windows chrome",
    CHROME_WINDOWS + " Edg/150.0.0.0": "desktop windows edge",
    CHROME_WINDOWS + " OPR/116.0.0.0": "desktop windows opera",
    CHROME_WINDOWS + " Vivaldi/7.1": "desktop windows vivaldi",
    "Mozilla/5.0 (Windows NT 10.0; Trident/7.0; rv:11.0) like Gecko": "desktop windows ie",
    f"{MAC} Version/18.1 Safari/605.1.15": "desktop macos safari",
    "Mozilla/5.0 (X11; Ubuntu; Linux x86_64; rv:150.0) Gecko/20100101 Firefox/150.0": (
        "desktop linux firefox"
    ),
    f"Mozilla/5.0 (X11; CrOS x86_64 14541.0.0) {WEBKIT} Chrome/150.0.0.0 Safari/537.36": (
        "desktop chromeos chrome"
    ),
    f"Mozilla/5.0 (X11; Linux x86_64) {WEBKIT} HeadlessChrome/150.0 Safari/537.36": (
        "desktop linux chrome"
    ),
    CHROME_PHONE: "phone android chrome",
    CHROME_TABLET: "tablet android chrome",
    f"Mozilla/5.0 (Linux; Android 14; SM-S901B) {WEBKIT} SamsungBrowser/27.0 Chrome/125.0.0.0"
    " Mobile Safari/537.36": "phone android samsung",
    f"Mozilla/5.0 (Linux; Android 14; Pixel 8; wv) {WEBKIT} Version/4.0 Chrome/150.0.0.0"
    " Mobile Safari/537.36": "phone android webview",
    "Dalvik/2.1.0 (Linux; U; Android 14; Pixel 8 Build/AP2A)": "phone android other",
    f"{IPHONE} Version/18.1 Mobile/15E148 Safari/604.1": "phone ios safari",
    f"{IPHONE} CriOS/150.0.0.0 Mobile/15E148 Safari/604.1": "phone ios chrome",
    f"{IPHONE} FxiOS/150.0 Mobile/15E148 Safari/605.1.15": "phone ios firefox",
    f"{IPHONE} Mobile/15E148": "phone ios webview",
    f"{IPHONE} Mobile/15E148 Instagram 350.0.0.0": "phone ios instagram",
    f"{IPHONE} Mobile/15E148 [FBAN/FBIOS;FBAV/480]": "phone ios facebook",
    f"Mozilla/5.0 (iPad; CPU OS 18_1 like Mac OS X) {APPLE} Version/18.1 Mobile/15E148"
    " Safari/604.1": "tablet ios safari",
    # iPads that ask as Macs, and give themselves away.
    f"{MAC} CriOS/150 Version/13.0.3 Safari/605.1.15": "tablet ios chrome",
    f"Mozilla/5.0 (Linux; Android 11; KFTRWI) {WEBKIT} Silk/130.1 like Chrome/130.0"
    " Safari/537.36": "tablet android silk",
    f"Mozilla/5.0 (Linux; Android 9; AFTKA) {WEBKIT} Silk/130.1 like Chrome/130.0 Safari/537.36": (
        "tv android silk"
    ),
    f"Mozilla/5.0 (SMART-TV; Linux; Tizen 8.0) {WEBKIT} Version/8.0 TV Safari/537.36": (
        "tv tizen safari"
    ),
    f"Mozilla/5.0 (Web0S; Linux/SmartTV) {WEBKIT} Chrome/120.0 Safari/537.36": "tv webos chrome",
    "AppleTV11,1/11.1": "tv tvos other",
    "Roku/DVP-14.0 (519.10E04111A)": "tv roku other",
    f"Mozilla/5.0 (PlayStation; PlayStation 5/2.26) {APPLE} Version/13.0 Safari/605.1.15": (
        "console other safari"
    ),
    f"Mozilla/5.0 (Windows NT 10.0; Win64; x64; Xbox; Xbox One) {WEBKIT} Chrome/120 Safari/537.36"
    " Edge/44": "console windows edge",
    f"Mozilla/5.0 (Linux; Android 13; SM-R930) {WEBKIT} SamsungBrowser/22.0 Chrome/111 Mobile"
    " Safari/537.36": "wearable android samsung",
    "MyApp/1.0 (Watch; watchOS 11.1; Apple Watch)": "wearable watchos other",
    "Mozilla/5.0 (Mobile; Nokia_8110_4G; rv:48.0) Gecko/48.0 Firefox/48.0 KAIOS/2.5": (
        "phone kaios firefox"
    ),
    "curl/8.11": "other other other",
    "Mozilla/5.0": "other other other",
}


@pytest.mark.parametrize("user_agent", KNOWN)
def test_known_user_agents(user_agent):
    assert READER.read(user_agent, None, None) == Device(*KNOWN[user_agent].split(), robot=False)


@pytest.mark.parametrize("user_agent", [GOOGLEBOT, "", None])
def test_robots_are_what_says_so_and_what_says_nothing(user_agent):
    # Hints change nothing: a robot with a phone's hints is a robot.
    for mobile, platform in ((None, None), ("?1", '"Android"')):
        found = READER.read(user_agent, mobile, platform)
        assert (found.device, found.robot) == ("robot", True)


@pytest.mark.parametrize(
    ("user_agent", "mobile", "platform", "known"),
    [
        # What Chrome sends when the page was asked for as a desktop's.
        (CHROME_WINDOWS, "?1", '"Android"', "phone android chrome"),
        (CHROME_WINDOWS, "?0", '"Android"', "tablet android chrome"),
        (CHROME_WINDOWS, "?0", '"macOS"', "desktop macos chrome"),
        (CHROME_PHONE, "?0", '"Linux"', "desktop linux chrome"),
        (CHROME_PHONE, "?0", '"Android"', "tablet android chrome"),
        (CHROME_TABLET, "?1", None, "phone android chrome"),
        (CHROME_WINDOWS, None, '"Chrome OS"', "desktop chromeos chrome"),
        (CHROME_WINDOWS, None, '"iOS"', "phone ios chrome"),
        # What says nothing.
        (CHROME_WINDOWS, None, '"Unknown"', "desktop windows chrome"),
        (CHROME_WINDOWS, None, "Android", "desktop windows chrome"),
        (CHROME_WINDOWS, "1", "", "desktop windows chrome"),
        (CHROME_WINDOWS, "?2", "x" * 100_000, "desktop windows chrome"),
        # A television has no hint of its own and stays one.
        (f"Mozilla/5.0 (Linux; Android 12; BRAVIA 4K) {WEBKIT} Chrome/150.0 Safari/537.36", "?0",
         '"Android"', "tv android chrome"),
        ("curl/8.11", "?1", None, "phone other other"),
        ("curl/8.11", "?0", None, "other other other"),
    ],
)  # fmt: skip
def test_hints_have_the_last_word(user_agent, mobile, platform, known):
    assert READER.read(user_agent, mobile, platform) == Device(*known.split(), robot=False)


def documented(heading: str) -> set[str]:
    """The names that the module's docstring lists."""
    rest = (devices.__doc__ or "").split(f"\n{heading} ", 1)[1]
    lines = rest.split("\n")
    more = [line for line in lines[1:2] if line.startswith("     ")]
    return {*lines[0].split(), *(word for line in more for word in line.split()), "other"}


fragments = st.sampled_from([word for known in KNOWN for word in known.split()] + ["Watch", "TV"])
odd = st.one_of(st.text(max_size=600), st.lists(fragments, max_size=12).map(" ".join))
hints = st.sampled_from([None, "?1", "?0", "", '"Android"', '"Windows"', '"iOS"'])


@given(odd, hints, hints)
def test_names_are_those_of_the_documentation_whatever_is_sent(user_agent, mobile, platform):
    found = READER.read(user_agent, mobile, platform)
    assert found.device in documented("device")
    assert found.os in documented("os")
    assert found.browser in documented("browser")
    assert found.robot == (found.device == "robot")


def test_every_name_of_the_tables_is_documented():
    assert {*devices._OS.values(), *devices._PLATFORMS.values()} | {"other"} == documented("os")
    assert set(devices._BROWSERS.values()) | {"other"} == documented("browser")


def test_only_the_head_of_a_user_agent_is_read():
    padding = "x" * USER_AGENT_CHARS_MAX
    assert READER.read(padding + CHROME_PHONE, None, None).os == "other"
    fitting = padding[: USER_AGENT_CHARS_MAX - len(CHROME_PHONE) - 1] + " " + CHROME_PHONE
    assert READER.read(fitting, None, None).os == "android"


def test_the_cache_is_bounded_whatever_the_client_invents():
    reader = DeviceReader(cache_size=8)
    for n in range(100):
        reader.read(f"agent/{n}", "?1", '"Android"')
    assert reader._cached.cache_info().currsize == 8
    misses = reader.lookups()[1]
    for n in range(100):  # inventing hints, or what is cut off, makes no new entries
        reader.read("y" * USER_AGENT_CHARS_MAX + str(n), f"?{n + 2}", f'"{n}"')
    assert reader.lookups()[1] == misses + 1
