"""A catalog becomes one buffer: line items in rank order, their rows, and the sections they lie in.

Lines are ranked by (priority, eCPM of an auction falling, line). A row is one conjunction of a
line's targeting; rows lie in rank order. What each section holds is written in tables.pxd, and
every number is checked again when an `Index` attaches to the buffer.
"""

import struct
from array import array
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from mmap import mmap
from typing import NamedTuple, TypeVar

from adcore import tables
from adcore.catalog import Campaign, Catalog, Cpa, Cpc, Cpm, Daypart, Flat, LineItem, Priority, Rate
from adcore.columns import Coded, Columns, Content
from adcore.expression import ExpressionError, normalise
from adcore.index import Index
from adcore.limits import ADS_MAX, LABELS_MAX, LINE_ITEMS_MAX, ROWS_MAX, WEIGHT_MAX
from adcore.zones import HOURS_PER_WEEK, zone_names

_HEADER = struct.Struct("<IIQIIII")
_SECTION = struct.Struct("<QQ")
_LINE_BEFORE_GROUP = struct.Struct("<qqqIII")
_GROUP_NUMBER = struct.Struct("<I")
_LINE_AFTER_GROUP = struct.Struct("<IIIIII")
_SERVICE = struct.Struct("<qqII")
_GROUP = struct.Struct("<IIII")
_AD = struct.Struct("<qqII")
_SCHEDULE = struct.Struct("<QQQII")

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND = timedelta(seconds=1)
_ALL_HOURS = (1 << HOURS_PER_WEEK) - 1
_WORD = (1 << 64) - 1
_WEEKDAYS = {day: n for n, day in enumerate(("mon", "tue", "wed", "thu", "fri", "sat", "sun"))}

T = TypeVar("T")


class LayoutError(ValueError):
    """The catalog can't be compiled; `line_item_id` says where, if a line item is at fault."""

    def __init__(self, message: str, line_item_id: int | None = None) -> None:
        super().__init__(
            message if line_item_id is None else f"line item {line_item_id}: {message}"
        )
        self.line_item_id = line_item_id


def compile(catalog: Catalog) -> Index:
    """Compile the catalog; LayoutError names the first line item that is at fault."""
    if len(catalog.line_items) > LINE_ITEMS_MAX:
        raise LayoutError(f"{len(catalog.line_items)} line items; at most {LINE_ITEMS_MAX} fit")
    layout = _Layout(catalog)
    second_price = catalog.account.auction == "second_price"
    return Index.attach(_joined(layout.sections(), layout.row_count, layout.labels, second_price))


class Price(NamedTuple):
    """What a rate is in the ranking; `ppm` turns an eCPM back into its unit, 0: don't."""

    ecpm_micros: int
    price_micros: int
    ppm: int


