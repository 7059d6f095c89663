"""The snapshot file: what the loader writes and every worker of the server maps.

    ┌───────┬───────────┬──────┬────────┬────────────┬───────────┬───────────┬──────────┬───────┐
    │ magic │ size, CRC │ head │ index  │ ads        │ clicks    │ lookbacks │ accounts │ names │
    │ 8 B   │ of head   │ Head │ adcore │ AdTemplate │ click URL │ 2 u32     │ Account  │ JSON  │
    └───────┴───────────┴──────┴────────┴────────────┴───────────┴───────────┴──────────┴───────┘

The head has the first page. Sections start on 64 bytes. `ads`, `clicks`, `caps` and `accounts` are
tables: a count, n + 1 offsets (u64), then the records. An ad is found by its number; a click URL by
creative id, in a sorted column of ids of its own; so are a line item's lookbacks, where they are
not the usual ones, its frequency caps and who shares one, and its accounts, where it has any: then
it may serve on a lease only. Nothing is decoded when a worker opens the file, so that a swap costs
it little however large the catalog is; nor is the index checked there, which would read all of it
beside the answers: the bytes are those that the loader has just built and checked, and a file gets
its name when it is whole. No table is in memory while it is written: ads of a million line items
take 1.3 GB. The file is private to one machine: numbers have its byte order.
"""

import mmap
import os
import struct
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, Final
from zlib import crc32

import msgspec
from msgspec import Struct

from adcore import Catalog, Index
from adcore import compile as compile_index
from server.delivery import cap_records
from server.delivery.cap_records import LineCaps
from server.delivery.conversions import Lookbacks
from server.delivery.render import AdTemplate, Renderer
from server.errors import SnapshotError
from server.pacing.accounts import Account, accounts_of

MAGIC: Final = b"adcore\x00\x04"
_PREFIX: Final = struct.Struct("<8sII")  # magic, the head's size and CRC-32
_ALIGNMENT: Final = 64  # a cache line: the index relies on it
_HEAD_ROOM_BYTES: Final = 4096  # with what is before it; 14 sections take 400
_BUFFER_BYTES: Final = 1 << 20  # of the file being written: records are a few hundred bytes
_NUMBER_BYTES: Final = 8
_NO_IDS: Final = memoryview(b"").cast("Q")

_encode = msgspec.msgpack.Encoder().encode
_decode_ad = msgspec.msgpack.Decoder(AdTemplate).decode
_decode_accounts = msgspec.msgpack.Decoder(tuple[Account, ...]).decode


class Head(Struct, frozen=True, kw_only=True):
    generation: int
    line_items: int
    built_at_s: int
    sections: dict[str, tuple[int, int]]  # name -> offset in the file, size in bytes


def write(path: Path, catalog: Catalog, base_url: str, head: Head) -> None:
    """Builds the file beside `path` and renames it, so that a reader never sees half of one.

    Raises `adcore.layout.LayoutError` for a catalog that the engine can't take.
    """
    sections = _sections(catalog, base_url)
    temporary = path.with_suffix(".tmp")
    try:
        with temporary.open("wb", buffering=_BUFFER_BYTES) as file:
            placed = {}
            file.seek(_HEAD_ROOM_BYTES)
            for name, put in sections:
                start = file.seek(_aligned(file.tell()))
                put(file)
                placed[name] = (start, file.tell() - start)
            file.truncate(_aligned(file.tell()))
            encoded = _encode(msgspec.structs.replace(head, sections=placed))
            file.seek(0)
            file.write(_PREFIX.pack(MAGIC, len(encoded), crc32(encoded)) + encoded)
        temporary.rename(path)
    except BaseException:
        temporary.unlink(missing_ok=True)  # where memory is the disk, half a file is half of it
        raise


