"""What leaves the log is in the archive first, and everything can still be counted from there."""

import os
import random
from pathlib import Path
from typing import Any

import duckdb
import pytest
import redis

from server import cli
from server.errors import ArchiveError, LedgerError
from server.events.frames import Frame, pack
from server.events.records import RECORD_BEACON, Kind
from server.ledger import archive as archives
from server.ledger import checkpoints, event_files, wal
from server.ledger.archive import Archive, Remote, WholeLog
from server.ledger.folder import DiskFolder
from server.ledger.reconcile import begin, reconcile
from server.ledger.verify import verify
from server.store import Keyspace
from server.store.buckets import HOUR, Bucket
from tests.shards import HOUR_S, NOON_S, Shard, beacon, decision

pytestmark = pytest.mark.process

KEEP_MS = 72 * HOUR_S * 1000
LATE_MS = (NOON_S + 100 * HOUR_S) * 1000
SEGMENT_BYTES = 1 << 15


@pytest.fixture
def shard(redis_url, tmp_path):
    """A log of a dozen small segments, with three checkpoints."""
    shard = Shard(tmp_path / "shard", redis_url, segment_bytes_max=SEGMENT_BYTES)
    dice = random.Random(3)
    for hour in range(12):
        at_s = NOON_S + hour * HOUR_S
        shown = [beacon(at_s=at_s + 60, line_item_id=dice.randrange(1, 9)) for _ in range(150)]
        clicked = [
            beacon(
                Kind.CLICK,
                at_s=each.issued_s,
                id=each.id,
                line_item_id=each.line_item_id,
                network=f"192.0.{number}.0",
            )
            for number, each in enumerate(shown[::5])
        ]
        seen = [
            beacon(Kind.EVENT, at_s=each.issued_s, id=each.id, event=40, line_item_id=3)
            for each in shown[::2]
        ]
        shard.write([*clicked[:3], *shown, decision((10, 1, 1), at_s=at_s)])
        shard.write([*clicked[3:], *seen, shown[0]])
        if hour % 4 == 3:
            shard.checkpoint()
    return shard


class Place:
    """An archive of the shard in a folder, opened anew for each pass as by a process."""

    def __init__(self, shard: Shard, folder: Path) -> None:
        self.shard = shard
        self.folder = folder
        self.own = DiskFolder(shard.folder / "archive")
        self.counted = DiskFolder(shard.folder / "archive" / "verified")

    @property
    def remote(self) -> Remote:
        return Remote(str(self.folder))

    def open(self) -> Archive:
        return Archive(self.shard.log, self.own, self.remote, self.shard.wal_id, 0)

    def run(self, now_ms: int = LATE_MS) -> archives.Pass:
        archive = self.open()
        archive.copy()
        archive.remove(self.verify(), now_ms - KEEP_MS)
        return archive.result

    def verify(self) -> int:
        return verify(self.shard.log, self.shard.state, self.counted, self.shard.wal_id)

    def files(self) -> dict[str, bytes]:
        return {
            str(path.relative_to(self.folder)): path.read_bytes()
            for path in self.folder.rglob("*")
            if path.is_file()
        }

    def ask(self, sql: str) -> list[tuple[Any, ...]]:
        with duckdb.connect() as connection:
            connection.execute("SET TimeZone = 'UTC'")
            events = f"read_parquet('{self.folder}/events/*/*/*.parquet', hive_partitioning = true)"
            return connection.execute(sql.format(events=events)).fetchall()


@pytest.fixture
def place(shard, tmp_path):
    return Place(shard, tmp_path / "place")


def counts(shard: Shard, measure: str) -> dict[tuple[int, int], int]:
    """By hour and line item."""
    found: dict[tuple[int, int], int] = {}
    for hour, _, fields in shard.store.read(shard.store.hours()):
        for field, count in fields.items():
            line, _, _, name = field.decode().split(".", 3)
            if name == measure:
                found[hour, int(line)] = found.get((hour, int(line)), 0) + count
    return found


# -- what is moved


