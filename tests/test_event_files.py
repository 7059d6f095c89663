"""What can't be a row, or not under its hour; `test_archive` reads the rows with DuckDB."""

import pytest

from server.errors import ArchiveError
from server.events.frames import Frame, pack
from server.events.records import RECORD_BEACON
from server.ledger import event_files, wal
from server.ledger.archive import Remote
from tests.shards import HOUR_S, NOON_S, beacon


def test_what_makes_no_row_is_counted_and_stops_nothing():
    hours = event_files.Hours(0)
    records = [
        wal.encode(beacon(at_s=-1)),
        wal.encode(beacon(price_micros=1 << 63)),
        wal.encode(beacon(at_s=300_000_000_000)),
        b"\xc1",
    ]
    kinds = [(RECORD_BEACON, record) for record in records] + [(9, b"")]
    for kind, record in kinds:
        hours.add(0, NOON_S * 1000, pack(Frame(1, 1, kind, record)))
    assert (hours.skipped, list(hours.files(0))) == (5, [])


def test_absurd_hours_make_no_files_of_their_own():
    hours = event_files.Hours(0)
    for at_s in (0, NOON_S - 70 * 86_400, NOON_S + 2 * HOUR_S, 4_000_000_000):
        hours.add(0, NOON_S * 1000, pack(Frame(1, 1, RECORD_BEACON, wal.encode(beacon(at_s=at_s)))))
    assert [path for path, _ in hours.files(0)] == [
        "events/date=2026-10-31/hour=12/shard-0-0000000000000000.parquet"
    ]


def test_an_archive_that_is_away_is_one_error(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ArchiveError, match="the archive fails"):
        Remote(str(tmp_path / "file")).put("events/x", b"1")
