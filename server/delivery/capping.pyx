"""Frequency caps: which winners a user may not see, and which of them must be counted first.

The index selects without knowing the user. Only when a winner has caps is the user looked up, once
a request; the winners that are used up are left out and the request is selected again with the
same draw, until all may be shown.

What we remember of a user is true as far as it goes, since others only add: what it says is used
up is so. That there is room is believed only of what was read a moment ago, or while there is much
room. The last places of a cap, and every one of a strict cap, are taken in Redis before the ad is
shown, in one step with the check; other servers can't take them as well.
"""

cimport cython
from libc.stdint cimport int64_t

from adcore.limits cimport CAPPED_HERE_MAX, CAPPED_MAX
from adcore.request cimport Placement, Request
from adcore.win cimport Win

from server.delivery.sightings cimport Rule, Scope, Seen
from server.delivery.snapshot cimport Snapshot
from server.delivery.users cimport Users
from server.delivery.visits cimport Visit

from server.clock import perf_ns
from server.delivery.cap_records import cap_id

ROUNDS_MAX = 16  # of selecting again; after them a winner that is used up is no ad
KNOWN_NS = 10_000_000_000  # how long what is used up is believed: a user forgotten elsewhere waits
TRUSTED_NS = 250_000_000  # how long much room is believed, and
TRUSTED_ROOM = 8  # how much that is: more than other servers give away meanwhile
# With so few places left beside the next one, it is counted ahead: as many other servers may be
# showing the ad to the same user at this moment.
NEAR_ROOM = 3

cdef Seen NOBODY = Seen([], 0, 0)  # of whom nothing is known

cdef class Held:
    """A winner with caps, or one that counts for others'."""

    cdef Py_ssize_t placement
    cdef Rule rule

    def __cinit__(self, Py_ssize_t placement, Rule rule):
        self.placement = placement
        self.rule = rule


