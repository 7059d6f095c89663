"""What a single record's type can't say: whether the records of a catalog fit together.

Every rule is a small generator of faults whose steps start at the record; `Rules.faults` adds it.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any, Final

from adcore.catalog import (
    CLICK_MACRO,
    Campaign,
    Creative,
    Expression,
    Html,
    Image,
    LineItem,
    Native,
    Zone,
)
from adcore.expression import ExpressionError
from adcore.limits import LABELS_MAX, LINE_ITEMS_MAX
from adcore.normalising import normalise
from adcore.zones import zone_names
from server.catalog.delivery_rules import limits_faults, pacing_faults, spending_faults
from server.catalog.fault import Fault, Steps, shown
from server.catalog.records import KINDS, Entry, Records, number_field

MACROS: Final = ("CLICK_URL", "IMPRESSION_URL", "CACHEBUSTER")
"""What the server replaces in HTML creatives; another would reach the page as it is written."""

# Each makes the URL 133 characters longer, and browsers and proxies take 8 KiB.
CLICK_MACROS_MAX: Final = 4

# Capitals only: `${price}` in a creative's script is JavaScript's own.
_MACRO: Final = re.compile(r"\$\{([A-Z][A-Z0-9_]*)\}")
_HOST: Final = re.compile(
    r"https?://(?:\[[0-9A-Fa-f:.]+\]|[^][/?#:]+)(?::([0-9]{1,5}))?(?:[/?#]|$)"
)
_PORT_MAX: Final = 65_535
_STEP: Final = re.compile(r"\[(\d+)\]|([^.\[\]]+)")
_DIMENSION_KINDS: Final = {"site": "sites", "zone": "zones", "ad_type": "ad_types"}


class Rules:
    """The rules over one catalog. `now_s` adds the warnings that depend on the time."""

    def __init__(self, records: Records, now_s: int | None = None) -> None:
        self._entries = records.entries
        self._account = records.account
        self._now_s = now_s
        self._unknown = records.unknown
        # By number; None for a record that is there but can't be read.
        self._by_number: dict[str, dict[Any, Any]] = {
            kind: dict(entries) for kind, entries in records.entries.items()
        }

    def faults(self) -> Iterator[Fault]:
        rules: dict[str, Callable[[Any], Iterator[Fault]]] = {
            "zones": self._zone,
            "campaigns": self._campaign,
            "line_items": self._line_item,
            "creatives": self._creative,
        }
        yield from self._account_faults()
        for kind, entries in self._entries.items():
            yield from _duplicates(kind, entries)
            rule = rules.get(kind)
            for position, (number, record) in enumerate(entries if rule else ()):
                if record is None or rule is None:
                    continue
                for fault in rule(record):
                    steps = (kind, position, *fault.steps)
                    yield fault._replace(steps=steps, record=f"{KINDS[kind]} {number}")
        if len(self._entries["line_items"]) > LINE_ITEMS_MAX:
            yield Fault(("line_items",), f"more than {LINE_ITEMS_MAX}")

    def _account_faults(self) -> Iterator[Fault]:
        base = self._account.asset_base_url if self._account else None
        if base is not None:
            steps = ("account", "asset_base_url")
            yield from _url(steps, base)
            if not base.endswith("/"):
                yield Fault(steps, "must end with /, because paths are appended to it")

    # -- references

    def _refer(self, kind: str, number: int, *steps: str | int) -> Iterator[Fault]:
        if number not in self._by_number[kind] and kind not in self._unknown:
            yield Fault(steps, f"there is no {KINDS[kind]} {number}")

    def _record(self, kind: str, number: int) -> Any:
        """Return the record if it is there and can be read."""
        return self._by_number[kind].get(number)

    def _zone(self, zone: Zone) -> Iterator[Fault]:
        yield from self._refer("sites", zone.site_id, "site_id")

    def _campaign(self, campaign: Campaign) -> Iterator[Fault]:
        yield from self._refer("advertisers", campaign.advertiser_id, "advertiser_id")
        yield from limits_faults(campaign)
        yield from _zone_fault(campaign.time_zone)

    # -- line items

    def _line_item(self, item: LineItem) -> Iterator[Fault]:
        yield from self._refer("campaigns", item.campaign_id, "campaign_id")
        yield from self._refer("priorities", item.priority, "priority")
        campaign = self._record("campaigns", item.campaign_id)
        yield from limits_faults(item)
        yield from spending_faults(item, campaign)
        yield from pacing_faults(item)
        yield from self._times(item, campaign)
        if campaign is not None:
            yield from self._labels(item, campaign)
        if item.targeting is not None:
            yield from self._targeting(item.targeting)
        for position, ad in enumerate(item.ads):
            steps = ("ads", position, "creative_id")
            yield from self._refer("creatives", ad.creative_id, *steps)
            creative = self._record("creatives", ad.creative_id)
            if creative is not None and campaign is not None:
                yield from self._same_advertiser(creative, campaign, steps)

    def _same_advertiser(
        self, creative: Creative, campaign: Campaign, steps: Steps
    ) -> Iterator[Fault]:
        theirs, ours = creative.advertiser_id, campaign.advertiser_id
        # One that does not exist is a fault already, and most likely the mistake.
        advertisers = self._by_number["advertisers"]
        if theirs != ours and theirs in advertisers and ours in advertisers:
            owned = f"creative {creative.id} is advertiser {theirs}'s"
            yield Fault(steps, f"{owned}; the campaign is advertiser {ours}'s")

    def _times(self, item: LineItem, campaign: Campaign | None) -> Iterator[Fault]:
        flight = item.flight
        if flight.end <= flight.start:
            yield Fault(("flight", "end"), "must be later than the start")
        elif item.status == "active":
            if self._now_s is not None and flight.end.timestamp() <= self._now_s:
                yield Fault(("flight", "end"), "in the past: nothing serves", "warning")
            if campaign is not None and campaign.status == "paused":
                yield Fault(("campaign_id",), "the campaign is paused: nothing serves", "warning")
        yield from _zone_fault(item.time_zone)
        for position, daypart in enumerate(item.dayparts):
            if daypart.start_hour >= daypart.end_hour:
                yield Fault(("dayparts", position, "end_hour"), "must be later than start_hour")

    def _labels(self, item: LineItem, campaign: Campaign) -> Iterator[Fault]:
        advertiser = self._record("advertisers", campaign.advertiser_id)
        inherited = advertiser.labels if advertiser is not None else ()
        count = len({*item.labels, *campaign.labels, *inherited})
        if count > LABELS_MAX:
            message = f"{count} with the campaign's and the advertiser's; must be <= {LABELS_MAX}"
            yield Fault(("labels",), message)

    def _targeting(self, expression: Expression) -> Iterator[Fault]:
        steps = ("targeting",)
        try:
            if not normalise(expression).conjunctions:
                yield Fault(steps, "no request can match this: nothing serves", "warning")
        except ExpressionError:
            yield from _expression_faults(expression, steps)
        # Nearly all name only ids that exist, and the walk with steps takes four times as long.
        if self._names_unknown(expression):
            yield from self._ids(expression, steps)

    def _names_unknown(self, expression: Expression) -> bool:
        kind = _DIMENSION_KINDS.get(expression.dimension or "")
        if kind is not None:
            known = self._by_number[kind]
            listed = (*(expression.include or ()), *(expression.exclude or ()))
            return any(value not in known and _id(value) not in known for value in listed)
        parts = (*(expression.all or ()), *(expression.any or ()))
        inner = expression.not_
        return any(map(self._names_unknown, parts if inner is None else (*parts, inner)))

    def _ids(self, expression: Expression, steps: Steps) -> Iterator[Fault]:
        """Yield targeted sites, zones and ad types that the catalog does not have."""
        for field, part in _parts(expression):
            yield from self._ids(part, (*steps, *field))
        kind = _DIMENSION_KINDS.get(expression.dimension or "")
        for name in ("include", "exclude"):
            for position, value in enumerate(getattr(expression, name) or ()):
                number = _id(value)
                if kind is not None and number is not None:
                    yield from self._refer(kind, number, *steps, name, position)

    # -- creatives

    def _creative(self, creative: Creative) -> Iterator[Fault]:
        yield from self._refer("advertisers", creative.advertiser_id, "advertiser_id")
        yield from self._refer("ad_types", creative.ad_type_id, "ad_type_id")
        yield from _url(("click_url",), creative.click_url)
        yield from _click_macros(creative.click_url)
        content = creative.content
        if isinstance(content, Html):
            for name in dict.fromkeys(_MACRO.findall(content.body)):
                if name not in MACROS:
                    known = ", ".join(f"${{{macro}}}" for macro in MACROS)
                    message = f"unknown macro ${{{name}}}; there are {known}"
                    yield Fault(("content", "body"), message)
        elif isinstance(content, Image):
            yield from self._asset("url", content.url)
        elif isinstance(content, Native):
            yield from self._asset("image_url", content.image_url)
            yield from self._asset("icon_url", content.icon_url)

    def _asset(self, field: str, url: str | None) -> Iterator[Fault]:
        if url is None:
            return
        steps = ("content", field)
        if "://" in url:
            yield from _url(steps, url)
        elif self._account is not None and self._account.asset_base_url is None:
            yield Fault(steps, "a path needs account.asset_base_url; or write a whole URL")


# -- rules without a second record -----------------------------------------------------------------


def _duplicates(kind: str, entries: list[Entry]) -> Iterator[Fault]:
    first: dict[Any, int] = {}
    for position, (number, _) in enumerate(entries):
        if number is not None and first.setdefault(number, position) != position:
            message = f"{number} is taken by {kind}[{first[number]}]"
            steps = (kind, position, number_field(kind))
            yield Fault(steps, message, record=f"{KINDS[kind]} {number}")


def _zone_fault(name: str) -> Iterator[Fault]:
    if name not in zone_names():
        yield Fault(("time_zone",), f"no such time zone: {shown(name)}")


def _url(steps: Steps, url: str) -> Iterator[Fault]:
    """Find what the schema's pattern lets through: no host, no such port."""
    match = _HOST.match(url)
    if match is None or not 0 < int(match[1] or 80) <= _PORT_MAX:
        yield Fault(steps, f"not a URL with a host: {shown(url)}")


