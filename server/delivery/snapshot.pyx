"""The one reference to what a worker serves, and what may serve at this second.

The loader moves the `current` link; a thread of the worker looks at it ten times a second, maps
the new file and makes its bitmaps without the GIL, so that answers go on meanwhile. The old
generation serves until then, and goes on serving when a new file can't be used.
"""

cimport cython
from cpython.dict cimport PyDict_GetItem
from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint32_t

from adcore.live cimport Live
from adcore.plan cimport Plan

from server.delivery.leased cimport LeasedLines
from server.delivery.leasing cimport LeaseTable

from server.delivery.sightings cimport Rule

import logging
import os

from server.clock import monotonic_ns
from server.delivery import planning
from server.delivery.bundle import Bundle
from server.delivery.conversions import Lookbacks
from server.delivery.planning import PlanFile
from server.errors import SnapshotError

POLL_INTERVAL_S = 0.1
# Decoded templates kept a worker: at 2 KiB each, 16 MiB. Past that the table starts again,
# which costs a decode each.
TEMPLATES_MAX = 8192
RULES_MAX = 65_536  # likewise what line items are capped by: some 600 bytes where they are

# In the run folder, made by the agent.
LEASES = "leases.bin"

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
        self.leased = LeasedLines(bundle.index, bundle.leased_ids, bundle.leased_lines)
        self._plan = self.index.plan()

    cpdef Live live(self, int64_t now_s):
        """The rows that may serve at `now_s`; rebuilt when a flight or an hour begins or ends."""
        if self._live is None or self._live.plan is not self._plan \
                or not self._live.valid_from_s <= now_s < self._live.valid_until_s:
            self._live = self.index.live(now_s, self._plan)
        return self._live

    cpdef Live booked(self, int64_t at_s):
        """The rows that may serve at another moment, for previews: no lease and no plan is of it.

        One that changes with each such request would rebuild what all others are answered by.
        """
        if self._booked is None \
                or not self._booked.valid_from_s <= at_s < self._booked.valid_until_s:
            self._booked = self.index.live(at_s)
        return self._booked

    def follow(self, plan, LeaseTable table, int64_t now_s, bint replan):
        """Serve by a PlanFile, or as booked without one, and by the leases in the table.

        Called by one thread, while another answers requests.
        """
        cdef Plan standing = self._plan
        cdef Live live
        if replan and plan is not None:
            standing = self.index.plan(
                plan.ids, rates_ppm=plan.rates_ppm, probabilities_ppm=plan.probabilities_ppm,
                multipliers_ppm=plan.multipliers_ppm)
        elif replan:
            standing = self.index.plan()
        live = self.live(now_s) if standing is self._plan else self.index.live(now_s, standing)
        self.leased.look_up(table)
        self.leased.apply(live, monotonic_ns())
        self._plan, self._live = standing, live

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
        self.plan_name = ""

    def click_url(self, creative_id):
        """The destination of a creative in the catalog being served, None when there is none."""
        cdef Snapshot snapshot = self.snapshot
        return None if snapshot is None else snapshot.click_url(creative_id)

    def lookbacks(self, line_item_id):
        """The line item's in the catalog being served; the usual ones when it is not there."""
        cdef Snapshot snapshot = self.snapshot
        return Lookbacks() if snapshot is None else snapshot.lookbacks(line_item_id)

    def poll(self, int64_t now_s):
        """Look at leases, plan and link once; True when another snapshot serves from now on."""
        # By now no request uses it: its memory goes back here, and not in the middle of an answer.
        self.retired = None
        cdef Snapshot snapshot = self._next()
        cdef bint replan = self._look_at_plan(now_s)
        if self.table is None:
            self.table = _open_table(self.run_dir / LEASES)
        if snapshot is None:
            if self.snapshot is not None:
                self._follow(self.snapshot, now_s, replan)
            return False
        # What the first request needs is built here.
        self._follow(snapshot, now_s, True)
        self.retired, self.snapshot = self.snapshot, snapshot
        log.info("snapshot serves", extra={"generation": snapshot.generation})
        return True

    def _next(self):
        """The snapshot that the link names, if it is another one and can be used."""
        try:
            name = os.readlink(self.link)
        except OSError:
            return None
        if name == self.name:
            return None
        self.name = name
        try:
            return Snapshot(Bundle(self.run_dir / name))
        except SnapshotError as error:
            log.error("snapshot refused", extra={"file": name, "reason": str(error)})
            return None

    def _look_at_plan(self, now_s):
        """Take the newest plan, drop one that is too old; True when it is another one now."""
        before = self.plan
        name = planning.current(self.run_dir)
        if name != self.plan_name:
            self.plan_name = name
            try:
                self.plan = PlanFile(self.run_dir / name) if name else None
            except SnapshotError as error:
                log.error("plan refused", extra={"file": name, "reason": str(error)})
        if self.plan is not None and not self.plan.serves(now_s):
            log.warning("plan dropped: too old", extra={"version": self.plan.version})
            self.plan = None
        return self.plan is not before

    def _follow(self, Snapshot snapshot, now_s, replan):
        try:
            snapshot.follow(self.plan, self.table, now_s, replan)
        except ValueError as error:
            log.error("plan refused", extra={"file": self.plan_name, "reason": str(error)})
            self.plan = None
            snapshot.follow(None, self.table, now_s, True)


def _open_table(path):
    """The lease table, None as long as the agent has not made it."""
    try:
        return LeaseTable(path)
    except (OSError, ValueError):
        return None
