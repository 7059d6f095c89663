"""The loader: a process of its own that turns the published catalog into the file that workers map.

Decoding and building 100,000 line items holds the GIL for seconds; here nobody waits for it,
and at the last niceness this process keeps few answers from their core. A generation that can't
be used is refused, logged and counted; the workers go on with the last good one. Redis away
costs a log line when it goes and one when it comes back.
"""

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeAlias

from adcore.catalog import Catalog
from server.catalog import check
from server.clock import monotonic_s, now_s
from server.delivery import bundle
from server.errors import SnapshotError, StoreError
from server.metrics import Metrics
from server.store.catalogs import CatalogStore

POLL_INTERVAL_S: Final = 1.0  # a lost pub/sub message costs this much
RETRY_REFUSED_S: Final = 30.0  # a refused generation is looked at again: a lost chunk may be back
FILES_KEPT: Final = 2  # the current one, and the one before, which a worker may be about to open
FAULTS_LOGGED_MAX: Final = 20

Identity: TypeAlias = tuple[int, str]
"""A generation's number and its content's digest."""

log = logging.getLogger(__name__)


class Loader:
    """Follows the store's current generation. One for each server; `step` is one look."""

    def __init__(self, store: CatalogStore, run_dir: Path, base_url: str, metrics: Metrics) -> None:
        self._store = store
        self._run_dir = run_dir
        self._base_url = base_url
        self._metrics = metrics
        self._serving: Identity | None = None
        self._refused: Identity | None = None
        self._refused_at_s = 0.0
        self._redis_up: bool | None = None
        self._files = 0

    def run(self, when_serving: Callable[[], None]) -> None:
        """Looks, waits for a word from the publisher or a second, and looks again, for ever.

        `when_serving` is called once, after the first snapshot.
        """
        while True:
            waited = self._serving is None
            self.step()
            if waited and self._serving is not None:
                when_serving()
            self._wait()

    def step(self) -> None:
        try:
            generation = self._store.current()
            self._note_redis(None)
            if generation is not None:
                self._follow(generation)
        except StoreError as error:
            self._note_redis(error)

    def _follow(self, generation: int) -> None:
        # A Redis that was wiped counts from 1 again: the number alone does not tell a catalog.
        wanted = (generation, "")
        try:
            wanted = (generation, self._store.meta(generation).digest)
            if wanted != self._serving and not self._is_refused(wanted):
                self._load(wanted)
        except SnapshotError as error:
            if not self._is_refused(wanted):
                self._refuse(wanted, error)

    def _is_refused(self, wanted: Identity) -> bool:
        recently = monotonic_s() - self._refused_at_s < RETRY_REFUSED_S
        return wanted == self._refused and recently

    def _load(self, wanted: Identity) -> None:
        started_s = monotonic_s()
        generation, _ = wanted
        catalog = self._store.load(generation)
        self._refuse_faults(catalog)
        self._write(generation, catalog)
        self._serving, self._refused = wanted, None
        self._metrics.snapshot_loaded(generation, now_s())
        log.info(
            "snapshot loaded",
            extra={
                "generation": generation,
                "line_items": len(catalog.line_items),
                "duration_s": round(monotonic_s() - started_s, 3),
            },
        )

    def _refuse_faults(self, catalog: Catalog) -> None:
        """What was valid to an older publisher may not be to us: the publisher's checks again."""
        errors = [fault for fault in check.faults(catalog) if fault.severity == "error"]
        if errors:
            first = "; ".join(
                f"{fault.path}: {fault.message}" for fault in errors[:FAULTS_LOGGED_MAX]
            )
            raise SnapshotError("invalid", f"{len(errors)} faults: {first}")

    def _write(self, generation: int, catalog: Catalog) -> None:
        self._files += 1
        # The pid: a restarted loader must not write over a file that workers have mapped.
        path = self._run_dir / f"snapshot-{generation}-{os.getpid()}-{self._files}.bin"
        head = bundle.Head(
            generation=generation,
            line_items=len(catalog.line_items),
            built_at_s=now_s(),
            sections={},
        )
        try:
            bundle.write(path, catalog, self._base_url, head)
        except (ValueError, OSError) as error:
            raise SnapshotError("build", str(error)) from None
        bundle.make_current(self._run_dir, path.name)
        self._remove_old(path)

    def _remove_old(self, newest: Path) -> None:
        """A mapped file lives on without its name: removing it disturbs nobody."""
        files = sorted(
            self._run_dir.glob("snapshot-*.bin"), key=lambda path: path.stat().st_mtime_ns
        )
        for path in files[:-FILES_KEPT]:
            if path != newest:
                path.unlink(missing_ok=True)

    def _refuse(self, wanted: Identity, error: SnapshotError) -> None:
        if wanted != self._refused:
            log.error(
                "snapshot refused",
                extra={
                    "generation": wanted[0],
                    "reason": error.reason,
                    "detail": str(error),
                    "still_serving": self._serving and self._serving[0],
                },
            )
        self._refused, self._refused_at_s = wanted, monotonic_s()
        self._metrics.snapshot_refused(error.reason)

    def _note_redis(self, error: StoreError | None) -> None:
        up = error is None
        if up != self._redis_up:
            if up:
                log.info("redis answers")
            else:
                log.warning("redis is away", extra={"detail": str(error)})
        self._redis_up = up
        self._metrics.redis_state(up)

    def _wait(self) -> None:
        try:
            self._store.wait(POLL_INTERVAL_S)
        except StoreError as error:
            self._note_redis(error)