def _click_macros(url: str) -> Iterator[Fault]:
    steps = ("click_url",)
    before, _, query = url.partition("?")
    for name in dict.fromkeys(_MACRO.findall(url)):
        if name != CLICK_MACRO:
            yield Fault(steps, f"unknown macro ${{{name}}}; there is ${{{CLICK_MACRO}}}")
    # In a host it would choose who is visited, in a path what is found there.
    if CLICK_MACRO in _MACRO.findall(before):
        yield Fault(steps, f"${{{CLICK_MACRO}}} may only stand in the query")
    if _MACRO.findall(query).count(CLICK_MACRO) > CLICK_MACROS_MAX:
        yield Fault(steps, f"more than {CLICK_MACROS_MAX} times ${{{CLICK_MACRO}}}")


def _id(value: int | str) -> int | None:
    """Return the id that is meant; what is none is a fault of its expression."""
    text = str(value)
    return int(text) if text.isascii() and text.isdigit() else None


def _parts(expression: Expression) -> Iterator[tuple[Steps, Expression]]:
    for field in ("all", "any"):
        for position, part in enumerate(getattr(expression, field) or ()):
            yield (field, position), part
    if expression.not_ is not None:
        yield ("not",), expression.not_


def _expression_faults(expression: Expression, steps: Steps) -> Iterator[Fault]:
    """Yield all faults of an expression: its parts' own, or else that of their combination."""
    inner: list[Fault] = []
    for field, part in _parts(expression):
        inner += _expression_faults(part, (*steps, *field))
    if inner:
        yield from inner
        return
    try:
        normalise(expression)
    except ExpressionError as error:
        below = (int(n) if n else name for n, name in _STEP.findall(error.path))
        yield Fault((*steps, *below), error.message)
