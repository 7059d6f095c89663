"""What a user was shown, held against the caps of a line item: arithmetic on lists of moments.

A cap of n impressions in any w seconds is used up when the n-th moment from the end is younger than
w: one look, however many there are. `scripts/count_seen.lua` says the same in Redis.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint8_t, uint32_t

cdef enum:
    MOMENT_BYTES = 4


cdef inline int64_t _moment(const uint8_t* at) noexcept nogil:
    return <int64_t> at[0] << 24 | at[1] << 16 | at[2] << 8 | at[3]


def packed(list words not None):
    """Words of a command, as Redis reads them."""
    texts = [it if isinstance(it, bytes) else b"%d" % it for it in words]
    return b"".join([b"$%d\r\n%b\r\n" % (len(it), it) for it in texts])


@cython.final
cdef class Scope:
    """What is counted together; `caps` are the line item's own, as (impressions, window_s)."""

    def __init__(self, bytes field not None, uint32_t keep, uint32_t keep_s, tuple caps not None):
        if len(caps) > CAPS_MAX:
            raise ValueError(f"more than {CAPS_MAX} caps")
        self.field = field
        self.keep = keep
        self.keep_s = keep_s
        self.cap_count = len(caps)
        for place, (impressions, window_s) in enumerate(caps):
            self.impressions[<int> place] = impressions
            self.windows_s[<int> place] = window_s

    def cap(self, int place):
        if not 0 <= place < self.cap_count:
            raise IndexError("no such cap")
        return self.impressions[place], self.windows_s[place]


@cython.final
cdef class Rule:
    """What one line item's sightings are held to, and count for: a `LineCaps` made ready."""

    def __init__(self, int64_t line_item_id, caps not None):
        cdef list words = [len(caps.scopes)]
        self.line_item_id = line_item_id
        self.strict = caps.strict
        self.allow = caps.allow
        self.scopes = []
        for scope in caps.scopes:
            self.scopes.append(Scope(scope.field, scope.keep, scope.keep_s, tuple(scope.caps)))
            self.checks |= len(scope.caps) > 0
            words += [scope.field, scope.keep, scope.keep_s, len(scope.caps)]
            for pair in scope.caps:
                words += pair
        self.word_count = len(words) + 1
        self.counted = packed([0, *words])
        self.checked = packed([1, *words])


@cython.final
cdef class Seen:
    """One user's lists, as of `read_ns`; made of HGETALL's flat answer."""

    def __init__(self, list flat not None, Py_ssize_t first, int64_t read_ns):
        cdef Py_ssize_t place
        self.times = {}
        self.read_ns = read_ns
        for place in range(first, len(flat) - 1, 2):
            self.times[flat[place]] = flat[place + 1]

    def fields(self):
        return list(self.times)

    cdef int cap_used_up(self, Scope scope, int64_t now_s, int64_t more) except -2:
        """The first of the scope's caps that has no room for `more` and one; -1: all have."""
        cdef bytes times = self.times.get(scope.field)
        cdef Py_ssize_t known = 0 if times is None else PyBytes_GET_SIZE(times) // MOMENT_BYTES
        cdef const uint8_t* moments
        cdef int64_t left
        cdef int place
        for place in range(scope.cap_count):
            left = scope.impressions[place] - more
            if left <= 0:
                return place
            if left > known:
                continue
            moments = <const uint8_t*> PyBytes_AS_STRING(times)
            if _moment(moments + MOMENT_BYTES * (known - left)) > now_s - scope.windows_s[place]:
                return place
        return -1

    cdef bint allows(self, Rule rule, int64_t now_s, dict more, int64_t spare) except -1:
        """Whether all caps have room for one more beside `more`, by field, and `spare` others."""
        cdef Scope scope
        cdef int64_t others
        for scope in rule.scopes:
            if scope.cap_count:
                others = spare if more is None else spare + <int64_t> more.get(scope.field, 0)
                if self.cap_used_up(scope, now_s, others) >= 0:
                    return False
        return True

    cdef int add(self, Rule rule, int64_t now_s) except -1:
        """Count one more, as Redis will."""
        cdef Scope scope
        cdef bytes times
        cdef int64_t moment
        for scope in rule.scopes:
            times = self.times.get(scope.field, b"")
            moment = now_s
            if times:
                moment = max(now_s, int.from_bytes(times[len(times) - MOMENT_BYTES:], "big"))
            times = times[max(0, len(times) - MOMENT_BYTES * (<Py_ssize_t> scope.keep - 1)):]
            self.times[scope.field] = times + moment.to_bytes(MOMENT_BYTES, "big")
        return 0

    # -- for tests, which the oracle is held against

    def room(self, Rule rule not None, int64_t now_s, int64_t spare=0):
        return self.allows(rule, now_s, None, spare)

    def seen(self, Rule rule not None, int64_t now_s):
        self.add(rule, now_s)
