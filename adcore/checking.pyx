"""What a row demands, read from the row itself: its terms, and the checks that no column knows of.

Numbers in ranges are looked at when the columns let a row pass, and so is an expression that is too
wide to become rows: its row demands what any of its ANDs would, and its checks are the expression.
"""

from libc.math cimport INFINITY
from libc.stdint cimport uint32_t, uint64_t

from adcore.choosing cimport Choice, Context
from adcore.tables cimport (
    CHECKED_ROWS, CHECK_ALL, CHECK_ANY, CHECK_MASK, CHECK_PREDICATE, CHECK_RANGE, CHECK_SHIFT,
    KEY_SPACE_FIRST, TERM_LAST, TERM_ROWS, Predicate, Range, Tables, _number, _predicate,
)


cdef void _mark(Choice* choice) noexcept nogil:
    """Set the bit of each feature that the request has: values are looked up there."""
    cdef uint32_t place, feature
    for place in range(choice.context.feature_count):
        feature = choice.context.features[place]
        choice.asked[feature >> 6] |= <uint64_t> 1 << (feature & 63)


cdef void _unmark(Choice* choice) noexcept nogil:
    cdef uint32_t place
    for place in range(choice.context.feature_count):
        choice.asked[choice.context.features[place] >> 6] = 0


cdef inline bint _holds(const Choice* choice, uint32_t number) noexcept nogil:
    """Whether a value of the request is among the predicate's; negated, whether none is."""
    cdef Predicate predicate = _predicate(choice.tables, number)
    cdef uint32_t feature = 0
    while predicate.features < predicate.end:
        feature += _number(&predicate.features)
        if choice.asked[feature >> 6] >> (feature & 63) & 1:
            return not predicate.negated
    return predicate.negated


cdef const uint32_t* _terms(const Tables* tables, uint32_t row) noexcept nogil:
    """Find the row's terms."""
    cdef const uint32_t* term = tables.terms + tables.term_firsts[row // TERM_ROWS]
    cdef uint32_t _row
    for _row in range(row % TERM_ROWS):
        term = _behind_terms(term)
    return term


cdef const uint32_t* _behind_terms(const uint32_t* term) noexcept nogil:
    """Step from any term of a row to the first of the next row."""
    while not term[0] & TERM_LAST:
        term += 1
    return term + 1


cdef bint _terms_hold(const Choice* choice, const uint32_t* term) noexcept nogil:
    """Whether the marked request satisfies what the columns say of a row, given its first term."""
    while _holds(choice, term[0] & ~<uint32_t> TERM_LAST):
        if term[0] & TERM_LAST:
            return True
        term += 1
    return False


# -- checks ----------------------------------------------------------------------------------------


cdef bint _in_range(const Choice* choice, const Range* range_) noexcept nogil:
    cdef const Context* context = &choice.context
    cdef uint32_t place
    cdef double value
    for place in range(context.number_count):
        value = context.numbers[place].value
        # Without an upper bound infinity is inside; NaN is in no range, as it compares false.
        if context.numbers[place].key == range_.key and range_.at_least <= value \
                and (value < range_.below or range_.below == INFINITY):
            return not range_.negated
    return range_.negated


cdef bint _check_holds(const Choice* choice, const uint32_t* check) noexcept nogil:
    cdef uint32_t kind = check[0] >> CHECK_SHIFT
    cdef uint32_t number = check[0] & CHECK_MASK
    cdef const uint32_t* member = check + 1
    cdef const uint32_t* end = member + number
    if kind == CHECK_PREDICATE:
        return _holds(choice, number)
    if kind == CHECK_RANGE:
        return _in_range(choice, &choice.tables.ranges[number])
    while member < end:
        if _check_holds(choice, member) == (kind == CHECK_ANY):
            return kind == CHECK_ANY
        member = _behind(member)
    return kind == CHECK_ALL


cdef inline const uint32_t* _behind(const uint32_t* check) noexcept nogil:
    if check[0] >> CHECK_SHIFT == CHECK_PREDICATE or check[0] >> CHECK_SHIFT == CHECK_RANGE:
        return check + 1
    return check + 1 + (check[0] & CHECK_MASK)


cdef inline uint32_t _place(const Choice* choice, uint32_t row) noexcept nogil:
    """Find a row that has checks among those that have."""
    cdef uint32_t low = 0, high = choice.tables.counts[CHECKED_ROWS] - 1
    cdef uint32_t middle
    while low < high:
        middle = low + (high - low) // 2
        if choice.tables.checked_rows[middle] < row:
            low = middle + 1
        else:
            high = middle
    return low


cdef inline bint _has_checks(const Choice* choice, uint32_t row) noexcept nogil:
    return choice.tables.counts[CHECKED_ROWS] \
        and choice.tables.checked[row >> 6] >> (row & 63) & 1


cdef bint _checks_hold(const Choice* choice, uint32_t row) noexcept nogil:
    """Whether the row's checks hold; the request is marked, if any check is about values."""
    cdef uint32_t place
    cdef const uint32_t* check
    cdef const uint32_t* end
    if not _has_checks(choice, row):
        return True
    place = _place(choice, row)
    check = choice.tables.checks + choice.tables.check_firsts[place]
    end = choice.tables.checks + choice.tables.check_firsts[place + 1]
    while check < end:
        if not _check_holds(choice, check):
            return False
        check = _behind(check)
    return True


# -- what fails ------------------------------------------------------------------------------------


cdef uint32_t _check_space(const Choice* choice, const uint32_t* check) noexcept nogil:
    """The space that a check which fails looks at: of an OR, the first one."""
    cdef uint32_t kind = check[0] >> CHECK_SHIFT
    cdef uint32_t number = check[0] & CHECK_MASK
    cdef const uint32_t* member = check + 1
    if kind == CHECK_PREDICATE:
        return _predicate(choice.tables, number).space
    if kind == CHECK_RANGE:
        return KEY_SPACE_FIRST + choice.tables.ranges[number].key
    while member < check + 1 + number:
        if not _check_holds(choice, member):
            return _check_space(choice, member)
        member = _behind(member)
    return 0xFFFFFFFF  # an OR of nothing


cdef uint32_t _failing_space(
    const Choice* choice, uint32_t row, uint32_t* space
) noexcept nogil:
    """How many parts of a row fail the marked request, and the space of the first of them."""
    cdef uint32_t place, failing = 0
    cdef const uint32_t* check
    cdef const uint32_t* end
    cdef const uint32_t* term = _terms(choice.tables, row)
    cdef const uint32_t* term_end = _behind_terms(term)
    while term < term_end:
        if not _holds(choice, term[0] & ~<uint32_t> TERM_LAST):
            if not failing:
                space[0] = _predicate(choice.tables, term[0] & ~<uint32_t> TERM_LAST).space
            failing += 1
        term += 1
    if not _has_checks(choice, row):
        return failing
    place = _place(choice, row)
    check = choice.tables.checks + choice.tables.check_firsts[place]
    end = choice.tables.checks + choice.tables.check_firsts[place + 1]
    while check < end:
        if not _check_holds(choice, check):
            if not failing:
                space[0] = _check_space(choice, check)
            failing += 1
        check = _behind(check)
    return failing
