"""A catalog that can not be compiled is refused by line item; a corrupt buffer never attaches."""

import mmap
import struct
from dataclasses import dataclass
from datetime import datetime
from random import Random
from typing import Any

import pytest

import adcore
from adcore import tables
from adcore.catalog import Ad, Advertiser, Campaign, Cpm, Daypart, Expression, Flight, LineItem
from adcore.layout import LayoutError
from adcore.limits import ADS_MAX, LABELS_MAX, WEIGHT_MAX
from adcore.request import Placement, Request
from tests import worlds
from tests.worlds import ALWAYS, MOMENTS, catalog_of, item

LABELS = tuple(f"label{n}" for n in range(LABELS_MAX))


# -- catalogs --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"targeting": Expression(not_=Expression())}, "targeting.not: needs exactly one"),
        ({"targeting": Expression()}, "targeting: needs exactly one"),
        ({"campaign_id": 9}, "no such campaign: 9"),
        ({"priority": 5}, "no such priority: 5"),
        ({"ads": (Ad(1), Ad(99))}, "no such creative: 99"),
        ({"ads": ()}, "0 ads"),
        ({"ads": (Ad(1),) * (ADS_MAX + 1)}, "65 ads"),
        ({"ads": (Ad(1, weight=0),)}, "weight: 0"),
        ({"weight": WEIGHT_MAX + 1}, "weight: 1000001"),
        ({"rate": Cpm(-1)}, "rate: out of bounds"),
        ({"rate": Cpm(10**18 + 1)}, "rate: out of bounds"),
        ({"labels": (*LABELS, "one more")}, "9 labels"),
        ({"time_zone": "Europe/Atlantis"}, "no such zone: 'Europe/Atlantis'"),
        ({"time_zone": "../../etc/passwd"}, "no such zone"),
        ({"flight": Flight(datetime(2026, 1, 1), ALWAYS.end)}, "without an offset"),
        ({"id": 2**63}, "a number is out of bounds"),
    ],
)
def test_a_line_item_that_can_not_be_compiled_is_named(
    fields: dict[str, Any], message: str
) -> None:
    bad = item(**({"number": 7} | fields)) if "id" not in fields else item(fields["id"])
    with pytest.raises(LayoutError) as raised:
        adcore.compile(catalog_of(item(1), bad, item(3)))
    assert message in str(raised.value)
    assert raised.value.line_item_id == bad.id


def test_an_id_is_of_one_line_item() -> None:
    """Plans and stops are for ids: one of the two would have run on."""
    message = r"line_items\[3\]: has the id of line_items\[1\]"
    with pytest.raises(LayoutError, match=message) as raised:
        adcore.compile(catalog_of(item(1), item(7), item(3), item(7)))
    assert raised.value.line_item_id == 7


def test_labels_of_the_campaign_and_the_advertiser_count_once_and_together() -> None:
    records = {
        "advertisers": (Advertiser(1, "advertiser", "a.example", labels=("top", *LABELS[:3])),),
        "campaigns": (Campaign(1, 1, "campaign", labels=LABELS[:5]),),
    }
    adcore.compile(catalog_of(item(1, labels=LABELS[4:7]), **records))
    with pytest.raises(LayoutError, match="9 labels with its campaign's and advertiser's"):
        adcore.compile(catalog_of(item(1, labels=LABELS[4:8]), **records))


def test_an_advertiser_that_is_missing_is_named() -> None:
    with pytest.raises(LayoutError, match="no such advertiser: 1"):
        adcore.compile(catalog_of(item(1), advertisers=()))


def test_the_same_catalog_gives_the_same_bytes() -> None:
    catalog = worlds.world(Random(11)).catalog
    assert bytes(adcore.compile(catalog).buffer) == bytes(adcore.compile(catalog).buffer)


def test_a_daypart_that_ends_before_it_starts_is_never() -> None:
    """The catalog's checker refuses it; the engine must only not be led astray by it."""
    index = adcore.compile(catalog_of(item(1, dayparts=(Daypart(("mon",), 9, 8),))))
    assert all(index.live(now_s).count == 0 for now_s in MOMENTS)


# -- buffers ---------------------------------------------------------------------------------------

HEADER = struct.Struct("<IIQIIII")
SECTION = struct.Struct("<QQ")


@dataclass
class Buffer:
    """A compiled catalog with something in every section."""

    content: bytes
    requests: list[Request]

    def sections(self) -> list[tuple[int, int]]:
        return [
            SECTION.unpack_from(self.content, HEADER.size + number * SECTION.size)
            for number in range(tables.SECTION_COUNT)
        ]

    def changed(self, place: int, new: bytes) -> bytes:
        return self.content[:place] + new + self.content[place + len(new) :]


@pytest.fixture(scope="module")
def buffer() -> Buffer:
    rng = Random(3)
    items: list[LineItem] = [worlds.line_item(rng, number) for number in range(60)]
    dense = [item(n, n, targeting=Expression(dimension="os", include=("a",))) for n in range(1, 30)]
    world = worlds.world(rng)
    catalog = catalog_of(
        *items,
        *dense,
        campaigns=world.catalog.campaigns,
        advertisers=world.catalog.advertisers,
        creatives=world.catalog.creatives,
    )
    made = Buffer(bytes(adcore.compile(catalog).buffer), [worlds.request(rng) for _ in range(20)])
    assert all(size for _, size in made.sections()), "an empty section tests nothing"
    return made


