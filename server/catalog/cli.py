"""`adcore check | schema | publish | catalog`: from a file to a published generation and back."""

import argparse
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from adcore.catalog import Catalog
from server import config as settings
from server.catalog import check, file
from server.catalog.diff import diff
from server.catalog.records import KINDS
from server.clock import now_s
from server.errors import CatalogError
from server.store import Keyspace, connect
from server.store.catalogs import CatalogStore, Meta


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    command = commands.add_parser("check", help="report all faults of a catalog file")
    command.add_argument("file", type=Path)
    command.set_defaults(run=run_check)

    command = commands.add_parser("schema", help="print the JSON Schema of the catalog file")
    command.set_defaults(run=run_schema)

    command = commands.add_parser("publish", help="check a catalog file and make it current")
    command.add_argument("file", type=Path)
    command.set_defaults(run=run_publish)

    catalog = commands.add_parser("catalog", help="list, show, compare or bring back generations")
    actions = catalog.add_subparsers(required=True, metavar="ACTION")
    command = actions.add_parser("list", help="list the kept generations, * is the current one")
    command.set_defaults(run=run_list)

    command = actions.add_parser("show", help="show a generation")
    command.add_argument("generation", type=int, nargs="?", help="default: the current one")
    command.add_argument("--json", action="store_true", help="print it as a catalog file")
    command.set_defaults(run=run_show)

    command = actions.add_parser("diff", help="print what changed, record by record")
    command.add_argument("old", help="a generation or a file")
    command.add_argument("new", help="a generation or a file")
    command.set_defaults(run=run_diff)

    command = actions.add_parser("rollback", help="make an older generation current again")
    command.add_argument("generation", type=int, nargs="?", help="default: the one before")
    command.set_defaults(run=run_rollback)


def run_check(args: argparse.Namespace) -> int:
    checked = check.check(file.read(args.file), now_s())
    for line in check.lines(args.file, checked.faults):
        print(line)
    if checked.catalog is None:
        errors = sum(fault.severity == "error" for fault in checked.faults)
        print(f"{args.file}: {_count(errors, 'fault')}; not fit to publish", file=sys.stderr)
        return 1
    print(f"{args.file}: fine: {_counts(checked.catalog)}")
    return 0


def run_schema(_: argparse.Namespace) -> int:
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "adcore catalog file",
        **msgspec.json.schema(Catalog),
    }
    print(json.dumps(schema, indent=2, ensure_ascii=False))
    return 0


def run_publish(args: argparse.Namespace) -> int:
    catalog = check.load(args.file)
    with _store() as store:
        generation = store.publish(catalog, source=str(args.file), now_s=now_s())
    print(f"published generation {generation}: {_counts(catalog)}")
    return 0


def run_list(_: argparse.Namespace) -> int:
    with _store() as store:
        current = store.current()
        for meta in store.generations():
            print("*" if meta.generation == current else " ", _described(meta))
    return 0


def run_show(args: argparse.Namespace) -> int:
    with _store() as store:
        generation = args.generation or _current(store)
        if args.json:
            catalog = store.load(generation)
            print(msgspec.json.format(msgspec.json.encode(catalog)).decode())
            return 0
        meta = store.meta(generation)
    print(_described(meta))
    print(f"schema {meta.schema_version}, SHA-256 {meta.digest}")
    for kind, count in meta.counts.items():
        print(f"{count:>9} {kind.replace('_', ' ')}")
    return 0


def run_diff(args: argparse.Namespace) -> int:
    for change in diff(catalog_named(args.old), catalog_named(args.new)):
        print(change)
    return 0


def run_rollback(args: argparse.Namespace) -> int:
    with _store() as store:
        current = _current(store)
        generation = args.generation
        if generation is None:
            older = [m.generation for m in store.generations() if m.generation < current]
            if not older:
                raise CatalogError(f"there is no generation before {current}")
            generation = older[0]
        store.make_current(generation)
    print(f"generation {generation} is current, {current} was")
    return 0


@contextmanager
def _store() -> Iterator[CatalogStore]:
    config = settings.load(os.environ)
    store = CatalogStore(connect(config.redis_url), Keyspace(config.redis_prefix))
    try:
        yield store
    finally:
        store.close()


def _current(store: CatalogStore) -> int:
    current = store.current()
    if current is None:
        raise CatalogError("nothing is published")
    return current


def catalog_named(name: str | None) -> Catalog:
    """Load a generation, a file that has another name than a number, or what is current."""
    if name is not None and not name.isdecimal():
        return check.load(Path(name))
    with _store() as store:
        return store.load(_current(store) if name is None else int(name))


def _described(meta: Meta) -> str:
    moment = datetime.fromtimestamp(meta.published_at_s, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    line_items = _count(meta.counts.get("line_items", 0), KINDS["line_items"])
    kilobytes = -(-meta.size_bytes // 1000)
    return f"{meta.generation:>6}  {moment}  {line_items}, {kilobytes} kB, from {meta.source}"


def _counts(catalog: Catalog) -> str:
    records: dict[str, Any] = {kind: getattr(catalog, kind) for kind in KINDS}
    return ", ".join(_count(len(listed), KINDS[kind]) for kind, listed in records.items())


def _count(count: int, what: str) -> str:
    if count != 1:
        what = what.removesuffix("y") + "ies" if what.endswith("y") else what + "s"
    return f"{count} {what}"
