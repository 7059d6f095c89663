"""The demo in a real Chromium: `python -m tests.browser http://127.0.0.1:8081/` while it runs.

Not part of the test suite, as it needs Playwright and a browser. It checks that the page fits from
320 to 1440 pixels, that what is seen is counted once and what is clicked too, and that another
reader gets other ads; then it takes the screenshots of the README.
"""

import argparse
import json
import time
import urllib.request
from pathlib import Path

from playwright.sync_api import Browser, Page, expect, sync_playwright

IMAGES = Path(__file__).parent.parent / "docs" / "images"
CHROMIUM = "/usr/bin/chromium"
QUIET = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
WIDTHS = (320, 390, 768, 1024, 1280, 1440)
WAIT_S_MAX = 15.0
HISTORY_S = 20
SCENES = ("Berlin, breakfast", "Derby Saturday", "London, 8 a.m.", "Tokyo, house ads")

OVERFLOWING = """() => [...document.querySelectorAll('.paper *, .strip *, .panel *')]
  .filter(element => {
    const box = element.getBoundingClientRect(), style = getComputedStyle(element);
    const cut = element.children.length === 0 && element.scrollWidth > element.clientWidth + 1
      && style.overflowX !== 'visible' && style.overflowX !== 'auto';
    const scrolls = element.closest('.sections, pre, .visually-hidden, [inert]');
    return !scrolls && style.display !== 'inline' && (cut || box.right > innerWidth + 1);
  })
  .map(element => element.outerHTML.slice(0, 120))"""
BROKEN = """() => [...document.images]
  .filter(image => image.complete && !image.naturalWidth)
  .map(image => image.src)"""


def counters(url: str) -> dict[str, int]:
    with urllib.request.urlopen(f"{url}demo/counters", timeout=10) as answer:
        counted: dict[str, int] = json.loads(answer.read())
    return counted


def wait_for(url: str, name: str, wanted: int) -> None:
    deadline_s = time.monotonic() + WAIT_S_MAX
    while (got := counters(url)[name]) < wanted:
        assert time.monotonic() < deadline_s, f"{name}: {got}, not {wanted}"
        time.sleep(0.1)


def opened(browser: Browser, url: str, width: int, height: int, scale: int = 1) -> Page:
    page = browser.new_page(viewport={"width": width, "height": height}, device_scale_factor=scale)
    page.on("pageerror", lambda error: _fail(f"{width}: {error}"))
    page.on("console", lambda line: line.type == "error" and _fail(f"{width}: {line.text}"))
    page.goto(url)
    page.locator(".ad").nth(3).wait_for()
    page.wait_for_load_state("networkidle")
    return page


def _fail(message: str) -> None:
    raise AssertionError(message)


def check_fits(browser: Browser, url: str) -> None:
    for width in WIDTHS:
        page = opened(browser, url, width, 900)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, width
        assert page.evaluate(OVERFLOWING) == [], width
        assert page.evaluate(BROKEN) == [], width
        page.close()


def check_counts(browser: Browser, url: str) -> None:
    """Each ad is one impression once half of it has been seen for a second, and never two."""
    before = counters(url)
    page = opened(browser, url, 1280, 4000)  # everything is in view
    shown = page.locator(".ad").count()
    expect(page.locator(".ad.counted")).to_have_count(shown)
    wait_for(url, "impressions", before["impressions"] + shown)
    page.mouse.wheel(0, 500)
    page.mouse.wheel(0, -500)
    page.wait_for_timeout(2500)
    assert counters(url)["impressions"] == before["impressions"] + shown, "counted twice"
    with page.expect_popup():
        page.click("#slot-right .creative")
    wait_for(url, "clicks", before["clicks"] + 1)
    page.close()
    unseen = opened(browser, url, 1280, 300)
    unseen.wait_for_timeout(2500)
    assert unseen.locator("#slot-between .counted").count() == 0, "counted unseen"
    unseen.close()


def check_markup_ads(browser: Browser, url: str) -> None:
    """An advertiser's own markup is counted, opens its link, and runs nothing."""
    page = opened(browser, url, 1280, 900)
    page.click("text=Tokyo, house ads")
    frame = page.wait_for_selector("#slot-right iframe")
    assert frame is not None
    assert "allow-scripts" not in (frame.get_attribute("sandbox") or "allow-scripts")
    page.wait_for_selector("#slot-right .ad.counted")
    clicks = counters(url)["clicks"]
    with page.expect_popup():
        page.frame_locator("#slot-right iframe").locator("a").click()
    wait_for(url, "clicks", clicks + 1)
    page.close()


def check_readers(browser: Browser, url: str) -> None:
    page = opened(browser, url, 1280, 900)
    winners = set()
    for scene in SCENES:
        with page.expect_response("**/api/v2") as answered:
            page.click(f"text={scene}")
        winner = answered.value.json()["decisions"]["top"]["flightId"]
        page.locator("#slot-top .why-card", has_text=f"({winner})").wait_for(state="attached")
        winners.add(winner)
    assert len(winners) == len(SCENES)
    page.close()


def check_keyboard(browser: Browser, url: str) -> None:
    page = opened(browser, url, 390, 844)
    page.click("#panel-toggle")
    assert page.evaluate("document.activeElement.id") == "panel-close"
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.id") == "panel-toggle"
    assert page.evaluate("document.getElementById('panel').inert")
    page.close()


def take_screenshots(browser: Browser, url: str) -> None:
    IMAGES.mkdir(parents=True, exist_ok=True)
    for width, height, scale in ((1280, 1080, 1), (390, 844, 2)):
        page = opened(browser, url, width, height, scale)
        for _ in range(HISTORY_S):  # something for the sparklines to show
            page.locator(".sections button").first.click()
            page.wait_for_timeout(1000)
        if width == 1280:
            page.click("#slot-right .why summary")
        page.mouse.move(0, 0)
        page.screenshot(path=IMAGES / f"demo-{width}.png")
        page.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--chromium", default=CHROMIUM)
    args = parser.parse_args()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=args.chromium, args=list(QUIET))
        for check in (
            check_fits, check_counts, check_markup_ads, check_readers, check_keyboard,
            take_screenshots,
        ):  # fmt: skip
            check(browser, args.url)
            print(check.__name__, "ok", flush=True)
        browser.close()


if __name__ == "__main__":
    main()