def refuse(content: bytes) -> None:
    with pytest.raises(ValueError, match="compiled catalog: "):
        adcore.Index.attach(content)


@pytest.mark.parametrize("checked", [False, True])
def test_attach_gives_the_same_index(buffer: Buffer, tmp_path: Any, checked: bool) -> None:
    path = tmp_path / "catalog.idx"
    path.write_bytes(buffer.content)
    with path.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    one, two = adcore.Index.attach(buffer.content), adcore.Index.attach(mapped, checked=checked)
    assert bytes(two.buffer) == buffer.content
    assert two.buffer.readonly
    assert two.nbytes == len(buffer.content)
    for now_s in MOMENTS[:8]:
        live, live_two = one.live(now_s), two.live(now_s)
        assert live.count == live_two.count
        for request in buffer.requests:
            answer, answer_two = one.select(request, live, 9), two.select(request, live_two, 9)
            assert repr(answer) == repr(answer_two)
            assert one.matching(request, live) == two.matching(request, live_two)
    with pytest.raises(BufferError):
        mapped.close()  # the Index keeps what it stands on


@pytest.mark.parametrize("number", range(tables.SECTION_COUNT))
def test_truncation_at_any_section_is_refused(buffer: Buffer, number: int) -> None:
    offset, size = buffer.sections()[number]
    for end in (offset, offset + 1, offset + size - 1):
        if end < len(buffer.content):
            refuse(buffer.content[:end])
            # A header that agrees with the shorter length does not help.
            refuse(buffer.changed(8, struct.pack("<Q", end))[:end])


def test_every_byte_of_the_header_counts(buffer: Buffer) -> None:
    for place in range(HEADER.size):
        for bit in (0x01, 0x80):
            new = bytes([buffer.content[place] ^ bit])
            try:
                index = adcore.Index.attach(buffer.changed(place, new))
            except ValueError as error:
                assert str(error).startswith("compiled catalog: ")
            else:
                # Two fields have more than one sound value: any number of labels that no line
                # reaches, and the kind of auction.
                assert place >= HEADER.size - 8
                exercise(index, buffer)


@pytest.mark.parametrize("number", range(tables.SECTION_COUNT))
@pytest.mark.parametrize("part", [0, 1], ids=["offset", "size"])
def test_a_section_that_reaches_elsewhere_is_refused(
    buffer: Buffer, number: int, part: int
) -> None:
    place = HEADER.size + number * SECTION.size + part * 8
    for value in (2**64 - 1, 2**64 - 64, len(buffer.content), len(buffer.content) + 64, 2**40, 1):
        if value != buffer.sections()[number][part]:
            content = buffer.changed(place, struct.pack("<Q", value))
            try:
                index = adcore.Index.attach(content)
            except ValueError:
                continue
            # A shorter run of names or texts can be sound; then it must also be safe.
            assert tables.RECORD_BYTES[number] == 1
            exercise(index, buffer)


U16, U32, I64 = "<H", "<I", "<q"
HUGE = 2**32 - 1


@pytest.mark.parametrize(
    ("section", "offset", "kind", "value"),
    [
        (tables.LINES, 8, I64, -1), (tables.LINES, 8, I64, tables.ECPM_MICROS_MAX + 1),
        (tables.LINES, 16, I64, -1), (tables.LINES, 24, U32, HUGE), (tables.LINES, 28, U32, HUGE),
        (tables.LINES, 28, U32, 5), (tables.LINES, 32, U32, HUGE), (tables.LINES, 36, U32, HUGE),
        (tables.SETTINGS, 16, U32, HUGE), (tables.SETTINGS, 24, U32, 0),
        (tables.SETTINGS, 24, U32, HUGE), (tables.SETTINGS, 28, U32, 0),
        (tables.SETTINGS, 28, U32, ADS_MAX + 1), (tables.SETTINGS, 32, U32, HUGE),
        (tables.SETTINGS, 36, U32, LABELS_MAX + 1),
        (tables.GROUPS, 0, U32, HUGE), (tables.GROUPS, 4, U32, HUGE),
        (tables.TIERS, 0, U32, HUGE), (tables.TIERS, 4, U32, 2),
        (tables.ROW_RANKS, 0, U32, 3), (tables.ROW_RANKS, 0, U32, HUGE), (tables.ADS, 0, U32, HUGE),
        (tables.ADS, 4, U32, 0), (tables.LABELS, 0, U32, HUGE), (tables.POSTINGS, 12, U16, 600),
        (tables.POSTING_ROWS, 0, U32, HUGE), (tables.FEATURES, 12, U32, HUGE),
        (tables.FEATURES, 16, U32, HUGE), (tables.FEATURES, 20, U16, 257),
        (tables.FEATURES, 22, U16, 600), (tables.TERM_FIRSTS, 0, U32, HUGE),
        (tables.TERMS, 0, U32, HUGE), (tables.TERMS, 0, U32, HUGE >> 1),
        (tables.PREDICATES, 4, U32, HUGE), (tables.PREDICATES, 4, U32, 0),
        (tables.PREDICATE_BYTES, 0, U32, HUGE),
        (tables.CHECKED, 0, I64, -1), (tables.CHECKED_ROWS, 0, U32, HUGE),
        (tables.CHECK_FIRSTS, 0, U32, HUGE), (tables.CHECKS, 0, U32, HUGE),
        (tables.CHECKS, 0, U32, HUGE >> 2), (tables.CHECKS, 0, U32, HUGE >> 1),
        (tables.RANGES, 20, U32, 2), (tables.ZONES, 0, U32, 0),
    ],
)  # fmt: skip
def test_a_number_out_of_bounds_is_refused(
    buffer: Buffer, section: int, offset: int, kind: str, value: int
) -> None:
    place = buffer.sections()[section][0] + offset
    refuse(buffer.changed(place, struct.pack(kind, value)))