def price_of(rate: Rate) -> Price:
    match rate:
        case Cpm(price_micros):
            return Price(price_micros, price_micros, tables.PPM_CPM)
        case Cpc(price_micros, ppm) | Cpa(price_micros, ppm):
            return Price(price_micros * ppm // 1000, price_micros, ppm)
        case Flat(price_micros, value_cpm_micros):
            return Price(value_cpm_micros, price_micros, 0)


class _Booked(NamedTuple):
    """A line item made ready; sorts into rank order, and the first two fields are its group."""

    priority: int
    worst_first: int  # minus the eCPM; 0 in a lottery, where all are equals
    line: int
    before_group: bytes  # of its record
    after_group: bytes
    service: bytes
    rows: list[Coded]


class _Numbers(dict[T, int]):
    """Gives each new name the next number."""

    def __missing__(self, name: T) -> int:
        self[name] = len(self)
        return self[name]


class _Layout:
    """One compilation: sections under construction, and the numbers given out so far."""

    def __init__(self, catalog: Catalog) -> None:
        self.line_items = catalog.line_items
        self.priorities = {priority.number: priority for priority in catalog.priorities}
        self.campaigns = {campaign.id: campaign for campaign in catalog.campaigns}
        self.advertisers = {advertiser.id: advertiser for advertiser in catalog.advertisers}
        self.creatives = {creative.id: creative for creative in catalog.creatives}
        self.label_numbers: _Numbers[str] = _Numbers()
        self.zone_numbers: _Numbers[str] = _Numbers()
        self.schedule_numbers: _Numbers[tuple[int, int]] = _Numbers()
        self.lines = bytearray()
        self.services = bytearray()
        self.ads = bytearray()
        self.label_lists = array("I")
        self.row_ranks = array("I")
        self.columns = Columns()

    @property
    def row_count(self) -> int:
        return len(self.row_ranks)

    @property
    def labels(self) -> int:
        return len(self.label_numbers)

    def sections(self) -> dict[int, Content]:
        # In two passes, because records read in rank order would miss the caches all the time.
        booked = sorted(self._booked(number, item) for number, item in enumerate(self.line_items))
        if sum(len(line.rows) for line in booked) > ROWS_MAX:
            raise LayoutError(f"more than {ROWS_MAX} conjunctions in the catalog")
        groups: list[tuple[Priority, int]] = []  # with the end of its rows
        group_before = None
        for rank, line in enumerate(booked):
            for coded in line.rows:
                self.columns.add(self.row_count, coded)
                self.row_ranks.append(rank)
            if line[:2] != group_before:
                group_before = line[:2]
                groups.append((self.priorities[line.priority], 0))
            groups[-1] = (groups[-1][0], self.row_count)
            self.lines += line.before_group + _GROUP_NUMBER.pack(len(groups) - 1) + line.after_group
            self.services += line.service
        return {
            tables.LINES: self.lines,
            tables.SERVICES: self.services,
            tables.GROUPS: _groups(groups),
            tables.ROW_RANKS: self.row_ranks,
            tables.ADS: self.ads,
            tables.LABELS: self.label_lists,
            tables.SCHEDULES: _schedules(self.schedule_numbers),
            tables.ZONES: "\n".join(self.zone_numbers).encode(),
            **self.columns.sections(self.row_count),
        }

    def _booked(self, number: int, item: LineItem) -> _Booked:
        try:
            return self._book(number, item)
        except ExpressionError as error:
            path = f"targeting.{error.path}" if error.path else "targeting"
            raise LayoutError(f"{path}: {error.message}", item.id) from None
        except struct.error as error:
            raise LayoutError(f"a number is out of bounds: {error}", item.id) from None

    def _book(self, number: int, item: LineItem) -> _Booked:
        priority = _of(self.priorities, item.priority, "priority", item)
        campaign = _of(self.campaigns, item.campaign_id, "campaign", item)
        price = price_of(item.rate)
        if not 0 <= price.ecpm_micros <= tables.ECPM_MICROS_MAX or price.price_micros < 0:
            raise LayoutError("rate: out of bounds", item.id)
        _check_weight(item, item.weight)
        return _Booked(
            item.priority,
            0 if priority.selection == "lottery" else -price.ecpm_micros,
            number,
            _LINE_BEFORE_GROUP.pack(item.id, *price, item.weight, number),
            _LINE_AFTER_GROUP.pack(
                *self._ads(item), *self._labels(item, campaign), item.priority, 0
            ),
            self._service(item, campaign),
            [self.columns.coded(conjunction) for conjunction in normalise(item.targeting)],
        )

    def _ads(self, item: LineItem) -> tuple[int, int]:
        """Return the number of the first ad, and how many there are."""
        if not 0 < len(item.ads) <= ADS_MAX:
            raise LayoutError(f"{len(item.ads)} ads; from 1 to {ADS_MAX} fit", item.id)
        ad_first = len(self.ads) // _AD.size
        for ad in item.ads:
            creative = _of(self.creatives, ad.creative_id, "creative", item)
            _check_weight(item, ad.weight)
            self.ads += _AD.pack(creative.id, creative.ad_type_id, ad.weight, 0)
        return ad_first, len(item.ads)

    def _labels(self, item: LineItem, campaign: Campaign) -> tuple[int, int]:
        """Return the place of the first label in the list of all, and how many there are."""
        advertiser = _of(self.advertisers, campaign.advertiser_id, "advertiser", item)
        labels = dict.fromkeys((*item.labels, *campaign.labels, *advertiser.labels))
        if len(labels) > LABELS_MAX:
            raise LayoutError(
                f"{len(labels)} labels with its campaign's and advertiser's;"
                f" at most {LABELS_MAX} are allowed",
                item.id,
            )
        label_first = len(self.label_lists)
        self.label_lists.extend(self.label_numbers[label] for label in labels)
        return label_first, len(labels)

    def _service(self, item: LineItem, campaign: Campaign) -> bytes:
        start_s, end_s = _seconds(item, item.flight.start), _seconds(item, item.flight.end)
        if item.status != "active" or campaign.status != "active":
            end_s = start_s
        if item.time_zone not in zone_names():
            raise LayoutError(f"time_zone: no such zone: {item.time_zone!r}", item.id)
        zone = self.zone_numbers[item.time_zone]
        schedule = self.schedule_numbers[_hours(item.dayparts), zone]
        return _SERVICE.pack(start_s, end_s, schedule, 0)


def _of(records: Mapping[int, T], number: int, what: str, item: LineItem) -> T:
    try:
        return records[number]
    except KeyError:
        raise LayoutError(f"no such {what}: {number}", item.id) from None


def _check_weight(item: LineItem, weight: int) -> None:
    if not 0 < weight <= WEIGHT_MAX:
        raise LayoutError(f"weight: {weight} is not from 1 to {WEIGHT_MAX}", item.id)


def _seconds(item: LineItem, moment: datetime) -> int:
    """Round up: a whole second has reached the moment exactly if it has reached this one."""
    if moment.tzinfo is None:
        raise LayoutError("flight: a moment without an offset from UTC", item.id)
    return -((_EPOCH - moment) // _SECOND)


def _hours(dayparts: tuple[Daypart, ...]) -> int:
    """Return the bits of the week's hours in which any daypart holds; without dayparts all do."""
    hours = 0
    for daypart in dayparts:
        bits = (1 << daypart.end_hour) - (1 << daypart.start_hour)
        for day in daypart.days:
            hours |= max(bits, 0) << 24 * _WEEKDAYS[day]
    return hours if dayparts else _ALL_HOURS


def _schedules(numbers: Mapping[tuple[int, int], int]) -> bytes:
    return b"".join(
        _SCHEDULE.pack(hours & _WORD, hours >> 64 & _WORD, hours >> 128, zone, 0)
        for hours, zone in numbers
    )


def _groups(groups: list[tuple[Priority, int]]) -> bytes:
    tier_ends = {priority.number: row_end for priority, row_end in groups}
    return b"".join(
        _GROUP.pack(row_end, tier_ends[priority.number], priority.selection == "lottery", 0)
        for priority, row_end in groups
    )


def _joined(
    sections: Mapping[int, Content], row_count: int, label_count: int, second_price: bool
) -> memoryview:
    """Lay the sections one after another into page-aligned memory, read-only from here on."""
    offset = _HEADER.size + tables.SECTION_COUNT * _SECTION.size
    places = []
    for number in range(tables.SECTION_COUNT):
        offset += -offset % tables.SECTION_ALIGN
        size = memoryview(sections[number]).nbytes
        places.append((offset, size))
        offset += size
    # Anonymous memory, not bytes: it starts on a page, so bitmaps start on a cache line.
    buffer = mmap(-1, offset)
    buffer[: _HEADER.size] = _HEADER.pack(
        tables.MAGIC,
        tables.FORMAT_VERSION,
        offset,
        tables.SECTION_COUNT,
        row_count,
        label_count,
        second_price,
    )
    for number, (start, size) in enumerate(places):
        _SECTION.pack_into(buffer, _HEADER.size + number * _SECTION.size, start, size)
        buffer[start : start + size] = memoryview(sections[number]).cast("B")
    return memoryview(buffer).toreadonly()