def _sections(catalog: Catalog, base_url: str) -> Iterator[tuple[str, Callable[[BinaryIO], Any]]]:
    """Each section's name, and what writes it into the file; one at a time is in memory."""
    index = compile_index(catalog).buffer
    yield "index", lambda file: file.write(index)
    renderer = Renderer(catalog, base_url)
    ads = (
        _encode(renderer.template(line_item, ad.creative_id))
        for line_item in catalog.line_items
        for ad in line_item.ads
    )
    ad_count = sum(len(line_item.ads) for line_item in catalog.line_items)
    yield "ads", partial(_write_table, ad_count, ads)
    clicks = {creative.id: creative.click_url for creative in catalog.creatives}
    creative_ids = array("Q", sorted(clicks))
    yield "creative_ids", lambda file: file.write(creative_ids)
    urls = (clicks[creative_id].encode() for creative_id in creative_ids)
    yield "clicks", partial(_write_table, len(clicks), urls)
    lookbacks = _lookbacks(catalog)
    line_item_ids = array("Q", sorted(lookbacks))
    yield "line_item_ids", lambda file: file.write(line_item_ids)
    pairs = array("I", chain(*(lookbacks[id_] for id_ in line_item_ids)))
    yield "lookbacks", lambda file: file.write(pairs)
    caps = cap_records.line_caps(catalog)
    capped_ids = array("Q", sorted(caps))
    yield "capped_ids", lambda file: file.write(capped_ids)
    encoded = (cap_records.encode(caps[id_]) for id_ in capped_ids)
    yield "caps", partial(_write_table, len(caps), encoded)
    members = cap_records.members(caps)
    cap_ids = array("Q", sorted(members))
    yield "cap_ids", lambda file: file.write(cap_ids)
    sharing = (array("Q", members[id_]).tobytes() for id_ in cap_ids)
    yield "cap_members", partial(_write_table, len(members), sharing)
    accounts = accounts_of(catalog)
    leased_ids = array("Q", sorted(accounts))
    yield "leased_ids", lambda file: file.write(leased_ids)
    lines = {line_item.id: line for line, line_item in enumerate(catalog.line_items)}
    leased_lines = array("I", (lines[id_] for id_ in leased_ids))
    yield "leased_lines", lambda file: file.write(leased_lines)
    records = (_encode(accounts[id_]) for id_ in leased_ids)
    yield "accounts", partial(_write_table, len(accounts), records)
    names = msgspec.json.encode(_names(catalog))
    yield "names", lambda file: file.write(names)


def _write_table(count: int, records: Iterable[bytes], file: BinaryIO) -> None:
    """Write the records as they come, and then the offsets before them."""
    start = file.tell()
    file.seek(start + _NUMBER_BYTES * (count + 2))
    offsets = array("Q", [0])
    for record in records:
        offsets.append(offsets[-1] + file.write(record))
    end = file.tell()
    file.seek(start)
    file.write(count.to_bytes(_NUMBER_BYTES, "little"))
    file.write(offsets)
    file.seek(end)


class Bundle:
    """A mapped snapshot file. The mapping lives as long as this object or anything cut from it."""

    def __init__(self, path: Path) -> None:
        self.head, parts = _open(path)
        try:
            self.index = Index.attach(parts["index"], checked=True)
            self._ads = _Table(parts["ads"])
            self._creative_ids = parts["creative_ids"].cast("Q")
            self._clicks = _Table(parts["clicks"])
            self._line_item_ids = parts["line_item_ids"].cast("Q")
            self._lookbacks = parts["lookbacks"].cast("I")
            self._capped_ids = parts["capped_ids"].cast("Q")
            self._caps = _Table(parts["caps"])
            self._cap_ids = parts["cap_ids"].cast("Q")
            self._cap_members = _Table(parts["cap_members"])
            # Line items that serve on a lease only: ids in order, and for each its line.
            self.leased_ids = parts["leased_ids"].cast("Q")
            self.leased_lines = parts["leased_lines"].cast("I")
            if len(self.leased_lines) != len(self.leased_ids):
                raise ValueError("a column is cut short")
            self.names = parts["names"]
        except (ValueError, TypeError, KeyError) as error:
            raise SnapshotError("decode", f"{path.name}: {error}") from None

    def ad(self, ad: int) -> AdTemplate:
        return _decode_ad(self._ads[ad])

    def click_url(self, creative_id: int) -> str | None:
        """The catalog's destination of a creative, None when this generation does not have it."""
        found = _place(self._creative_ids, creative_id)
        return None if found is None else str(self._clicks[found], "utf-8")

    def lookbacks(self, line_item_id: int) -> Lookbacks:
        """A line item's own, or the usual ones, as for one that this generation does not have."""
        found = _place(self._line_item_ids, line_item_id)
        if found is None:
            return Lookbacks()
        return Lookbacks(*self._lookbacks[2 * found : 2 * found + 2])

    @property
    def has_caps(self) -> bool:
        return len(self._capped_ids) > 0

    def caps(self, line_item_id: int) -> LineCaps | None:
        """What a line item's sightings are held to and count for, None for most."""
        found = _place(self._capped_ids, line_item_id)
        return None if found is None else cap_records.decode(self._caps[found])

    def sharing(self, cap_id: int) -> memoryview:
        """The ids of the line items that have this cap, of those that more than one may have."""
        found = _place(self._cap_ids, cap_id)
        return _NO_IDS if found is None else self._cap_members[found].cast("Q")


