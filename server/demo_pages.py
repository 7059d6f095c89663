"""The demo's routes: the console's pages, the strip's counters, the names on the chips."""

from collections.abc import Callable
from pathlib import Path

import msgspec

from server.console.pages import load_pages
from server.delivery.core import JSON_HEADERS
from server.delivery.http import Answer
from server.delivery.snapshot import Holder
from server.families import BEACONS, DECISION_SECONDS, DECISIONS, REQUESTS, STATUSES
from server.metrics import Totals, totals

Page = Callable[[], Answer]


def demo_pages(holder: Holder, run_dir: Path) -> dict[str, Page]:
    """Every page by its path, as a call that answers."""
    pages: dict[str, Page] = {path: _page(Answer(*page)) for path, page in load_pages().items()}
    pages["/demo/counters"] = lambda: _counters(holder, run_dir)
    pages["/demo/catalog.json"] = lambda: _names(holder)
    return pages


def _page(answer: Answer) -> Page:
    return lambda: answer


def _names(holder: Holder) -> Answer:
    body = bytes(holder.snapshot.names) if holder.snapshot else b"{}"
    return Answer(200, JSON_HEADERS, body)


def _counters(holder: Holder, run_dir: Path) -> Answer:
    seen = totals(run_dir)
    filled, no_fill = seen.value(DECISIONS, "filled"), seen.value(DECISIONS, "no_fill")
    counters = {
        "generation": holder.snapshot.generation if holder.snapshot else 0,
        "requests": sum(seen.value(REQUESTS, "api", str(status)) for status in STATUSES),
        "decisions": filled + no_fill,
        "filled": filled,
        "no_fill": no_fill,
        "impressions": _counted(seen, "impression"),
        "clicks": _counted(seen, "click"),
        "decision_us_p50": _quantile_us(seen, 0.50),
        "decision_us_p99": _quantile_us(seen, 0.99),
    }
    known = {name: value for name, value in counters.items() if value is not None}
    return Answer(200, JSON_HEADERS, msgspec.json.encode(known))


def _counted(seen: Totals, kind: str) -> int:
    """Billed or previewed: who turns the panel's clock wants to see the beacons arrive too."""
    return seen.value(BEACONS, kind, "accepted") + seen.value(BEACONS, kind, "preview")


def _quantile_us(seen: Totals, share: float) -> float | None:
    nanoseconds = seen.quantile_ns(DECISION_SECONDS, share)
    return None if nanoseconds is None else round(nanoseconds / 1000, 1)
