"""What is sold and what is shown: the schema of the catalog file and of the snapshot in Redis.

advertiser -> campaign -> line item (what is bought) -> creative (what is shown). Bounds are in
the types, so a decoded record is a valid record; what needs a second record (does campaign 7
exist?) is checked by `server.catalog.check`. Money is integer micros of the account's currency,
probability is ppm.
"""

from datetime import datetime
from typing import Annotated, Literal, TypeAlias, dataclass_transform

from msgspec import Meta, Struct

from adcore.limits import (
    ADS_MAX,
    LABELS_MAX,
    PRIORITY_MAX,
    VALUE_BYTES_MAX,
    VALUES_MAX,
    WEIGHT_MAX,
)
from adcore.zones import HOURS_PER_WEEK

SCHEMA_VERSION = 1
"""Raised when an older reader could misread a newer record; readers refuse unknown versions."""

# `$` alone would let one line feed pass at the end: a header injection, if it reached a Location.
_PRINTABLE = r"^[^\x00-\x1f\x7f]+$(?!\n)"
_HTTP_URL = r"^https?://[^\s\x00-\x20\x7f/@\\?#]+(:\d+)?([/?#][^\s\x00-\x20\x7f\\]*)?$(?!\n)"

Id: TypeAlias = Annotated[int, Meta(ge=1, le=2**63 - 1)]
Name: TypeAlias = Annotated[str, Meta(min_length=1, max_length=200, pattern=_PRINTABLE)]
Label: TypeAlias = Annotated[
    str, Meta(min_length=1, max_length=64, pattern=r"^[a-z0-9][a-z0-9_.-]*$(?!\n)")
]
Value: TypeAlias = Annotated[
    str, Meta(min_length=1, max_length=VALUE_BYTES_MAX, pattern=_PRINTABLE)
]
Micros: TypeAlias = Annotated[int, Meta(ge=0, le=10**15)]  # 10^9 units: no order is larger
Ppm: TypeAlias = Annotated[int, Meta(ge=0, le=1_000_000)]
Weight: TypeAlias = Annotated[int, Meta(ge=1, le=WEIGHT_MAX)]
Units: TypeAlias = Annotated[int, Meta(ge=1, le=10**12)]
ZoneName: TypeAlias = Annotated[str, Meta(min_length=1, max_length=64)]
CurveWeight: TypeAlias = Annotated[int, Meta(ge=0, le=1_000_000)]
Moment: TypeAlias = Annotated[datetime, Meta(tz=True)]
HttpUrl: TypeAlias = Annotated[str, Meta(max_length=2048, pattern=_HTTP_URL)]
Status: TypeAlias = Literal["active", "paused"]

FREQUENCY_IMPRESSIONS_MAX = 1000
CLICK_LOOKBACK_S_MAX = 30 * 86_400
VIEW_LOOKBACK_S_MAX = 86_400
"""What the trade reckons with where nothing else is agreed, and as far back as the ledger keeps
clicks and views: a conversion beyond could be nobody's."""