def test_closed_segments_are_copied_as_they_stood_and_old_ones_removed(shard, place):
    before = {lsn: shard.log.read(wal.segment_name(lsn)) for lsn in wal.segments(shard.log)}
    *closed, last = before
    oldest = next(checkpoints.kept(shard.state, shard.wal_id))
    result = place.run()
    assert result.copied == len(closed) > 5
    for lsn in closed:
        assert place.remote.get(f"wal/shard-0/{wal.segment_name(lsn)}") == before[lsn]
    assert place.remote.get(f"wal/shard-0/{wal.segment_name(last)}") is None
    left = wal.segments(shard.log)
    assert result.removed == len(before) - len(left) >= 2
    assert left == [
        lsn for lsn, end in zip(before, [*closed[1:], last, 1 << 60], strict=True)
        if end > oldest.lsn
    ]  # fmt: skip
    assert wal.log_id(shard.log) == shard.wal_id


def test_an_object_store_gets_the_same_files(shard, place):
    """fsspec's store in memory stands for all that are no folders."""
    url = "memory://bucket/place"
    remote = Remote(url)
    archive = Archive(shard.log, place.own, remote, shard.wal_id, 0)
    archive.copy()
    archive.remove(place.verify(), LATE_MS)
    assert archive.result.removed > 0
    log = WholeLog(shard.log, Remote(url), 0)
    assert wal.segments(log)[0] == 0
    result = reconcile(begin(log, shard.state, shard.wal_id), shard.store, shard.wal_id, NOON_S)
    assert (result.differences, result.from_lsn) == ([], 0)


def test_young_segments_stay(shard, place):
    assert place.run(now_ms=NOON_S * 1000 + KEEP_MS).removed == 0
    opened_ms = [
        wal.decode(next(wal.read(shard.log, lsn, lsn + 1)).body).written_ms
        for lsn in wal.segments(shard.log)
    ]
    # The first segment was closed when the second was opened.
    assert place.run(now_ms=opened_ms[1] + KEEP_MS).removed == 0
    assert place.run(now_ms=opened_ms[1] + KEEP_MS + 1).removed == 1


def test_what_is_not_certain_yet_is_not_copied(shard, place):
    first, _, third = wal.segments(shard.log)[:3]
    shard.log.mark("durable", wal._mark(third - 1))
    place.open().copy()
    assert place.remote.names("wal/shard-0") == [wal.segment_name(first), "log"]


def test_without_a_verified_checkpoint_nothing_is_removed(shard, place):
    archive = place.open()
    archive.copy()
    archive.remove(0, LATE_MS)
    assert archive.result.removed == 0
    archive.remove(wal.segments(shard.log)[2] - 1, LATE_MS)
    assert archive.result.removed == 1


def test_twice_is_once(shard, place):
    place.run()
    files = place.files()
    assert place.run() == archives.Pass()
    # Even when all that was remembered is lost, but for what is gone from the log.
    place.own.remove("archived")
    again = place.run()
    assert again.copied == len(wal.segments(shard.log)) - 1
    assert place.files() == files


class Killed(BaseException):
    """No handler of ours catches it, as none catches a kill."""


def test_a_pass_that_is_killed_anywhere_is_finished_by_the_next(
    shard, place, monkeypatch, tmp_path
):
    whole = Place(shard, tmp_path / "whole")
    whole.own = DiskFolder(tmp_path / "whole-own")
    archive = Archive(shard.log, whole.own, whole.remote, shard.wal_id, 0)
    archive.copy()
    expected = whole.files()

    steps = 0

    def killed_at(wanted: int, call: Any) -> Any:
        def step(*arguments: Any) -> Any:
            nonlocal steps
            steps += 1
            if steps == wanted:
                raise Killed
            return call(*arguments)

        return step

    passes = 0
    for wanted in range(1, 10_000, 3):
        steps = 0
        with monkeypatch.context() as patch:
            for owner, name in (
                (archives, "_sync"),
                (Path, "write_bytes"),
                (Path, "replace"),
                (DiskFolder, "replace"),
                (DiskFolder, "remove"),
                (DiskFolder, "sync_names"),
            ):
                patch.setattr(owner, name, killed_at(wanted, getattr(owner, name)))
            try:
                place.run()
                break
            except Killed:
                passes += 1
        # Whatever is not here any more is there.
        here = {*wal.segments(shard.log)}
        there = {name for name in place.remote.names("wal/shard-0") if name.endswith(".wal")}
        gone = {name for name in expected if name.endswith(".wal")}
        gone = {name.rpartition("/")[2] for name in gone} - {wal.segment_name(lsn) for lsn in here}
        assert gone <= there
    assert passes > 10
    left = {name: content for name, content in place.files().items() if ".part" not in name}
    assert left == expected
    assert wal.segments(shard.log)[0] > 0


