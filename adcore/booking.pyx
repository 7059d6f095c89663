"""Line items become records: the half of compiling that reads Python objects.

It holds the GIL, and lets go of it every few line items so that other threads can have their turn.
"""

cimport cython
from cpython.datetime cimport (
    PyDateTime_Check, datetime, datetime_day, datetime_hour, datetime_microsecond, datetime_minute,
    datetime_month, datetime_second, datetime_tzinfo, datetime_year, import_datetime,
)
from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t

from adcore.limits cimport ADS_MAX, LABELS_MAX, PRIORITY_MAX, ROWS_MAX, WEIGHT_MAX
from adcore.tables cimport ECPM_MAX, PPM_CPM, Ad, Creative, Settings
from adcore.targeting cimport Rows
from adcore.vector cimport Vector

from datetime import UTC, timedelta
from datetime import datetime as DateTime

from adcore.catalog import Cpa, Cpc, Cpm, Flat
from adcore.expression import ExpressionError
from adcore.zones import HOURS_PER_WEEK, zone_names

import_datetime()

cdef enum:
    ITEMS_A_TURN = 64   # of the GIL: well below a millisecond
    DAY_S = 86_400

cdef object EPOCH = DateTime(1970, 1, 1, tzinfo=UTC)
cdef object SECOND = timedelta(seconds=1)
cdef object ALL_HOURS = (1 << HOURS_PER_WEEK) - 1
cdef dict WEEKDAYS = {
    day: n for n, day in enumerate(("mon", "tue", "wed", "thu", "fri", "sat", "sun"))
}


class LayoutError(ValueError):
    """The catalog can't be compiled; `line_item_id` says where, if a line item is at fault."""

    def __init__(self, message, line_item_id=None):
        super().__init__(
            message if line_item_id is None else f"line item {line_item_id}: {message}"
        )
        self.line_item_id = line_item_id