class Leasable(Mapping[int, tuple[Account, ...]]):
    """What the agent needs of a snapshot file: the accounts of each line item that has any."""

    def __init__(self, path: Path) -> None:
        head, parts = _open(path)
        try:
            self.generation = head.generation
            self._ids = parts["leased_ids"].cast("Q")
            self._accounts = _Table(parts["accounts"])
        except (ValueError, TypeError, KeyError) as error:
            raise SnapshotError("decode", f"{path.name}: {error}") from None

    def __getitem__(self, line_item_id: int) -> tuple[Account, ...]:
        found = _place(self._ids, line_item_id)
        if found is None:
            raise KeyError(line_item_id)
        return _decode_accounts(self._accounts[found])

    def __iter__(self) -> Iterator[int]:
        return iter(self._ids)

    def __len__(self) -> int:
        return len(self._ids)


class _Table:
    """Records of different sizes behind one column of offsets, read in place."""

    def __init__(self, view: memoryview) -> None:
        count = int.from_bytes(view[:8], "little")
        self._offsets = view[8 : 8 * (count + 2)].cast("Q")
        self._records = view[8 * (count + 2) :]
        if len(self._offsets) != count + 1 or self._offsets[count] > len(self._records):
            raise ValueError("a table is cut short")

    def __getitem__(self, number: int) -> memoryview:
        return self._records[self._offsets[number] : self._offsets[number + 1]]


def _open(path: Path) -> tuple[Head, dict[str, memoryview]]:
    """Map a file; its head, and its sections by name."""
    try:
        with path.open("rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as error:
        raise SnapshotError("missing", f"{path.name}: {error}") from None
    view = memoryview(mapped)
    try:
        magic, size, checksum = _PREFIX.unpack_from(view)
        encoded = view[_PREFIX.size : _PREFIX.size + size]
        if magic != MAGIC or crc32(encoded) != checksum:
            raise ValueError("not a snapshot of this version")
        head = msgspec.msgpack.decode(encoded, type=Head)
        parts = {
            name: _section(view, start, length) for name, (start, length) in head.sections.items()
        }
    except (ValueError, TypeError, struct.error) as error:
        raise SnapshotError("decode", f"{path.name}: {error}") from None
    return head, parts


def _place(ids: memoryview, wanted: int) -> int | None:
    """Find an id in a sorted column."""
    place = bisect_left(ids, wanted)
    return place if place < len(ids) and ids[place] == wanted else None


def _lookbacks(catalog: Catalog) -> dict[int, Lookbacks]:
    """Those that are not the usual ones, by line item id."""
    every = (
        (line_item.id, Lookbacks(line_item.click_lookback_s, line_item.view_lookback_s))
        for line_item in catalog.line_items
    )
    return {id_: lookbacks for id_, lookbacks in every if lookbacks != Lookbacks()}


def _names(catalog: Catalog) -> dict[str, Any]:
    """What people call things: for pages and explanations, never for a decision."""
    advertisers = {advertiser.id: advertiser.name for advertiser in catalog.advertisers}
    campaigns = {campaign.id: advertisers[campaign.advertiser_id] for campaign in catalog.campaigns}
    return {
        "currency": catalog.account.currency,
        "priorities": {priority.number: priority.name for priority in catalog.priorities},
        "line_items": {
            line_item.id: {"name": line_item.name, "advertiser": campaigns[line_item.campaign_id]}
            for line_item in catalog.line_items
        },
    }


def _section(view: memoryview, start: int, size: int) -> memoryview:
    if not 0 <= start <= start + size <= len(view):
        raise ValueError("a section lies outside the file")
    return view[start : start + size]


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT


def make_current(run_dir: Path, name: str) -> None:
    """Points the `current` link at a snapshot file, in one step for every reader."""
    link = run_dir / "current.tmp"
    link.unlink(missing_ok=True)
    os.symlink(name, link)
    link.rename(run_dir / "current")