# -- what is not trusted


def test_an_archive_that_does_not_keep_what_it_is_given_empties_no_log(shard, place, monkeypatch):
    def short(file: Path, root: Path, content: bytes) -> None:
        file.write_bytes(content[:-1])

    monkeypatch.setattr(archives, "_write", short)
    with pytest.raises(ArchiveError, match="not there as it was written"):
        place.run()
    assert wal.segments(shard.log)[0] == 0


def test_what_the_archive_lost_meanwhile_is_brought_again_before_it_is_removed(shard, place):
    place.run(now_ms=NOON_S * 1000)
    first = place.folder / "wal" / "shard-0" / wal.segment_name(0)
    content = first.read_bytes()
    first.write_bytes(content[:100])
    assert place.run().removed > 0
    assert first.read_bytes() == content


def test_a_segment_that_changed_after_it_was_copied_stays(shard, place):
    place.run(now_ms=NOON_S * 1000)
    content = bytearray(shard.log.read(wal.segment_name(0)))
    content[-1] ^= 1
    shard.log.replace(wal.segment_name(0), bytes(content))
    archive = place.open()
    with pytest.raises(LedgerError, match="not what was archived"):
        archive.remove(1 << 40, LATE_MS)
    assert wal.segments(shard.log)[0] == 0


def test_a_broken_segment_is_not_archived(shard, place):
    content = bytearray(shard.log.read(wal.segment_name(0)))
    content[200] ^= 1
    shard.log.replace(wal.segment_name(0), bytes(content))
    with pytest.raises(LedgerError, match="broken or lost"):
        place.run()
    assert place.remote.names("wal/shard-0") == ["log"]


def test_two_logs_are_not_mixed(shard, place):
    place.run()
    with pytest.raises(ArchiveError, match="of the log log0, this is another"):
        Archive(shard.log, place.own, place.remote, "another", 0)


# -- verified checkpoints


def test_a_right_checkpoint_is_verified_step_by_step(shard, place):
    lsns = [each.lsn for each in checkpoints.kept(shard.state, shard.wal_id)]
    assert len(lsns) == 3
    names = [f"{lsn:016x}.checkpoint" for lsn in lsns]
    assert place.verify() == lsns[0]
    oldest = shard.state.read(names[0])
    for name in names[:2]:
        shard.state.remove(name)
    assert place.verify() == lsns[2]
    assert place.verify() == lsns[2]
    shard.state.replace(names[0], oldest)
    assert place.verify() == lsns[0]
    for name in names:
        shard.state.remove(name)
    assert place.verify() == 0


