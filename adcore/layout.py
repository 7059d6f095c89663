"""A catalog becomes one buffer: line items in rank order, their rows, and the sections they lie in.

Lines are ranked by (priority, eCPM of an auction falling, line). A row is one conjunction of a
line's targeting; rows lie in rank order. What each section holds is written in tables.pxd, and
every number is checked again when an `Index` attaches to the buffer.

Line items are booked, one by one (booking.pyx), and then assembled, all at once (assembling.pyx).
"""

import mmap
import struct
from collections.abc import Mapping

from adcore import tables
from adcore.assembling import Assembly
from adcore.booking import Booking, LayoutError
from adcore.catalog import Catalog
from adcore.index import Index
from adcore.limits import LINE_ITEMS_MAX

__all__ = ["LayoutError", "compile"]

_HEADER = struct.Struct("<IIQIIII")
_SECTION = struct.Struct("<QQ")
_SCHEDULE = struct.Struct("<QQQII")
_WORD = (1 << 64) - 1


def compile(catalog: Catalog) -> Index:
    """Compile the catalog; LayoutError names the first line item that is at fault."""
    if len(catalog.line_items) > LINE_ITEMS_MAX:
        raise LayoutError(f"{len(catalog.line_items)} line items; at most {LINE_ITEMS_MAX} fit")
    booking = Booking(catalog)
    booking.book(catalog.line_items)
    try:
        return Index.attach(assembled(booking))
    except OverflowError as error:
        raise LayoutError(f"the catalog is too large: {error}") from None


def assembled(booking: Booking) -> memoryview:
    """Lay the sections one after another into page-aligned memory, read-only from here on."""
    assembly = Assembly(booking)
    sizes = assembly.measure()
    short = {
        tables.SETTINGS: b"".join(booking.settings_numbers),
        tables.SCHEDULES: _schedules(booking.schedule_numbers),
        tables.ZONES: "\n".join(booking.zone_numbers).encode(),
    }
    for number, content in short.items():
        sizes[number] = len(content)
    offsets = []
    end = _HEADER.size + tables.SECTION_COUNT * _SECTION.size
    for size in sizes:
        offsets.append(end + -end % tables.SECTION_ALIGN)
        end = offsets[-1] + size
    # Anonymous memory, not bytes: it starts on a page, so bitmaps start on a cache line. Private,
    # because shared memory is handed out in pages of 4 KiB only, a fault each.
    buffer = mmap.mmap(-1, end, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):  # Linux
        buffer.madvise(mmap.MADV_HUGEPAGE)
    buffer[: _HEADER.size] = _HEADER.pack(
        tables.MAGIC,
        tables.FORMAT_VERSION,
        end,
        tables.SECTION_COUNT,
        assembly.row_count,
        len(booking.label_numbers),
        booking.second_price,
    )
    for number, place in enumerate(zip(offsets, sizes, strict=True)):
        _SECTION.pack_into(buffer, _HEADER.size + number * _SECTION.size, *place)
    assembly.fill(buffer, offsets)
    for number, content in short.items():
        buffer[offsets[number] : offsets[number] + len(content)] = content
    return memoryview(buffer).toreadonly()


def _schedules(numbers: Mapping[tuple[int, int], int]) -> bytes:
    return b"".join(
        _SCHEDULE.pack(hours & _WORD, hours >> 64 & _WORD, hours >> 128, zone, 0)
        for hours, zone in numbers
    )
