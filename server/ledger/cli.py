"""`adcore report | reconcile | archive`: what was counted, if the log says so, where it goes."""

import argparse
import os
import re
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

import msgspec
from msgspec import structs

from adcore.catalog import Catalog
from adcore.zones import zone
from server import config as settings
from server.clock import now_ms, now_s
from server.config import Config
from server.errors import AdcoreError, ConfigError, SnapshotError
from server.ledger import reconcile, report_output, wal
from server.ledger.archive import Archive, Remote, WholeLog
from server.ledger.charges import Budgets, Charge, spent
from server.ledger.folder import DiskFolder
from server.ledger.report import DIMENSIONS, HOUR_S, PLACES, Names, Query, Report, collect
from server.ledger.restore import restore
from server.ledger.verify import verify
from server.store import Keyspace, connect
from server.store.buckets import HOUR
from server.store.catalogs import CatalogStore
from server.store.counts import CountsStore, shards
from server.terminal import has_colour

DIFFERENCES_PRINTED_MAX: Final = 100
LOW_PRIORITY: Final = 19  # the counter and the aggregator come first

_AGO: Final = re.compile(r"-?(\d{1,6})([hd])\Z")
_FORMATS: Final = ("table", "csv", "json", "parquet")


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    command = commands.add_parser("report", help="print what was counted, summed as you like")
    # `--from -24h` would be read as an option but for this: argparse knows no public way.
    command._negative_number_matcher = _AGO
    command.add_argument(
        "--by",
        type=_dimensions,
        default=("line_item",),
        metavar="DIMENSION,...",
        help=f"of {', '.join(DIMENSIONS)}; default: line_item",
    )
    command.add_argument(
        "--from", dest="start", default="-24h", metavar="TIME", help="ISO 8601, -24h or -7d"
    )
    command.add_argument(
        "--to", dest="end", default="-0h", metavar="TIME", help="exclusive; default: now"
    )
    command.add_argument(
        "--time-zone", type=_zone, default="UTC", metavar="NAME", help="of days and TIMEs"
    )
    for place in PLACES:
        option = f"--{place.replace('_', '-')}"
        command.add_argument(option, type=int, nargs="+", metavar="ID", help="these alone")
    command.add_argument("--invalid", action="store_true", help="a column for each reason")
    command.add_argument("--format", choices=_FORMATS, default="table")
    command.add_argument("--output", type=Path, metavar="FILE", help="default: stdout")
    command.set_defaults(run=run_report, refuse=command.error)

    command = commands.add_parser("reconcile", help="recount a shard's log, and compare with Redis")
    command.add_argument("--full", action="store_true", help="with what is in the archive")
    command.add_argument("--json", action="store_true", help="print the result as JSON")
    command.set_defaults(run=run_reconcile)

    command = commands.add_parser("archive", help="copy a shard's log away, and make room")
    command.add_argument(
        "--restore", action="store_true", help="bring the log back to a disk that is empty"
    )
    command.set_defaults(run=run_archive)


def _dimensions(text: str) -> tuple[str, ...]:
    by = tuple(text.replace("-", "_").split(","))
    if wrong := [word for word in by if word not in DIMENSIONS]:
        raise argparse.ArgumentTypeError(f"{wrong[0]!r} is none of {', '.join(DIMENSIONS)}")
    if len({*by}) < len(by):
        raise argparse.ArgumentTypeError("the same twice")
    return by


def _zone(name: str) -> ZoneInfo:
    try:
        return zone(name)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def moment_s(text: str, zone: ZoneInfo, now_s: int) -> int:
    """Read ISO 8601, in `zone` if it names no offset, or so many hours or days before now."""
    if ago := _AGO.match(text):
        unit = {"h": timedelta(hours=1), "d": timedelta(days=1)}[ago[2]]
        return now_s - int(ago[1]) * int(unit.total_seconds())
    moment = datetime.fromisoformat(text)
    return int((moment if moment.tzinfo else moment.replace(tzinfo=zone)).timestamp())