def postings(buffer: Buffer, *, bitmap: bool) -> tuple[int, tuple[int, ...]]:
    """Return the place and the fields of the first list of several rows, or of the first bitmap."""
    start, size = buffer.sections()[tables.POSTINGS]
    for place in range(start, start + size, 16):
        fields = struct.unpack_from("<3I2H", buffer.content, place)
        if fields[4] == bitmap and fields[1] > 1:
            return place, fields
    raise AssertionError("no such posting")


def test_a_posting_out_of_bounds_or_order_is_refused(buffer: Buffer) -> None:
    place, (row_first, row_count, best_row, *_) = postings(buffer, bitmap=False)
    refuse(buffer.changed(place, struct.pack(U32, HUGE)))
    refuse(buffer.changed(place + 4, struct.pack(U32, HUGE)))
    refuse(buffer.changed(place + 8, struct.pack(U32, best_row + 1)))
    rows = buffer.sections()[tables.POSTING_ROWS][0] + 4 * row_first
    listed = struct.unpack_from(f"<{row_count}I", buffer.content, rows)
    refuse(buffer.changed(rows, struct.pack(f"<{row_count}I", *reversed(listed))))
    refuse(buffer.changed(rows, struct.pack("<2I", listed[0], listed[0])))
    place, _ = postings(buffer, bitmap=True)
    refuse(buffer.changed(place, struct.pack(U32, HUGE)))
    refuse(buffer.changed(place + 8, struct.pack(U32, 1)))


def test_a_long_text_out_of_bounds_is_refused(buffer: Buffer) -> None:
    start, size = buffer.sections()[tables.FEATURES]
    texts = buffer.sections()[tables.TEXTS][1]
    long = [
        place
        for place in range(start, start + size, 24)
        if struct.unpack_from(U16, buffer.content, place + 20)[0] > 8
    ]
    for first in (texts, texts - 8, HUGE, 2**63):
        refuse(buffer.changed(long[0], struct.pack("<Q", first)))


def test_a_value_table_without_a_free_slot_is_refused(buffer: Buffer) -> None:
    """A lookup walks to the next free slot, so there must be one."""
    start, size = buffer.sections()[tables.SLOTS]
    refuse(buffer.changed(start, struct.pack(U32, 1) * (size // 4)))
    refuse(buffer.changed(start, struct.pack(U32, HUGE)))
    refuse(buffer.changed(start, struct.pack(U32, size // 4)))  # the number is missing


def exercise(index: adcore.Index, buffer: Buffer) -> None:
    """Use every table; what comes out of a damaged one is anything, but it comes."""
    for now_s in MOMENTS[:2]:
        live = index.live(now_s)
        for request in buffer.requests:
            index.select(request, live, 2**63)
            index.select(Request([Placement("a", count=20)] * 2, os="a"), live, 5)


def test_a_damaged_record_is_refused_or_harmless(buffer: Buffer) -> None:
    """Random damage in every section; the ASan build sees any access that is out of bounds."""
    rng = Random(17)
    refused = 0
    for offset, size in buffer.sections():
        for _ in range(60):
            place = offset + rng.randrange(size)
            width = min(rng.choice((1, 4, 8)), offset + size - place)
            content = buffer.changed(place, rng.choice((b"\0", b"\xff", b"\x7f")) * width)
            try:
                index = adcore.Index.attach(content)
            except ValueError:
                refused += 1
            else:
                exercise(index, buffer)
    assert refused > 200


def test_a_buffer_must_be_read_only_contiguous_and_aligned(buffer: Buffer) -> None:
    with pytest.raises(ValueError, match="read-only"):
        adcore.Index.attach(bytearray(buffer.content))
    with pytest.raises(ValueError, match="aligned"):
        adcore.Index.attach(memoryview(b"1" + buffer.content)[1:])
    with pytest.raises(BufferError):
        adcore.Index.attach(memoryview(buffer.content)[::2])
    with pytest.raises(TypeError):
        adcore.Index.attach(None)
    for content in (b"", b"\0" * 7, b"\0" * 4096):
        refuse(content)
