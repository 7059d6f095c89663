"""The delivery parts over the smallest catalog, for tests that need no process."""

import tempfile
from functools import cache
from pathlib import Path

from adcore.catalog import Catalog
from server.config import Config
from server.delivery import bundle
from server.delivery.snapshot import Snapshot
from server.delivery.tokens import Keyring
from server.delivery.users import Users
from server.metrics import Metrics
from server.store.keyspace import Keyspace
from server.store.users import user_hasher
from tests import catalogs

TOKEN_KEY = bytes(range(32))
BASE_URL = "https://ads.example"
NOW_S = 1_700_000_000


@cache
def make_keyring() -> Keyring:
    return Keyring(TOKEN_KEY)


def write_bundle(path: Path, catalog: Catalog, generation: int = 7) -> None:
    head = bundle.Head(
        generation=generation, line_items=len(catalog.line_items), built_at_s=NOW_S, sections={}
    )
    bundle.write(path, catalog, BASE_URL, head)


@cache
def make_snapshot() -> Snapshot:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "snapshot.bin"
        write_bundle(path, catalogs.minimal())
        return Snapshot(bundle.Bundle(path))


def no_users(metrics: Metrics) -> Users:
    """What knows no user, as it was never started."""
    return Users("redis://127.0.0.1:1", Keyspace(), user_hasher(Config()), metrics, 5)
