"""Targeting expressions become rows: numbers of predicates, and numeric ranges.

Most bookings are one AND of includes, excludes and ranges, each of another dimension or key: those
are read straight from the records. Whatever else there is goes through `normalise`, which is the
one to say what an expression means and what is wrong with it. Both ways give the same rows.
"""

cimport cython
from cpython.exc cimport PyErr_Clear
from libc.math cimport INFINITY
from libc.stdint cimport int64_t, uint8_t, uint32_t
from libc.stdlib cimport qsort

from adcore.limits cimport VALUES_MAX
from adcore.tables cimport (
    CHECK_ALL, CHECK_ANY, CHECK_MASK, CHECK_PREDICATE, CHECK_RANGE, CHECK_SHIFT, KEY_SPACE_FIRST,
    SPACE_AD_TYPE, SPACE_CATEGORY, SPACE_KEY, SPACE_KEYWORD, SPACE_SEGMENT,
    SPACE_SITE, SPACE_ZONE, Range,
)

from typing import get_args

from adcore import tables
from adcore.catalog import Dimension, Expression
from adcore.expression import KEY_VALUE, All, Among, Between
from adcore.normalising import normalise

cdef extern from "Python.h":
    const char* PyUnicode_AsUTF8AndSize(object text, Py_ssize_t* size)

cdef enum:
    # What became of an expression, or of one part of it.
    OTHERWISE = 0   # it is not of the simple kind
    KEPT = 1
    NEVER = 2
    SORT_BY_HAND = 16   # so many numbers are put in order faster than qsort is called

cdef dict SPACES = {name: getattr(tables, f"SPACE_{name.upper()}") for name in get_args(Dimension)}