@dataclass_transform(frozen_default=True)  # for type checkers, which do not inherit `frozen`
class Record(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A catalog record: immutable, and an unknown field is a typing error, not an extension."""


# -- the account and the supply side ---------------------------------------------------------------


class Account(Record):
    name: Name
    currency: Annotated[str, Meta(pattern=r"^[A-Z]{3}$(?!\n)")]
    # Within one priority: the winner pays its own price, or one micro more than the next best eCPM.
    auction: Literal["first_price", "second_price"] = "first_price"
    # Creative URLs without a scheme are relative to this.
    asset_base_url: HttpUrl | None = None


class Priority(Record):
    """A tier: the smaller number is served first. Customary are 4, 6, 8, 10, 12 and 16."""

    number: Annotated[int, Meta(ge=1, le=PRIORITY_MAX)]
    name: Name
    # auction: highest eCPM first, equals by weighted lottery. lottery: all by weighted lottery.
    selection: Literal["auction", "lottery"] = "auction"


class AdType(Record):
    """A size, or another shape of ad; width and height are CSS pixels, 0 when the ad is fluid."""

    id: Id
    name: Name
    width: Annotated[int, Meta(ge=0, le=10_000)]
    height: Annotated[int, Meta(ge=0, le=10_000)]


class Site(Record):
    id: Id
    name: Name
    domain: Value


class Zone(Record):
    id: Id
    site_id: Id
    name: Name


# -- the demand side -------------------------------------------------------------------------------


class Advertiser(Record):
    id: Id
    name: Name
    domain: Value
    # Two winners of one request never share a label (competitive exclusion); inherited downwards.
    labels: Annotated[tuple[Label, ...], Meta(max_length=LABELS_MAX)] = ()


class Goal(Record):
    unit: Literal["impressions", "clicks", "conversions"]
    total: Units | None = None
    daily: Units | None = None


class Budget(Record):
    total_micros: Annotated[int, Meta(ge=1, le=10**15)] | None = None
    daily_micros: Annotated[int, Meta(ge=1, le=10**15)] | None = None


class Campaign(Record):
    id: Id
    advertiser_id: Id
    name: Name
    status: Status = "active"
    labels: Annotated[tuple[Label, ...], Meta(max_length=LABELS_MAX)] = ()
    # What its line items may reach and spend together, beside what each of them may.
    goal: Goal | None = None
    budget: Budget | None = None
    # Whose days `daily` means, here; a line item's own limits have the line item's.
    time_zone: ZoneName = "UTC"


class Cpm(Record, tag="cpm", tag_field="type"):
    """Price for 1000 impressions. eCPM = price."""

    price_micros: Micros


class Cpc(Record, tag="cpc", tag_field="type"):
    """Price for a click. eCPM = price x ctr x 1000, rounded down to a micro."""

    price_micros: Micros
    ctr_ppm: Ppm


class Cpa(Record, tag="cpa", tag_field="type"):
    """Price for a conversion. eCPM = price x conversions per impression x 1000, rounded down."""

    price_micros: Micros
    conversion_ppm: Ppm


class Flat(Record, tag="flat", tag_field="type"):
    """A fixed price for the whole flight; what it is worth in the ranking is said, not guessed."""

    price_micros: Micros
    value_cpm_micros: Micros


Rate: TypeAlias = Cpm | Cpc | Cpa | Flat


class Flight(Record):
    """Served from start (inclusive) to end (exclusive), both with an offset from UTC."""

    start: Moment
    end: Moment


class FrequencyCap(Record):
    """At most `impressions` to one user in any `window_s` seconds, counted over `scope`."""

    # Windows slide exactly because a user's last so many moments are kept, 4 bytes each, and read
    # with every request that such an ad could win: 1000 are 4 KB, and no cap that people set.
    impressions: Annotated[int, Meta(ge=1, le=FREQUENCY_IMPRESSIONS_MAX)]
    window_s: Annotated[int, Meta(ge=60, le=366 * 86_400)]
    scope: Literal["line_item", "campaign", "advertiser"] = "line_item"
    # Counted and checked in one step before the ad goes out. Otherwise requests of one user that
    # come at the same moment may all find room.
    strict: bool = False


Weekday: TypeAlias = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]


class Daypart(Record):
    """Whole hours from start_hour (inclusive) to end_hour (exclusive), in the item's time zone."""

    days: Annotated[tuple[Weekday, ...], Meta(min_length=1, max_length=7)]
    start_hour: Annotated[int, Meta(ge=0, le=23)]
    end_hour: Annotated[int, Meta(ge=1, le=24)]


Dimension: TypeAlias = Literal[
    "site", "zone", "placement", "ad_type",
    "country", "region", "metro", "city",
    "device", "os", "browser", "language", "domain", "connection",
    "keyword", "category", "segment",
]  # fmt: skip

Bound: TypeAlias = Annotated[float, Meta(ge=-(2.0**53), le=2.0**53)]  # integers stay exact


class Expression(Record, rename={"not_": "not"}):
    """A boolean expression over the request: exactly one of five forms.

    `{all: [...]}`, `{any: [...]}`, `{not: ...}` combine (`all: []` is true, `any: []` is false).
    `{dimension: country, include: [DE, AT]}` (or `exclude`) tests a first-class dimension;
    `{key: section, include: [sport]}` (or `exclude`) tests a free key-value, and
    `{key: age, at_least: 18, below: 35}` a number in it (either bound may be left out).

    include: at least one of the request's values is in the set. exclude: none is. So a
    dimension or key that the request does not have fails an include or a range and passes an
    exclude, and `not include` is `exclude`. Ids (site, zone, ad_type) are written as numbers or
    text.
    """

    all: Annotated[tuple["Expression", ...], Meta(max_length=VALUES_MAX)] | None = None
    any: Annotated[tuple["Expression", ...], Meta(max_length=VALUES_MAX)] | None = None
    not_: "Expression | None" = None
    dimension: Dimension | None = None
    key: Value | None = None
    include: Annotated[tuple[int | Value, ...], Meta(max_length=VALUES_MAX)] | None = None
    exclude: Annotated[tuple[int | Value, ...], Meta(max_length=VALUES_MAX)] | None = None
    at_least: Bound | None = None
    below: Bound | None = None


class Ad(Record):
    """A creative as booked on a line item; `weight` is its share among the line item's."""

    creative_id: Id
    weight: Weight = 100


class LineItem(Record, kw_only=True):
    id: Id
    campaign_id: Id
    name: Name
    status: Status = "active"
    priority: Annotated[int, Meta(ge=1, le=PRIORITY_MAX)]
    rate: Rate
    weight: Weight = 100
    goal: Goal | None = None
    budget: Budget | None = None
    flight: Flight
    time_zone: ZoneName = "UTC"
    dayparts: Annotated[tuple[Daypart, ...], Meta(max_length=168)] = ()
    pacing: Literal["even", "frontloaded", "asap", "custom"] = "even"
    # For `custom`: the share of each hour in the item's time zone, of a day (24 weights from 00:00)
    # or of a week (168 from Monday 00:00).
    pacing_curve: Annotated[tuple[CurveWeight, ...], Meta(max_length=HOURS_PER_WEEK)] = ()
    frequency_caps: Annotated[tuple[FrequencyCap, ...], Meta(max_length=8)] = ()
    # What to do when a user's counts can't be read in time.
    on_unknown: Literal["allow", "deny"] = "allow"
    # How long after a click, or after a view, a conversion is the ad's; 0: never.
    click_lookback_s: Annotated[int, Meta(ge=0, le=CLICK_LOOKBACK_S_MAX)] = CLICK_LOOKBACK_S_MAX
    view_lookback_s: Annotated[int, Meta(ge=0, le=VIEW_LOOKBACK_S_MAX)] = VIEW_LOOKBACK_S_MAX
    labels: Annotated[tuple[Label, ...], Meta(max_length=LABELS_MAX)] = ()
    targeting: Expression | None = None
    ads: Annotated[tuple[Ad, ...], Meta(min_length=1, max_length=ADS_MAX)]


# -- creatives -------------------------------------------------------------------------------------

# Absolute, or a path below Account.asset_base_url; never another scheme.
AssetUrl: TypeAlias = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=2048,
        pattern=r"^(https?://[^\s\\@]+|[A-Za-z0-9_.-][A-Za-z0-9_./-]*)$(?!\n)",
    ),
]