@cython.final
@cython.auto_pickle(False)
cdef class Booking:
    """All line items of a catalog as records, in the order of booking."""

    def __init__(self, catalog):
        self.second_price = catalog.account.auction == "second_price"
        self.line_numbers = {}
        self.priorities = {priority.number: priority for priority in catalog.priorities}
        self.campaigns = {campaign.id: campaign for campaign in catalog.campaigns}
        self.campaign_labels = {}
        self.advertisers = {advertiser.id: advertiser for advertiser in catalog.advertisers}
        self.creatives_by_id = {creative.id: creative for creative in catalog.creatives}
        self.creative_numbers = {}
        self.settings_numbers = {}
        self.label_firsts = {}
        self.label_numbers = {}
        self.zone_numbers = {}
        self.schedule_numbers = {}
        self.all_zones = zone_names()
        self.rows = Rows()
        self.lines = Vector()
        self.ads = Vector()
        self.creatives = Vector()
        self.labels = Vector()
        for number, priority in self.priorities.items():
            if 0 <= number <= PRIORITY_MAX and priority.selection == "lottery":
                self.lotteries[number >> 6] |= <uint64_t> 1 << (number & 63)

    def book(self, line_items):
        cdef uint32_t turn = 0
        for item in line_items:
            try:
                self._book(item)
            except ExpressionError as error:
                path = f"targeting.{error.path}" if error.path else "targeting"
                raise LayoutError(f"{path}: {error.message}", item.id) from None
            except OverflowError as error:
                raise LayoutError(f"a number is out of bounds: {error}", item.id) from None
            turn += 1
            if turn % ITEMS_A_TURN == 0:
                with nogil:
                    pass

    cdef uint32_t line_count(self) noexcept:
        return <uint32_t> (self.lines.bytes // sizeof(Booked))

    cdef bint lottery(self, uint32_t priority) noexcept nogil:
        return self.lotteries[priority >> 6] >> (priority & 63) & 1

    cdef int _book(self, object item) except -1:
        cdef Booked booked
        cdef Settings settings
        cdef Price price
        number = self.line_count()
        other = self.line_numbers.setdefault(item.id, number)
        if other != number:
            # A stop or a plan is for an id, and would reach one of them only.
            raise LayoutError(f"line_items[{number}]: has the id of line_items[{other}]", item.id)
        booked.priority = self._priority(item)
        campaign = _of(self.campaigns, item.campaign_id, "campaign", item)
        price = _price(item.rate)
        if not 0 <= price.ecpm_micros <= <int64_t> ECPM_MAX or price.price_micros < 0:
            raise LayoutError("rate: out of bounds", item.id)
        booked.line.line_item_id = item.id
        booked.line.ecpm_micros = price.ecpm_micros
        booked.line.price_micros = price.price_micros
        booked.line.line = number
        booked.line.group = 0
        booked.line.ad_first = <uint32_t> (self.ads.bytes // sizeof(Ad))
        settings.ppm = price.ppm
        settings.by_event = type(item.rate) is Cpc or type(item.rate) is Cpa
        settings.weight = _weight(item, item.weight)
        settings.ad_count = self._ads(item)
        self._labels(item, campaign, &settings)
        self._service(item, campaign, &settings)
        booked.line.settings = _number(
            self.settings_numbers, (<char*> &settings)[:sizeof(Settings)])
        booked.row_first = self.rows.count()
        self.rows.add(item.targeting)
        booked.row_count = self.rows.count() - booked.row_first
        if self.rows.count() > ROWS_MAX:
            raise LayoutError(f"more than {ROWS_MAX} conjunctions in the catalog")
        (<Booked*> self.lines.extend(sizeof(Booked)))[0] = booked
        return 0

    cdef uint32_t _priority(self, object item) except? 0xFFFFFFFF:
        number = item.priority
        _of(self.priorities, number, "priority", item)
        if not 0 <= number <= PRIORITY_MAX:
            raise LayoutError(f"priority: {number} is not from 0 to {PRIORITY_MAX}", item.id)
        return number

    cdef int _ads(self, object item) except -1:
        """Add the line item's ads, and return how many they are."""
        cdef tuple booked = item.ads
        cdef Ad* ad
        if not 0 < len(booked) <= ADS_MAX:
            raise LayoutError(f"{len(booked)} ads; from 1 to {ADS_MAX} fit", item.id)
        for listed in booked:
            ad = <Ad*> self.ads.extend(sizeof(Ad))
            ad.creative = self._creative(item, listed.creative_id)
            ad.weight = _weight(item, listed.weight)
        return <int> len(booked)

    cdef uint32_t _creative(self, object item, object creative_id) except? 0xFFFFFFFF:
        cdef Creative* added
        number = self.creative_numbers.get(creative_id)
        if number is not None:
            return number
        creative = _of(self.creatives_by_id, creative_id, "creative", item)
        added = <Creative*> self.creatives.extend(sizeof(Creative))
        added.creative_id = creative_id
        added.ad_type_id = creative.ad_type_id
        return _number(self.creative_numbers, creative_id)

    cdef int _labels(self, object item, object campaign, Settings* settings) except -1:
        cdef tuple labels = self._labels_of(item, campaign)
        if len(labels) > LABELS_MAX:
            raise LayoutError(
                f"{len(labels)} labels with its campaign's and advertiser's;"
                f" at most {LABELS_MAX} are allowed",
                item.id,
            )
        settings.label_count = <uint16_t> len(labels)
        first = self.label_firsts.get(labels)
        if first is None:
            first = self.labels.bytes // sizeof(uint32_t)
            self.label_firsts[labels] = first
            for label in labels:
                (<uint32_t*> self.labels.extend(sizeof(uint32_t)))[0] = _number(
                    self.label_numbers, label)
        settings.label_first = first
        return 0

    cdef tuple _labels_of(self, object item, object campaign):
        """Return the labels of the line item, its campaign and its advertiser, each once."""
        inherited = self.campaign_labels.get(campaign.id)
        if inherited is None:
            advertiser = _of(self.advertisers, campaign.advertiser_id, "advertiser", item)
            inherited = (*campaign.labels, *advertiser.labels)
            self.campaign_labels[campaign.id] = inherited
        own = item.labels
        return tuple(dict.fromkeys((*own, *inherited))) if own or inherited else ()

    cdef int _service(self, object item, object campaign, Settings* settings) except -1:
        flight = item.flight
        settings.start_s = _seconds(item, flight.start)
        settings.end_s = _seconds(item, flight.end)
        if item.status != "active" or campaign.status != "active":
            settings.end_s = settings.start_s
        time_zone = item.time_zone
        if time_zone not in self.all_zones:
            raise LayoutError(f"time_zone: no such zone: {time_zone!r}", item.id)
        zone = _number(self.zone_numbers, time_zone)
        dayparts = item.dayparts
        hours = _hours(dayparts) if dayparts else ALL_HOURS
        settings.schedule = _number(self.schedule_numbers, (hours, zone))
        return 0


def ecpm_micros(rate):
    return _price(rate).ecpm_micros


cdef Price _price(object rate) except *:
    """What a rate is in the ranking; a number that is out of bounds may raise OverflowError."""
    kind = type(rate)
    micros = rate.price_micros
    if kind is Cpm:
        return Price(micros, micros, PPM_CPM)
    if kind is Flat:
        return Price(rate.value_cpm_micros, micros, 0)
    assert kind is Cpc or kind is Cpa
    ppm = rate.ctr_ppm if kind is Cpc else rate.conversion_ppm
    return Price(micros * ppm // 1000, micros, ppm)


cdef inline object _of(dict records, object number, str what, object item):
    record = records.get(number)
    if record is None:
        raise LayoutError(f"no such {what}: {number}", item.id)
    return record


cdef inline uint32_t _number(dict numbers, object name) except? 0xFFFFFFFF:
    """Give each new name the next number."""
    number = numbers.get(name)
    if number is None:
        number = len(numbers)
        numbers[name] = number
    return number


cdef inline uint32_t _weight(object item, object weight) except? 0xFFFFFFFF:
    if not 0 < weight <= WEIGHT_MAX:
        raise LayoutError(f"weight: {weight} is not from 1 to {WEIGHT_MAX}", item.id)
    return weight


cdef int64_t _seconds(object item, object moment) except? -1:
    """Round up: a whole second has reached the moment exactly if it has reached this one."""
    cdef datetime exact
    cdef int64_t days
    if moment.tzinfo is None:
        raise LayoutError("flight: a moment without an offset from UTC", item.id)
    if not PyDateTime_Check(moment) or datetime_tzinfo(moment) is not UTC:
        return -((EPOCH - moment) // SECOND)
    exact = moment
    days = _days(datetime_year(exact), datetime_month(exact), datetime_day(exact))
    return days * DAY_S + datetime_hour(exact) * 3600 + datetime_minute(exact) * 60 \
        + datetime_second(exact) + (datetime_microsecond(exact) > 0)


cdef int64_t _days(int64_t year, int64_t month, int64_t day) noexcept nogil:
    """Days since 1970-01-01; years are taken to begin in March, so that a leap day ends them."""
    cdef int64_t shifted = year - (month <= 2)
    cdef int64_t day_of_year = (153 * (month + (9 if month <= 2 else -3)) + 2) // 5 + day - 1
    return 365 * shifted + shifted // 4 - shifted // 100 + shifted // 400 + day_of_year - 719_468


cdef object _hours(tuple dayparts):
    """Return the bits of the week's hours in which any daypart holds."""
    hours = 0
    for daypart in dayparts:
        bits = max((1 << daypart.end_hour) - (1 << daypart.start_hour), 0)
        for day in daypart.days:
            hours |= bits << 24 * <int> WEEKDAYS[day]
    return hours