@cython.final
@cython.auto_pickle(False)
cdef class Rows:
    """The rows of a catalog in the order of booking; filled and read by compiled code only."""

    def __cinit__(self):
        self.numbering = Numbering()
        self.term_ends = Vector()
        self.terms = Vector()
        self.check_ends = Vector()
        self.checks = Vector()
        self.ranges = Vector()
        self.values = Vector()

    cdef uint32_t count(self) noexcept:
        return <uint32_t> (self.term_ends.bytes // sizeof(uint32_t))

    cdef int add(self, object expression) except -1:
        """Add the expression's rows, of which there may be none: it never holds then."""
        cdef int kind
        cdef uint32_t number
        self.part_count = 0
        self.bounded_count = 0
        if expression is None:
            self._end_row()
            return 0
        kind = self._simple(expression)
        if kind == KEPT:
            for number in range(self.bounded_count):
                self._range(&self.bounded[number])
            self._end_row()
        elif kind == OTHERWISE:
            self._normalised(expression)
        return 0

    # -- the simple kind: one predicate of a subject, or an AND of such ----------------------------

    cdef int _simple(self, object expression) except -1:
        cdef tuple members
        cdef int kind, made = KEPT
        if type(expression) is not Expression or expression.any is not None \
                or expression.not_ is not None:
            return OTHERWISE
        if type(expression.all) is not tuple:
            return self._leaf(expression)
        members = expression.all
        if len(members) > PREDICATES_MAX or expression.dimension is not None \
                or expression.key is not None or _included(expression) is not None \
                or expression.exclude is not None or expression.at_least is not None \
                or expression.below is not None:
            return OTHERWISE
        for member in members:
            if type(member) is not Expression or member.all is not None \
                    or member.any is not None or member.not_ is not None:
                return OTHERWISE
            kind = self._leaf(member)
            if kind == OTHERWISE:
                return OTHERWISE
            if kind == NEVER:
                made = NEVER  # but the other members must be sound all the same
        return made

    cdef int _leaf(self, object leaf) except -1:
        """Keep a predicate of one dimension or key; the leaf is no all, any or not."""
        cdef object included = _included(leaf)
        cdef object excluded = leaf.exclude
        cdef object listed = excluded if included is None else included
        cdef uint32_t space, place
        if listed is None:
            return self._bounded(leaf)
        if type(listed) is not tuple or (included is not None and excluded is not None) \
                or leaf.at_least is not None or leaf.below is not None:
            return OTHERWISE
        dimension, key = leaf.dimension, leaf.key
        if key is None:
            found = SPACES.get(dimension)
            if found is None:
                return OTHERWISE
            space = found
        else:
            if dimension is not None \
                    or not self._value(<uint32_t> SPACE_KEY, key, &space):
                return OTHERWISE
            space += KEY_SPACE_FIRST
        if self._is_bounded(space):
            return OTHERWISE
        for place in range(self.part_count):
            # Two of one subject may be simplified, but for includes where a request has several.
            if self.parts[place].subject == space and (
                self.parts[place].negated or included is None or not _several(space)
            ):
                return OTHERWISE
        if not listed:
            return KEPT if included is None else NEVER
        if not self._values(space, <tuple> listed):
            return OTHERWISE
        return self._keep(space, included is None)

    cdef int _bounded(self, object leaf) except -1:
        """Keep a range of a key that the row has nothing else of."""
        cdef Range* bounds = &self.bounded[self.bounded_count]
        cdef uint32_t place
        if leaf.key is None or leaf.dimension is not None \
                or (leaf.at_least is None and leaf.below is None) \
                or not _bound(leaf.at_least, -INFINITY, &bounds.at_least) \
                or not _bound(leaf.below, INFINITY, &bounds.below) \
                or not bounds.at_least < bounds.below \
                or not self._value(<uint32_t> SPACE_KEY, leaf.key, &bounds.key) \
                or self._is_bounded(KEY_SPACE_FIRST + bounds.key):
            return OTHERWISE
        for place in range(self.part_count):
            if self.parts[place].subject == KEY_SPACE_FIRST + bounds.key:
                return OTHERWISE
        bounds.negated = False
        self.bounded_count += 1
        return KEPT

    cdef bint _is_bounded(self, uint32_t space) noexcept:
        cdef uint32_t number
        for number in range(self.bounded_count):
            if KEY_SPACE_FIRST + self.bounded[number].key == space:
                return True
        return False

    cdef int _values(self, uint32_t space, tuple listed) except -1:
        """Collect the features of the values.

        False: they are more than a set may have, or there is one that `_value` can't read.
        """
        cdef uint32_t number
        self.values.bytes = 0
        if len(listed) > VALUES_MAX:
            return False
        for value in listed:
            if not self._value(space, value, &number):
                return False
            _append(self.values, number)
        return True

    cdef int _value(self, uint32_t space, object value, uint32_t* feature) except -1:
        """Find the number of one value; false: it is text that is no plain value, or no text."""
        cdef Py_ssize_t size
        cdef const char* utf8
        cdef int64_t id_
        cdef Py_ssize_t place
        cdef uint8_t byte
        if space == <uint32_t> SPACE_SITE or space == <uint32_t> SPACE_ZONE \
                or space == <uint32_t> SPACE_AD_TYPE:
            if type(value) is str and value.isascii() and value.isdigit() and len(value) < 19 \
                    and value[0] != "0":
                id_ = int(value)
            elif type(value) is int and 0 < value < 1 << 63:
                id_ = value
            else:
                return False
            feature[0] = self.numbering.feature(space, <const uint8_t*> &id_, sizeof(int64_t))
            return True
        if type(value) is int and -(1 << 63) <= value < 1 << 64:
            value = str(value)
        if type(value) is not str:
            return False
        utf8 = PyUnicode_AsUTF8AndSize(value, &size)
        if utf8 == NULL:
            PyErr_Clear()
            return False
        if not 0 < size <= VALUE_BYTES_MAX:
            return False
        if space >= <uint32_t> SPACE_KEY:  # key-values, and keys, are exact
            feature[0] = self.numbering.feature(space, <const uint8_t*> utf8, <uint32_t> size)
            return True
        for place in range(size):
            byte = <uint8_t> utf8[place]
            self.text[place] = byte | ((<uint8_t> (byte - 65) < 26) << 5)
        feature[0] = self.numbering.feature(space, self.text, <uint32_t> size)
        return True

    cdef int _keep(self, uint32_t space, bint negated) except -1:
        """Make the collected values a predicate of the row."""
        cdef Part* part = &self.parts[self.part_count]
        cdef uint32_t* values = <uint32_t*> self.values.data
        cdef uint32_t count = _distinct(values, <uint32_t> (self.values.bytes // sizeof(uint32_t)))
        cdef uint32_t place
        part.predicate = self.numbering.predicate(space, negated, values, count)
        for place in range(self.part_count):
            if self.parts[place].predicate == part.predicate:
                return KEPT  # said twice
        part.subject = space
        part.negated = negated
        part.value_count = count
        self.part_count += 1
        return KEPT

    # -- any other kind ----------------------------------------------------------------------------

    cdef int _normalised(self, object expression) except -1:
        wanted = normalise(expression)
        for conjunction in wanted.conjunctions:
            self.part_count = 0
            for predicate in conjunction:
                if type(predicate) is Between:
                    self._check(predicate)
                else:
                    self._keep(self._collect(predicate), predicate.negated)
            if wanted.residual is not None:
                self._check(wanted.residual)
            self._end_row()
        return 0

    cdef uint32_t _collect(self, object among) except? 0xFFFFFFFF:
        """Collect the features of a predicate's values, and return its space."""
        cdef uint32_t space
        if among.subject.dimension == KEY_VALUE:
            space = KEY_SPACE_FIRST + <uint32_t> self.numbering.add(
                <uint32_t> SPACE_KEY, among.subject.key)
        else:
            space = SPACES[among.subject.dimension]
        self.values.bytes = 0
        # Sorted, because a set of bytes has another order in every process.
        for value in sorted(among.values):
            text = value if type(value) is bytes else value.to_bytes(8, "little")
            _append(self.values, self.numbering.add(space, text))
        return space

    cdef int _check(self, object check) except -1:
        """Add a check to those of the row: a predicate, a range, or an OR or AND of checks."""
        cdef size_t place
        cdef uint32_t space, kind
        cdef uint32_t* values
        cdef Range bounds
        if type(check) is Between:
            bounds.at_least = check.at_least
            bounds.below = check.below
            bounds.key = self.numbering.add(<uint32_t> SPACE_KEY, check.subject.key)
            bounds.negated = check.negated
            self._range(&bounds)
            return 0
        if type(check) is Among:
            space = self._collect(check)
            values = <uint32_t*> self.values.data
            _append(self.checks, CHECK_PREDICATE << CHECK_SHIFT | self.numbering.predicate(
                space, check.negated, values,
                _distinct(values, <uint32_t> (self.values.bytes // sizeof(uint32_t)))))
            return 0
        kind = CHECK_ALL if type(check) is All else CHECK_ANY
        place = self.checks.bytes
        _append(self.checks, 0)
        for member in check.members:
            self._check(member)
        (<uint32_t*> (self.checks.data + place))[0] = kind << CHECK_SHIFT | <uint32_t> (
            (self.checks.bytes - place) // sizeof(uint32_t) - 1)
        if self.checks.bytes // sizeof(uint32_t) > CHECK_MASK:
            raise OverflowError("the catalog has too many checks")
        return 0

    cdef int _range(self, const Range* range_) except -1:
        (<Range*> self.ranges.extend(sizeof(Range)))[0] = range_[0]
        _append(self.checks, CHECK_RANGE << CHECK_SHIFT | <uint32_t> (
            self.ranges.bytes // sizeof(Range) - 1))
        return 0

    cdef int _end_row(self) except -1:
        """Add the row: includes of few values first, because they rule out most rows at once."""
        cdef uint32_t* terms
        cdef uint32_t place, back
        cdef Part part
        if not self.part_count:
            # Each row has a last term: this one excludes nothing, which is true of all requests.
            self.values.bytes = 0
            self._keep(<uint32_t> SPACE_SITE, True)
        for place in range(1, self.part_count):
            part = self.parts[place]
            back = place
            while back and _before(&part, &self.parts[back - 1]):
                self.parts[back] = self.parts[back - 1]
                back -= 1
            self.parts[back] = part
        terms = <uint32_t*> self.terms.extend(self.part_count * sizeof(uint32_t))
        for place in range(self.part_count):
            terms[place] = self.parts[place].predicate
        _append(self.term_ends, <uint32_t> (self.terms.bytes // sizeof(uint32_t)))
        _append(self.check_ends, <uint32_t> (self.checks.bytes // sizeof(uint32_t)))
        return 0


cdef inline int _append(Vector numbers, uint32_t number) except -1:
    (<uint32_t*> numbers.extend(sizeof(uint32_t)))[0] = number
    return 0


cdef inline bint _bound(object bound, double missing, double* number) noexcept:
    """Read a range's bound; false: `normalise` is to say what it is, or what is wrong with it."""
    if bound is not None and type(bound) is not float:
        return False
    number[0] = missing if bound is None else <double> bound
    return bound is None or -INFINITY < number[0] < INFINITY


cdef inline bint _several(uint32_t space) noexcept nogil:
    """Whether a request may have several values here."""
    return space >= <uint32_t> KEY_SPACE_FIRST or space == <uint32_t> SPACE_ZONE \
        or space == <uint32_t> SPACE_AD_TYPE or space == <uint32_t> SPACE_KEYWORD \
        or space == <uint32_t> SPACE_CATEGORY or space == <uint32_t> SPACE_SEGMENT


cdef inline object _included(object expression):
    return getattr(expression, "include")  # a word of Cython's own


cdef inline bint _before(const Part* part, const Part* other) noexcept nogil:
    if part.negated != other.negated:
        return not part.negated
    return part.value_count < other.value_count


cdef uint32_t _distinct(uint32_t* numbers, uint32_t count) noexcept nogil:
    """Put the numbers in rising order, each once, and return how many are left."""
    cdef uint32_t place, back, number, kept = 0
    if count > SORT_BY_HAND:
        qsort(numbers, count, sizeof(uint32_t), &_compare)
    else:
        for place in range(1, count):
            number = numbers[place]
            back = place
            while back and numbers[back - 1] > number:
                numbers[back] = numbers[back - 1]
                back -= 1
            numbers[back] = number
    for place in range(count):
        if not place or numbers[place] != numbers[kept - 1]:
            numbers[kept] = numbers[place]
            kept += 1
    return kept


cdef int _compare(const void* one, const void* other) noexcept nogil:
    cdef uint32_t left = (<const uint32_t*> one)[0]
    cdef uint32_t right = (<const uint32_t*> other)[0]
    return (left > right) - (left < right)