class Image(Record, tag="image", tag_field="type"):
    url: AssetUrl
    alt: Annotated[str, Meta(max_length=300)]


class Html(Record, tag="html", tag_field="type"):
    """Markup for an iframe; `${CLICK_URL}`, `${IMPRESSION_URL}`, `${CACHEBUSTER}` are filled."""

    body: Annotated[str, Meta(min_length=1, max_length=65_536)]


class Native(Record, kw_only=True, tag="native", tag_field="type"):
    """Parts that the page lays out itself."""

    title: Annotated[str, Meta(min_length=1, max_length=140)]
    body: Annotated[str, Meta(max_length=500)] = ""
    sponsored_by: Annotated[str, Meta(min_length=1, max_length=100)]
    cta: Annotated[str, Meta(max_length=30)] = ""
    image_url: AssetUrl | None = None
    icon_url: AssetUrl | None = None


Content: TypeAlias = Image | Html | Native

CLICK_MACRO = "CLICK_ID"
"""`${CLICK_ID}` in the query of a click URL becomes the click's token: the advertiser's word for
this click when it reports a conversion."""


class Creative(Record):
    id: Id
    advertiser_id: Id
    name: Name
    ad_type_id: Id
    click_url: HttpUrl
    content: Content


class Catalog(Record, kw_only=True):
    """Everything one account sells. Order has no meaning, except that it numbers lines and ads."""

    account: Account
    priorities: tuple[Priority, ...]
    ad_types: tuple[AdType, ...]
    sites: tuple[Site, ...]
    zones: tuple[Zone, ...] = ()
    advertisers: tuple[Advertiser, ...]
    campaigns: tuple[Campaign, ...]
    line_items: tuple[LineItem, ...]
    creatives: tuple[Creative, ...]
