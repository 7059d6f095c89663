# What a user was shown, held against the caps of a line item.

from libc.stdint cimport int64_t, uint32_t

cdef enum:
    CAPS_MAX = 8  # of one line item, as the catalog has it

cdef class Scope:
    cdef readonly bytes field
    cdef readonly uint32_t keep, keep_s
    cdef readonly int cap_count
    cdef uint32_t impressions[CAPS_MAX]
    cdef uint32_t windows_s[CAPS_MAX]

cdef class Rule:
    cdef readonly int64_t line_item_id
    cdef readonly bint strict, allow
    cdef readonly bint checks   # it has caps of its own, and does not only count for others'
    cdef readonly list scopes
    cdef readonly bytes counted, checked    # the words of scripts/count_seen.lua, packed
    cdef readonly int word_count

cdef class Seen:
    cdef dict times             # by field: moments, u32 big-endian, the oldest first
    cdef readonly int64_t read_ns

    cdef int cap_used_up(self, Scope scope, int64_t now_s, int64_t more) except -2
    cdef bint allows(self, Rule rule, int64_t now_s, dict more, int64_t spare) except -1
    cdef int add(self, Rule rule, int64_t now_s) except -1
