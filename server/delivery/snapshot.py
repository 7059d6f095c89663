"""The one reference to what a worker serves, and what may serve at this second.

The loader moves the `current` link; a thread of the worker looks at it ten times a second, maps
the new file and checks it without the GIL, so that answers go on meanwhile. The old generation
serves until then, and goes on serving when a new file can't be used.
"""

import logging
import os
from pathlib import Path
from typing import Final

from adcore import Index, Live
from server.delivery.bundle import Bundle
from server.delivery.render import AdTemplate
from server.errors import SnapshotError

POLL_INTERVAL_S: Final = 0.1
# Decoded templates kept a worker: at 2 KiB each, 16 MiB. Past that the table starts again,
# which costs a decode each.
TEMPLATES_MAX: Final = 8192

log = logging.getLogger(__name__)


class Snapshot:
    """One generation as a worker serves it."""

    def __init__(self, bundle: Bundle) -> None:
        self.generation = bundle.head.generation
        self.index: Index = bundle.index
        self.click_url = bundle.click_url
        self.names = bundle.names
        self._bundle = bundle
        self._live: Live | None = None
        self._templates: dict[int, AdTemplate] = {}

    def live(self, now_s: int) -> Live:
        """The rows that may serve at `now_s`; rebuilt when a flight or an hour begins or ends."""
        live = self._live
        if live is None or not live.valid_from_s <= now_s < live.valid_until_s:
            live = self._live = self.index.live(now_s)
        return live

    def template(self, ad: int) -> AdTemplate:
        template = self._templates.get(ad)
        if template is None:
            if len(self._templates) >= TEMPLATES_MAX:
                self._templates.clear()
            template = self._templates[ad] = self._bundle.ad(ad)
        return template


class Holder:
    """Follows the loader's `current` link; `snapshot` is None until the first one is there."""

    def __init__(self, run_dir: Path) -> None:
        self._run_dir = run_dir
        self._link = os.fspath(run_dir / "current")
        self._name = ""
        self._retired: Snapshot | None = None
        self.snapshot: Snapshot | None = None

    def click_url(self, creative_id: int) -> str | None:
        """The destination of a creative in the catalog being served, None when there is none."""
        return self.snapshot.click_url(creative_id) if self.snapshot else None

    def poll(self, now_s: int) -> bool:
        """Looks at the link once; True when another snapshot serves from now on."""
        # By now no request uses it: its memory goes back here, and not in the middle of an answer.
        self._retired = None
        try:
            name = os.readlink(self._link)
        except OSError:
            return False
        if name == self._name:
            return False
        self._name = name
        try:
            snapshot = Snapshot(Bundle(self._run_dir / name))
        except SnapshotError as error:
            log.error("snapshot refused", extra={"file": name, "reason": str(error)})
            return False
        snapshot.live(now_s)  # built here, the first request need not
        self._retired, self.snapshot = self.snapshot, snapshot
        log.info("snapshot serves", extra={"generation": snapshot.generation})
        return True