@cython.final
cdef class Capper:
    """One a worker. Whoever calls it holds the turn of `users`."""

    def __init__(self, Users users not None):
        self.users = users

    cdef int review(
        self, Visit visit, Request request, Snapshot snapshot, list wins
    ) except -1:
        """Look at the winners, and say how to go on: DONE, AGAIN or WAIT."""
        cdef list held = []
        cdef Py_ssize_t number
        cdef bint checks = False, again = False
        cdef Win win
        cdef Rule rule
        if visit.user is None or not snapshot.has_caps:
            return DONE
        for number in range(len(wins)):
            for win in <list> wins[number]:
                rule = snapshot.rule(win.line_item_id)
                if rule is not None:
                    checks |= rule.checks
                    held.append(Held.__new__(Held, number, rule))
        if not checks:
            return DONE
        if visit.seen is None and not visit.unknown:
            self._remember(visit)
        if visit.seen is not None:
            again = self._cap(visit, request, snapshot, held)
        if not again and not visit.unknown:
            if self._find_out(visit, held):
                return WAIT
        if not again and visit.unknown:
            again = self._deny(visit, request, held)
        if again:
            visit.rounds += 1
            if visit.rounds > ROUNDS_MAX:
                self._drop(visit, held, wins)
                return DONE
            return AGAIN
        return DONE

    cdef bint _find_out(self, Visit visit, list held) except -1:
        """Know what there is to know before the winners are shown; true: the visit waits for it.

        What is to be counted ahead is, and its answer tells of the user as a read does.
        """
        cdef list needed = self._near(visit, held)
        cdef bint waits
        if needed:
            waits = self.users.check(visit, needed)
        elif visit.fresh:
            return False
        elif visit.seen is not None and self._much_room(visit, held):
            self.users.tally("read hit")
            visit.fresh = True
            return False
        else:
            waits = self.users.ask(visit)
        if not waits:
            visit.unknown, visit.seen = True, None
        return waits

    cdef int shown(self, Visit visit, Snapshot snapshot, list wins) except -1:
        """Count what is shown; what was counted ahead and did not win after all is taken back."""
        cdef list rules = [], idle = []
        cdef Win win
        cdef Rule rule
        if visit.user is None or not snapshot.has_caps or not visit.counts:
            return 0
        for won in wins:
            for win in <list> won:
                rule = snapshot.rule(win.line_item_id)
                if rule is None:
                    continue
                if visit.unknown and rule.checks:
                    self.users.tally("unknown allowed")
                ahead = None if visit.reserved is None else visit.reserved.get(win.line_item_id)
                if ahead:
                    ahead.pop()
                else:
                    rules.append(rule)
        if rules:
            self.users.count(visit, rules)
        if visit.reserved is not None:
            for ahead in visit.reserved.values():
                idle += ahead
            if idle:
                self.users.take_back(visit, idle)
        return 0

    def _remember(self, Visit visit):
        """Take what we know of the user, unless that is long ago."""
        cdef int64_t now_ns = perf_ns()
        cdef Seen seen = self.users.known(visit.user, now_ns)
        if seen is not None and now_ns - seen.read_ns < KNOWN_NS:
            visit.seen = seen

    def _much_room(self, Visit visit, list held):
        cdef Held winner
        if <int64_t> perf_ns() - visit.seen.read_ns > TRUSTED_NS:
            return False
        for winner in held:
            if winner.rule.strict or not visit.seen.allows(
                winner.rule, visit.visit_s, None, TRUSTED_ROOM
            ):
                return False
        return True

    cdef bint _cap(
        self, Visit visit, Request request, Snapshot snapshot, list held
    ) except -1:
        """Leave out those that are used up; the same ad twice may be once too often."""
        cdef dict more = {}, ahead = {}
        cdef bint again = False
        cdef Held winner
        cdef Scope scope
        for winner in held:
            if self._is_ahead(visit, winner.rule, ahead):
                continue
            # Where an earlier slot has the last place of it, only the later ones go without.
            counted = visit.reserved is not None and winner.rule.line_item_id in visit.reserved
            if not counted and not visit.seen.allows(winner.rule, visit.visit_s, None, 0):
                self._leave_out(visit, request, snapshot, winner.rule)
                again = True
                continue
            if not visit.seen.allows(winner.rule, visit.visit_s, more, 0):
                self._leave_out_from(request, winner.placement, winner.rule.line_item_id)
                again = True
                continue
            for scope in winner.rule.scopes:
                more[scope.field] = more.get(scope.field, 0) + 1
        if again and visit.excluded:
            request.capped_line_items = sorted(visit.excluded)[:CAPPED_MAX]
        if visit.excluded and not again:
            again = self._not_all_out(visit, request, held)
        return again

    def _not_all_out(self, Visit visit, Request request, list held):
        """Whether a check refused one that still stands among the winners."""
        cdef Held winner
        for winner in held:
            if winner.rule.line_item_id in visit.excluded:
                request.capped_line_items = sorted(visit.excluded)[:CAPPED_MAX]
                return True
        return False

    def _is_ahead(self, Visit visit, Rule rule, dict ahead):
        """Whether this win has been counted already: as many of a line item as were."""
        if visit.reserved is None:
            return False
        counted = visit.reserved.get(rule.line_item_id)
        taken = ahead.get(rule.line_item_id, 0)
        if counted is None or taken >= len(counted):
            return False
        ahead[rule.line_item_id] = taken + 1
        return True

    cdef int _leave_out(
        self, Visit visit, Request request, Snapshot snapshot, Rule rule
    ) except -1:
        """Leave out a line item that is used up, and whoever else is known to be so."""
        cdef Scope scope
        cdef Rule other
        cdef int place
        if visit.excluded is None:
            visit.excluded = set()
            # Whatever else of its own the user has seen often enough would come up next.
            for field in visit.seen.times:
                if field[:1] == b"l":
                    other = snapshot.rule(int(field[1:]))
                    if other is not None and other.checks \
                            and not visit.seen.allows(other, visit.visit_s, None, 0):
                        visit.excluded.add(other.line_item_id)
        self.users.tally("refused")
        visit.excluded.add(rule.line_item_id)
        for scope in rule.scopes:
            place = visit.seen.cap_used_up(scope, visit.visit_s, 0)
            if place >= 0 and scope.field[:1] != b"l":
                shared = snapshot.sharing(
                    cap_id(scope.field, scope.impressions[place], scope.windows_s[place]))
                visit.excluded.update(shared[:CAPPED_MAX])
        return 0

    def _leave_out_from(self, Request request, Py_ssize_t first, int64_t line_item_id):
        """Leave out of a placement and all later ones what an earlier one may still have."""
        cdef Placement placement
        self.users.tally("refused")
        for placement in request.placements[first:]:
            if len(placement.capped_line_items) < CAPPED_HERE_MAX:
                placement.capped_line_items = [*placement.capped_line_items, line_item_id]

    cdef list _near(self, Visit visit, list held):
        """Those that must be counted ahead: strict ones, and the last places of any cap."""
        cdef Seen seen = visit.seen or NOBODY
        cdef list needed = []
        cdef dict more = {}, ahead = {}
        cdef Held winner
        cdef Scope scope
        if not visit.counts:
            return needed
        for winner in held:
            if not winner.rule.checks or self._is_ahead(visit, winner.rule, ahead):
                continue
            if winner.rule.strict or not seen.allows(winner.rule, visit.visit_s, more, NEAR_ROOM):
                needed.append(winner.rule)
            for scope in winner.rule.scopes:
                more[scope.field] = more.get(scope.field, 0) + 1
        return needed

    cdef bint _deny(self, Visit visit, Request request, list held) except -1:
        """Leave out those that are not to be shown to a user whose counts are not known."""
        cdef dict ahead = {}
        cdef bint again = False
        cdef Held winner
        for winner in held:
            if not winner.rule.checks or winner.rule.allow \
                    or self._is_ahead(visit, winner.rule, ahead):
                continue
            if visit.excluded is None:
                visit.excluded = set()
            self.users.tally("unknown denied")
            visit.excluded.add(winner.rule.line_item_id)
            again = True
        if again:
            request.capped_line_items = sorted(visit.excluded)[:CAPPED_MAX]
        return again

    cdef int _drop(self, Visit visit, list held, list wins) except -1:
        """Too many rounds: have no ad where the winner may not be shown."""
        cdef Held winner
        cdef Win win
        for winner in held:
            if winner.rule.checks:
                wins[winner.placement] = [
                    win for win in wins[winner.placement]
                    if win.line_item_id != winner.rule.line_item_id
                ]
        return 0
