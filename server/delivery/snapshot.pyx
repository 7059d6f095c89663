"""The one reference to what a worker serves, and what may serve at this second.

The loader moves the `current` link; a thread of the worker looks at it ten times a second, maps
the new file and checks it without the GIL, so that answers go on meanwhile. The old generation
serves until then, and goes on serving when a new file can't be used.
"""

cimport cython
from cpython.dict cimport PyDict_GetItem
from cpython.object cimport PyObject

from server.delivery.sightings cimport Rule

import logging
import os

from server.delivery.bundle import Bundle
from server.delivery.conversions import Lookbacks
from server.errors import SnapshotError

POLL_INTERVAL_S = 0.1
# Decoded templates kept a worker: at 2 KiB each, 16 MiB. Past that the table starts again,
# which costs a decode each.
TEMPLATES_MAX = 8192
RULES_MAX = 65_536  # likewise what line items are capped by: some 600 bytes where they are

cdef object log = logging.getLogger(__name__)


@cython.final
cdef class Snapshot:
    """One generation as a worker serves it."""

    def __init__(self, bundle not None):
        self.generation = bundle.head.generation
        self.index = bundle.index
        self.click_url = bundle.click_url
        self.lookbacks = bundle.lookbacks
        self.names = bundle.names
        self.bundle = bundle
        self.templates = {}
        self.rules = {}
        self.has_caps = bundle.has_caps
        self.sharing = bundle.sharing

    cpdef Live live(self, int64_t now_s):
        """The rows that may serve at `now_s`; rebuilt when a flight or an hour begins or ends."""
        if self._live is None \
                or not self._live.valid_from_s <= now_s < self._live.valid_until_s:
            self._live = self.index.live(now_s)
        return self._live

    cpdef template(self, uint32_t ad):
        """The ad's AdTemplate."""
        number = ad
        cdef PyObject* known = PyDict_GetItem(self.templates, number)
        if known != NULL:
            return <object> known
        if len(self.templates) >= TEMPLATES_MAX:
            self.templates.clear()
        template = self.templates[number] = self.bundle.ad(number)
        return template

    cpdef Rule rule(self, int64_t line_item_id):
        """What a line item's sightings are held to and count for; None for most."""
        number = line_item_id
        cdef PyObject* known = PyDict_GetItem(self.rules, number)
        if known != NULL:
            return <Rule> known
        if len(self.rules) >= RULES_MAX:
            self.rules.clear()
        caps = self.bundle.caps(number)
        rule = self.rules[number] = None if caps is None else Rule(line_item_id, caps)
        return rule


@cython.final
cdef class Holder:
    """Follows the loader's `current` link; `snapshot` is None until the first one is there."""

    def __init__(self, run_dir not None):
        self.run_dir = run_dir
        self.link = os.fspath(run_dir / "current")
        self.name = ""

    def click_url(self, creative_id):
        """The destination of a creative in the catalog being served, None when there is none."""
        cdef Snapshot snapshot = self.snapshot
        return None if snapshot is None else snapshot.click_url(creative_id)

    def lookbacks(self, line_item_id):
        """The line item's in the catalog being served; the usual ones when it is not there."""
        cdef Snapshot snapshot = self.snapshot
        return Lookbacks() if snapshot is None else snapshot.lookbacks(line_item_id)

    def poll(self, int64_t now_s):
        """Look at the link once; True when another snapshot serves from now on."""
        # By now no request uses it: its memory goes back here, and not in the middle of an answer.
        self.retired = None
        try:
            name = os.readlink(self.link)
        except OSError:
            return False
        if name == self.name:
            return False
        self.name = name
        try:
            snapshot = Snapshot(Bundle(self.run_dir / name))
        except SnapshotError as error:
            log.error("snapshot refused", extra={"file": name, "reason": str(error)})
            return False
        snapshot.live(now_s)  # built here, the first request need not
        self.retired, self.snapshot = self.snapshot, snapshot
        log.info("snapshot serves", extra={"generation": snapshot.generation})
        return True