def _query(args: argparse.Namespace) -> Query:
    now = now_s()
    try:
        from_s, to_s = (moment_s(text, args.time_zone, now) for text in (args.start, args.end))
    except (ValueError, OverflowError) as error:
        args.refuse(f"--from, --to: {error}")
    if args.format == "parquet" and args.output is None:
        args.refuse("--format parquet needs --output")
    query = Query(
        by=args.by,
        from_hour=from_s // HOUR_S,
        to_hour=-(-to_s // HOUR_S),  # whole hours: those that the two moments are in
        zone=args.time_zone,
        only={place: frozenset(ids) for place in PLACES if (ids := getattr(args, place))},
        reasons=args.invalid,
    )
    if query.from_hour >= query.to_hour:
        args.refuse("--from is not before --to")
    return query


def run_report(args: argparse.Namespace) -> int:
    query = _query(args)
    report = _collected(query)
    if not report.rows:
        print(f"adcore: nothing was counted: {report_output.span_text(report)}", file=sys.stderr)
        if args.format == "table":
            return 0
    content = _content(report, args)
    if args.output is None:
        print(content, end="")
        return 0
    try:
        args.output.write_bytes(content if isinstance(content, bytes) else content.encode())
    except OSError as error:
        raise AdcoreError(f"can't write {args.output}: {error.strerror}") from None
    return 0


def _content(report: Report, args: argparse.Namespace) -> str | bytes:
    match args.format:
        case "csv":
            return report_output.to_csv(report)
        case "json":
            return report_output.to_json(report).decode()
        case "parquet":
            return report_output.to_parquet(report)
    colour = args.output is None and has_colour(sys.stdout)
    return report_output.to_table(report, colour=colour)


def _collected(query: Query) -> Report:
    config = settings.load(os.environ)
    client = connect(config.redis_url)
    keys = Keyspace(config.redis_prefix)
    with closing(client):
        catalog = _catalog(CatalogStore(client, keys))
        stores = [CountsStore(client, keys, shard) for shard in shards(client, keys)]
        charges, notes = _charged(stores, query, catalog)
        if charges is not None:
            query = structs.replace(query, charged=True)
        report = collect(_counted(stores, query), query, Names(catalog), charges or ())
        return structs.replace(report, notes=notes)


def _charged(
    stores: list[CountsStore], query: Query, catalog: Catalog | None
) -> tuple[list[Charge] | None, tuple[str, ...]]:
    """Give what is charged, unless nobody can know, and what to tell about it."""
    if catalog is None or not query.is_of_budgets:
        return None, ()
    budgets = Budgets(catalog)
    spending = spent(stores, budgets, query.from_hour * HOUR_S, now_s())
    if spending is None:
        return None, ("no charges: the counts are being rebuilt",)
    by_hour = spending.is_by_hour and budgets.have_days
    note = "charged by days of whole hours, when ads were decided: quarters are kept for 50 hours"
    return [*budgets.charge(spending)], (note,) if by_hour else ()


def _catalog(store: CatalogStore) -> Catalog | None:
    """Load what is served; without it a report shows ids, and belongs to no advertiser."""
    try:
        generation = store.current()
        return None if generation is None else store.load(generation)
    except SnapshotError as error:
        print(f"adcore: no names: {error}", file=sys.stderr)
        return None


def _counted(stores: list[CountsStore], query: Query) -> Iterator[tuple[int, dict[bytes, int]]]:
    for store in stores:
        hours = [hour for hour in store.hours() if query.from_hour <= hour < query.to_hour]
        for hour, _, fields in store.read(hours):
            yield hour, fields


# -- reconcile


def run_reconcile(args: argparse.Namespace) -> int:
    config = settings.load(os.environ)
    here, state = _folders(config)
    log = WholeLog(here, Remote(_archive_url(config)), config.shard) if args.full else here
    wal_id = wal.log_id(log)
    with closing(connect(config.redis_url)) as client:
        store = CountsStore(client, Keyspace(config.redis_prefix), config.shard)
        recount = reconcile.begin(log, state, wal_id)
        result = reconcile.reconcile(recount, store, wal_id, now_s())
    if args.json:
        print(msgspec.json.format(msgspec.json.encode(result)).decode())
    else:
        for line in _told(result, config.shard):
            print(line)
    return reconcile.EXIT_DIFFERS if result.differences else 0


def _folders(config: Config) -> tuple[DiskFolder, DiskFolder]:
    """Open the log and the checkpoints of this machine's shard."""
    folder = Path(config.ledger_dir)
    if not config.ledger_dir or not (folder / "wal").is_dir():
        raise ConfigError("ADCORE_LEDGER_DIR: no log of an aggregator is there")
    return DiskFolder(folder / "wal"), DiskFolder(folder / "state")


def _archive_url(config: Config) -> str:
    if not config.archive_url:
        raise ConfigError("ADCORE_ARCHIVE_URL: missing; a folder, or an object store's URL")
    return config.archive_url


def _told(result: reconcile.Reconciled, shard: int) -> Iterator[str]:
    for difference in result.differences[:DIFFERENCES_PRINTED_MAX]:
        log, redis = (
            "nothing" if amount is None else f"{amount:,}"
            for amount in (difference.log, difference.redis)
        )
        yield f"{_where(difference)}: the log says {log}, Redis says {redis}"
    count = len(result.differences) + result.unnamed
    if count > DIFFERENCES_PRINTED_MAX:
        yield f"and {count - DIFFERENCES_PRINTED_MAX:,} more; --json names them"
    yield (
        f"shard {shard}: {_many(count, 'difference')} in {_many(result.fields, 'count')}"
        f" of {_many(result.buckets, 'bucket')},"
        f" recounted from LSN {result.from_lsn:,} to {result.lsn:,}"
    )


def _where(difference: reconcile.Difference) -> str:
    bucket, line, creative, site, measure, *_ = difference
    words = [reconcile.name_of(bucket)]
    if bucket != reconcile.TIME:
        words.append(f"line item {line}")
    if bucket.kind == HOUR:
        words.append(f"creative {creative} site {site}")
    return " ".join([*words, measure])


def _many(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


# -- archive


def run_archive(args: argparse.Namespace) -> int:
    if args.restore:
        return run_restore()
    os.nice(LOW_PRIORITY)
    config = settings.load(os.environ)
    log, state = _folders(config)
    folder = Path(config.ledger_dir) / "archive"
    remote = Remote(_archive_url(config))
    wal_id = wal.log_id(log)
    with closing(DiskFolder(folder)) as own:
        if not own.lock():
            raise AdcoreError("another `adcore archive` is at work on this log")
        archive = Archive(log, own, remote, wal_id, config.shard)
        archive.copy()
        verified = verify(log, state, DiskFolder(folder / "verified"), wal_id)
        archive.remove(verified, now_ms() - config.wal_keep_h * HOUR_S * 1000)
    result = archive.result
    skipped = f", {_many(result.skipped, 'frame')} unreadable" if result.skipped else ""
    print(
        f"shard {config.shard}: copied {_many(result.copied, 'segment')}"
        f" and {_many(result.files, 'file')} of events{skipped};"
        f" verified up to LSN {verified:,}; removed {_many(result.removed, 'segment')} here"
    )
    return 0


def run_restore() -> int:
    config = settings.load(os.environ)
    if not config.ledger_dir:
        raise ConfigError("ADCORE_LEDGER_DIR: missing; the empty disk")
    remote = Remote(_archive_url(config))
    keys = Keyspace(config.redis_prefix)
    folder = Path(config.ledger_dir)
    with closing(DiskFolder(folder)) as lock, closing(connect(config.redis_url)) as client:
        if not lock.lock():
            raise AdcoreError("an aggregator is at work on this log: stop it first")
        log = DiskFolder(folder / "wal")
        counts = CountsStore(client, keys, config.shard)
        result = restore(log, remote, config.shard, counts)
    told = "Redis goes on from where it is"
    if result.counted is not None:
        told = f"Redis had counted up to LSN {result.counted:,}, and is counted anew"
    print(
        f"shard {config.shard}: restored {_many(result.segments, 'segment')},"
        f" up to LSN {result.end:,}; {told}"
    )
    return 0