def test_a_checkpoint_that_is_being_swept_away_is_passed_over(shard, place):
    shard.write([beacon(outcome=3)], written_s=NOON_S + 12 * HOUR_S)  # of the first hour
    last = shard.checkpoint()
    oldest = next(checkpoints.kept(shard.state, shard.wal_id))
    shard.state.remove(oldest.totals[Bucket(HOUR, NOON_S // HOUR_S)])
    assert place.verify() == last.lsn


@pytest.mark.parametrize("part", ["totals", "ids", "state"])
def test_a_wrong_checkpoint_is_named_and_keeps_the_log(shard, place, part):
    oldest = next(checkpoints.kept(shard.state, shard.wal_id))
    if part == "totals":
        bucket = max(bucket for bucket in oldest.totals if bucket.kind == HOUR)
        name, sums = oldest.totals[bucket], dict(checkpoints.totals(shard.state, oldest))[bucket]
        sums[next(iter(sums))] += 1
        checkpoints._write(shard.state, name, wal.encode(sums))
    elif part == "ids":
        name = max(oldest.ids.items())[1]
        dumped = bytearray(dict(checkpoints.ids(shard.state, oldest))[max(oldest.ids)])
        dumped[-1] ^= 1
        checkpoints._write(shard.state, name, bytes(dumped))
    else:
        wrong = checkpoints.Checkpoint(
            oldest.wal_id, oldest.lsn, oldest.state[:-1] + b"\x91", oldest.ids, oldest.totals
        )
        name = f"{oldest.lsn:016x}.checkpoint"
        checkpoints._write(shard.state, name, wal.encode(wrong))
    where = r"of 2026-10-31T15:00Z" if part != "state" else ""
    for _ in range(2):  # it does not become right by being asked again
        with pytest.raises(LedgerError, match=f"not what the log says: its {part} ?{where}$"):
            place.run()
    assert wal.segments(shard.log)[0] == 0


def test_one_beacon_from_the_future_makes_no_checkpoint_forget(shard, place, redis_url):
    """It is counted under its hour, in 2096, and 62 days before that are not all that is kept."""
    shard.write([beacon(at_s=4_000_000_000)], written_s=NOON_S + 12 * HOUR_S)
    shard.checkpoint()
    kept = {hour: fields for hour, _, fields in shard.store.read(shard.store.hours())}
    assert len(kept) == 13
    with redis.Redis.from_url(redis_url) as client:
        client.flushall()
    shard.applier.lsn = -1  # as at a start
    shard.count()
    assert shard.applier.rebuilds > 0
    assert {hour: fields for hour, _, fields in shard.store.read(shard.store.hours())} == kept


def test_a_log_without_its_beginning_needs_the_second_count(shard, place):
    place.run()
    for name in place.counted.names():
        place.counted.remove(name)
    with pytest.raises(LedgerError, match="no second count"):
        place.verify()


def test_it_goes_on_after_the_beginning_is_gone(shard, place):
    place.run()
    for hour in range(12, 30):
        shard.write([beacon(at_s=NOON_S + hour * HOUR_S) for _ in range(150)])
        if hour % 4 == 3:
            shard.checkpoint()
    assert place.run(LATE_MS + 30 * HOUR_S * 1000).removed > 3


# -- counting from the archive


def test_reconcile_counts_from_the_archive_and_the_log(shard, place, redis_url):
    place.run()
    log = WholeLog(shard.log, place.remote, 0)
    assert wal.segments(shard.log)[0] > 0
    result = reconcile(begin(log, shard.state, shard.wal_id), shard.store, shard.wal_id, NOON_S)
    assert (result.differences, result.from_lsn) == ([], 0)
    with redis.Redis.from_url(redis_url) as client:
        client.hincrby(
            Keyspace().count_bucket(0, Bucket(HOUR, NOON_S // HOUR_S)), b"1.50.10.impressions", 1
        )
    result = reconcile(begin(log, shard.state, shard.wal_id), shard.store, shard.wal_id, NOON_S)
    assert [(each.bucket, each.line_item_id) for each in result.differences] == [
        (Bucket(HOUR, NOON_S // HOUR_S), 1)
    ]
    (place.folder / "wal" / "shard-0" / wal.segment_name(wal.segments(log)[1])).unlink()
    with pytest.raises(LedgerError, match="broken or lost"):
        reconcile(begin(log, shard.state, shard.wal_id), shard.store, shard.wal_id, NOON_S)


# -- events


def test_duckdb_reads_events_that_sum_to_the_report(shard, place):
    shard.write([beacon(at_s=NOON_S + 13 * HOUR_S) for _ in range(300)])  # close the last one
    shard.write([beacon(at_s=NOON_S + 13 * HOUR_S)])
    place.run()
    until = wal.segments(shard.log)[-1]
    recount = begin(WholeLog(shard.log, place.remote, 0), shard.state, shard.wal_id)
    recount.advance(until)
    sums = {"impressions": 0, "clicks": 0, "viewable": 0, "invalid": 0}
    for bucket, fields in recount.totals.items():
        for field, count in fields.items() if bucket.kind == HOUR else ():
            name = field.decode().split(".", 3)[3]
            name = "invalid" if name.startswith("invalid.") else name
            sums[name] = sums.get(name, 0) + count
    rows = dict(place.ask("SELECT kind, count(*) FROM {events} GROUP BY kind"))
    assert sum(rows.values()) == sum(
        sums[name] for name in ("impressions", "clicks", "viewable", "invalid")
    )
    asked = dict(place.ask(
        "SELECT kind, count(DISTINCT id) FROM {events} WHERE outcome = 'accepted' GROUP BY kind"
    ))  # fmt: skip
    assert asked == {
        "impression": sums["impressions"], "click": sums["clicks"], "event": sums["viewable"],
    }  # fmt: skip
    nanos = place.ask(
        "SELECT sum(price_micros) FROM (SELECT DISTINCT id, price_micros FROM {events}"
        " WHERE kind = 'impression' AND rate = 'cpm' AND outcome = 'accepted')"
    )[0][0]
    assert nanos == sums["revenue_nanos"]


def test_events_lie_by_the_hour_that_they_are_counted_in(shard, place):
    place.run()
    asked = {
        (int(hour), line): count
        for hour, line, count in place.ask(
            "SELECT epoch(date::timestamp) / 3600 + hour::int, line_item_id, count(DISTINCT id)"
            " FROM {events} WHERE kind = 'impression' GROUP BY ALL"
        )
    }
    counted = counts(shard, "impressions")
    first = NOON_S // HOUR_S
    early = {key: count for key, count in counted.items() if key[0] < first + 8}
    assert early == {key: count for key, count in asked.items() if key[0] < first + 8}
    wrong = "SELECT count(*) FROM {events} WHERE date_trunc('hour', issued_at) <>"
    assert place.ask(f"{wrong} date::timestamp + hour::int * INTERVAL 1 HOUR") == [(0,)]


def test_a_row_has_what_the_beacon_had(shard, place):
    given = beacon(
        Kind.CONVERSION, value_micros=7, order=b"ab", flags=5, lease=9, click_lookback_s=60
    )
    hours = event_files.Hours(3)
    frames = pack(Frame(1, 1, RECORD_BEACON, wal.encode(given)))
    hours.add(77, NOON_S * 1000 + 5, frames)
    ((path, content),) = hours.files(64)
    assert path == "events/date=2026-10-31/hour=12/shard-3-0000000000000040.parquet"
    file = place.folder / path
    file.parent.mkdir(parents=True)
    file.write_bytes(content)
    ((*row, _, _),) = place.ask(
        "SELECT * REPLACE (epoch_ms(logged_at) AS logged_at,"
        " epoch(received_at) AS received_at, epoch(issued_at) AS issued_at) FROM {events}"
    )
    assert row == [
        3, 77, NOON_S * 1000 + 5, "conversion", "accepted", NOON_S + 2, NOON_S, given.id.hex(),
        40, 50, 10, "00" * 8, 9, 8_000_000, "cpa", True, 0, "192.0.2.0", "Mozilla/5.0", 7, "6162",
        60, 0,
    ]  # fmt: skip


# -- the command


def test_the_command_does_one_pass(shard, place, redis_url, monkeypatch, capsys):
    for name in os.environ:
        if name.startswith("ADCORE_"):
            monkeypatch.delenv(name)
    monkeypatch.setattr(os, "nice", lambda _: None)
    monkeypatch.setenv("ADCORE_REDIS_URL", redis_url)
    monkeypatch.setenv("ADCORE_LEDGER_DIR", str(shard.folder))
    assert cli.main(["archive"]) == 1
    assert "ADCORE_ARCHIVE_URL: missing" in capsys.readouterr().err
    monkeypatch.setenv("ADCORE_ARCHIVE_URL", str(place.folder))
    monkeypatch.setenv("ADCORE_WAL_KEEP_H", "0")
    assert cli.main(["archive"]) == 0
    oldest = next(checkpoints.kept(shard.state, shard.wal_id)).lsn
    told = capsys.readouterr().out
    assert told.startswith("shard 0: copied ")
    assert f"verified up to LSN {oldest:,}; removed " in told
    assert wal.segments(shard.log)[0] > 0
    assert cli.main(["reconcile"]) == 0
    assert "recounted from LSN 0" not in capsys.readouterr().out
    assert cli.main(["reconcile", "--full"]) == 0
    assert "recounted from LSN 0" in capsys.readouterr().out
    monkeypatch.setenv("ADCORE_ARCHIVE_URL", "nosuch://bucket/place")
    assert cli.main(["archive"]) == 1
    assert "ADCORE_ARCHIVE_URL" in capsys.readouterr().err
