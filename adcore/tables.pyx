"""The door for compiled buffers: a corrupt one is refused here, and can't crash a kernel later.

`_open` reads the directory, and derives what is kept of all records. `_check` reads every
record once, so it is linear in the file (some milliseconds at 100,000 rows); its caller releases
the GIL around it.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t, uint8_t

from adcore.limits cimport (
    ADS_MAX, COLUMNS_MAX, EXPRESSION_DEPTH_MAX, LABELS_MAX, ROWS_MAX, VALUE_BYTES_MAX, WEIGHT_MAX,
)

cdef extern from *:
    int _bit_count "__builtin_popcountll"(unsigned long long bits) noexcept nogil

cdef uint32_t[SECTION_COUNT] _record_bytes = [
    sizeof(Line), sizeof(Settings), sizeof(Group), sizeof(Tier), sizeof(uint32_t), sizeof(Ad),
    sizeof(Creative), sizeof(uint32_t), sizeof(Schedule), 1, sizeof(Column), sizeof(uint64_t),
    sizeof(Posting), sizeof(uint32_t), sizeof(Feature), 1, sizeof(uint32_t), sizeof(uint32_t),
    sizeof(uint32_t), sizeof(uint32_t), 1, sizeof(uint64_t), sizeof(uint32_t), sizeof(uint32_t),
    sizeof(uint32_t), sizeof(Range),
]

HEADER_BYTES = sizeof(Header)
RECORD_BYTES = tuple(_record_bytes)
ECPM_MICROS_MAX = <int64_t> <int64_t> ECPM_MAX


cdef const char* _open(Tables* tables, const uint8_t* base, uint64_t size) noexcept nogil:
    cdef uint64_t directory_end = sizeof(Header) + SECTION_COUNT * sizeof(Section)
    cdef const Header* header = <const Header*> base
    cdef const Section* sections = <const Section*> (base + sizeof(Header))
    cdef int number
    cdef const char* fault
    if <uint64_t> base % sizeof(uint64_t):
        return "not aligned to 8 bytes"
    if size < directory_end:
        return "shorter than a header"
    if header.magic != MAGIC:
        return "not a compiled catalog"
    if header.version != FORMAT_VERSION or header.section_count != SECTION_COUNT:
        return "of another format version"
    if header.bytes != size:
        return "not as long as its header says"
    for number in range(SECTION_COUNT):
        if sections[number].offset % SECTION_ALIGN or sections[number].offset < directory_end:
            return "a section starts at a wrong place"
        if sections[number].offset > size \
                or sections[number].bytes > size - sections[number].offset:
            return "a section reaches past the end"
        if sections[number].bytes % _record_bytes[number]:
            return "a section ends inside a record"
        if sections[number].bytes // _record_bytes[number] >= <uint64_t> 1 << 32:
            return "a section has too many records"
        tables.counts[number] = <uint32_t> (sections[number].bytes // _record_bytes[number])
    tables.header = header
    tables.lines = <const Line*> (base + sections[LINES].offset)
    tables.settings = <const Settings*> (base + sections[SETTINGS].offset)
    tables.groups = <const Group*> (base + sections[GROUPS].offset)
    tables.tiers = <const Tier*> (base + sections[TIERS].offset)
    tables.row_ranks = <const uint32_t*> (base + sections[ROW_RANKS].offset)
    tables.ads = <const Ad*> (base + sections[ADS].offset)
    tables.creatives = <const Creative*> (base + sections[CREATIVES].offset)
    tables.labels = <const uint32_t*> (base + sections[LABELS].offset)
    tables.schedules = <const Schedule*> (base + sections[SCHEDULES].offset)
    tables.zones = base + sections[ZONES].offset
    tables.columns = <const Column*> (base + sections[COLUMNS].offset)
    tables.bitmaps = <const uint64_t*> (base + sections[BITMAPS].offset)
    tables.postings = <const Posting*> (base + sections[POSTINGS].offset)
    tables.posting_rows = <const uint32_t*> (base + sections[POSTING_ROWS].offset)
    tables.features = <const Feature*> (base + sections[FEATURES].offset)
    tables.texts = base + sections[TEXTS].offset
    tables.slots = <const uint32_t*> (base + sections[SLOTS].offset)
    tables.term_firsts = <const uint32_t*> (base + sections[TERM_FIRSTS].offset)
    tables.terms = <const uint32_t*> (base + sections[TERMS].offset)
    tables.predicates = <const uint32_t*> (base + sections[PREDICATES].offset)
    tables.predicate_bytes = base + sections[PREDICATE_BYTES].offset
    tables.checked = <const uint64_t*> (base + sections[CHECKED].offset)
    tables.checked_rows = <const uint32_t*> (base + sections[CHECKED_ROWS].offset)
    tables.check_firsts = <const uint32_t*> (base + sections[CHECK_FIRSTS].offset)
    tables.checks = <const uint32_t*> (base + sections[CHECKS].offset)
    tables.ranges = <const Range*> (base + sections[RANGES].offset)
    fault = _shape(tables)
    if fault == NULL:
        _derive(tables)
    return fault


cdef const char* _shape(Tables* tables) noexcept nogil:
    """Compare the sections' sizes with each other."""
    cdef uint64_t rows = tables.header.row_count
    cdef uint32_t* counts = tables.counts
    if rows > ROWS_MAX or rows != counts[ROW_RANKS]:
        return "the number of rows is contradictory"
    tables.row_count = <uint32_t> rows
    tables.row_words = <uint32_t> ((rows + BLOCK_ROWS - 1) // BLOCK_ROWS * BLOCK_WORDS)
    if counts[COLUMNS] > COLUMNS_MAX:
        return "too many columns"
    if tables.header.label_count > counts[LABELS] or tables.header.second_price > 1:
        return "the header is out of bounds"
    if tables.row_words:
        if counts[BITMAPS] % tables.row_words \
                or counts[BITMAPS] // tables.row_words < counts[COLUMNS]:
            return "the number of bitmaps is contradictory"
    elif counts[BITMAPS]:
        return "the number of bitmaps is contradictory"
    if not counts[SLOTS] or counts[SLOTS] & (counts[SLOTS] - 1):
        return "the value table is not a power of two"
    if counts[TERM_FIRSTS] != (rows + TERM_ROWS - 1) // TERM_ROWS:
        return "the number of terms is contradictory"
    if not counts[PREDICATES]:
        return "the number of predicates is contradictory"
    if counts[CHECKED] != (tables.row_words if counts[CHECKED_ROWS] else 0) \
            or counts[CHECK_FIRSTS] != counts[CHECKED_ROWS] + 1:
        return "the number of checks is contradictory"
    return NULL


cdef void _derive(Tables* tables) noexcept nogil:
    """What is kept of the records as a whole; no number in them is relied on."""
    cdef uint32_t number
    tables.posting_count_max = 0
    for number in range(tables.counts[FEATURES]):
        tables.posting_count_max = max(
            tables.posting_count_max, <uint32_t> tables.features[number].posting_count)
    tables.checks_values = False
    for number in range(tables.counts[CHECKS]):
        if tables.checks[number] >> CHECK_SHIFT == CHECK_PREDICATE:
            tables.checks_values = True
            break


cdef const char* _check(Tables* tables) noexcept nogil:
    cdef const char* fault = _check_lines(tables)
    if fault == NULL:
        fault = _check_rows(tables)
    if fault == NULL:
        fault = _check_postings(tables)
    if fault == NULL:
        fault = _check_values(tables)
    if fault == NULL:
        fault = _check_terms(tables)
    if fault == NULL:
        fault = _check_checks(tables)
    return fault


cdef const char* _check_lines(Tables* tables) noexcept nogil:
    cdef uint32_t* counts = tables.counts
    cdef const Line* line
    cdef uint32_t number, ad_count
    cdef const char* fault = _check_settings(tables)
    if fault != NULL:
        return fault
    for number in range(counts[LINES]):
        line = &tables.lines[number]
        if line.group >= counts[GROUPS] or line.line >= counts[LINES] \
                or line.settings >= counts[SETTINGS]:
            return "a line item is out of bounds"
        if number and (line.group < tables.lines[number - 1].group
                       or line.group > tables.lines[number - 1].group + 1):
            return "the groups are not in order"
        if line.ecpm_micros < 0 or line.ecpm_micros > <int64_t> ECPM_MAX or line.price_micros < 0:
            return "a price is out of bounds"
        ad_count = tables.settings[line.settings].ad_count
        if line.ad_first > counts[ADS] or ad_count > counts[ADS] - line.ad_first:
            return "an ad is out of bounds"
    for number in range(counts[GROUPS]):
        if tables.groups[number].row_end > tables.row_count \
                or tables.groups[number].tier >= counts[TIERS]:
            return "a group is out of bounds"
    for number in range(counts[TIERS]):
        if tables.tiers[number].row_end > tables.row_count or tables.tiers[number].lottery > 1:
            return "a priority is out of bounds"
    for number in range(counts[ADS]):
        if not tables.ads[number].weight or tables.ads[number].weight > WEIGHT_MAX:
            return "a weight is out of bounds"
        if tables.ads[number].creative >= counts[CREATIVES]:
            return "an ad is out of bounds"
    return NULL


cdef const char* _check_settings(Tables* tables) noexcept nogil:
    cdef uint32_t* counts = tables.counts
    cdef const Settings* settings
    cdef uint32_t number
    for number in range(counts[SETTINGS]):
        settings = &tables.settings[number]
        if settings.schedule >= counts[SCHEDULES]:
            return "a schedule is out of bounds"
        if not settings.weight or settings.weight > WEIGHT_MAX:
            return "a weight is out of bounds"
        if settings.by_event > 1:
            return "a rate is out of bounds"
        if not settings.ad_count or settings.ad_count > ADS_MAX:
            return "an ad is out of bounds"
        if settings.label_count > LABELS_MAX or settings.label_first > counts[LABELS] \
                or settings.label_count > counts[LABELS] - settings.label_first:
            return "a label is out of bounds"
    for number in range(counts[LABELS]):
        if tables.labels[number] >= tables.header.label_count:
            return "a label is out of bounds"
    return NULL


cdef const char* _check_rows(Tables* tables) noexcept nogil:
    cdef uint32_t row, term = 0
    for row in range(tables.row_count):
        if tables.row_ranks[row] >= tables.counts[LINES]:
            return "a row is out of bounds"
        if row and tables.row_ranks[row] < tables.row_ranks[row - 1]:
            return "the rows are not in order"
        if row % TERM_ROWS == 0 and tables.term_firsts[row // TERM_ROWS] != term:
            return "the terms are not in order"
        while term < tables.counts[TERMS] and not tables.terms[term] & TERM_LAST:
            term += 1
        if term == tables.counts[TERMS]:
            return "the number of terms is contradictory"
        term += 1
    if term != tables.counts[TERMS]:
        return "the number of terms is contradictory"
    return NULL


cdef const char* _check_terms(Tables* tables) noexcept nogil:
    cdef uint32_t predicate_count = tables.counts[PREDICATES] - 1
    cdef uint32_t number
    cdef const char* fault
    for number in range(tables.counts[TERMS]):
        if tables.terms[number] & ~<uint32_t> TERM_LAST >= predicate_count:
            return "a term is out of bounds"
    for number in range(predicate_count):
        if tables.predicates[number] >= tables.predicates[number + 1]:
            return "the predicates are not in order"
    if tables.predicates[predicate_count] != tables.counts[PREDICATE_BYTES]:
        return "the number of predicates is contradictory"
    for number in range(predicate_count):
        fault = _check_predicate(tables, number)
        if fault != NULL:
            return fault
    return NULL


cdef const char* _check_predicate(const Tables* tables, uint32_t number) noexcept nogil:
    """Read the predicate's numbers, each of which must end before the predicate does."""
    cdef const uint8_t* place = tables.predicate_bytes + tables.predicates[number]
    cdef const uint8_t* end = tables.predicate_bytes + tables.predicates[number + 1]
    cdef uint64_t value, feature = 0
    cdef bint first = True
    cdef int shift
    while place < end:
        value = 0
        shift = 0
        while place[0] & 0x80:
            value |= <uint64_t> (place[0] & 0x7F) << shift
            shift += 7
            place += 1
            if place == end or shift > 28:
                return "a predicate is cut short"
        value |= <uint64_t> place[0] << shift
        place += 1
        if first:
            # A key-value's space names a feature, its key.
            if value >> 1 == <uint32_t> SPACE_KEY \
                    or value >> 1 >= <uint64_t> KEY_SPACE_FIRST + tables.counts[FEATURES]:
                return "a predicate is out of bounds"
            first = False
            continue
        feature += value
        if feature >= tables.counts[FEATURES]:
            return "a value is out of bounds"
    return NULL


cdef const char* _check_checks(Tables* tables) noexcept nogil:
    cdef uint32_t count = tables.counts[CHECKED_ROWS]
    cdef uint32_t number, row, rows = 0
    cdef const char* fault
    for number in range(tables.counts[RANGES]):
        if tables.ranges[number].negated > 1:
            return "a range is out of bounds"
    if tables.check_firsts[count] != tables.counts[CHECKS]:
        return "the number of checks is contradictory"
    for number in range(tables.counts[CHECKED]):
        rows += _bit_count(tables.checked[number])
    if rows != count:
        return "the number of checks is contradictory"
    for number in range(count):
        row = tables.checked_rows[number]
        if row >= tables.row_count or (number and row <= tables.checked_rows[number - 1]) \
                or not tables.checked[row >> 6] >> (row & 63) & 1 \
                or tables.check_firsts[number] > tables.check_firsts[number + 1]:
            return "the checks are not in order"
    for number in range(count):
        fault = _check_members(tables, tables.checks + tables.check_firsts[number],
                               tables.checks + tables.check_firsts[number + 1], 0)
        if fault != NULL:
            return fault
    return NULL


cdef const char* _check_members(
    Tables* tables, const uint32_t* place, const uint32_t* end, int depth
) noexcept nogil:
    cdef uint32_t kind, number
    cdef const char* fault
    if depth > EXPRESSION_DEPTH_MAX:
        return "a check is nested too deeply"
    while place < end:
        kind = place[0] >> CHECK_SHIFT
        number = place[0] & CHECK_MASK
        place += 1
        if kind == CHECK_PREDICATE:
            if number >= tables.counts[PREDICATES] - 1:
                return "a check is out of bounds"
        elif kind == CHECK_RANGE:
            if number >= tables.counts[RANGES]:
                return "a check is out of bounds"
        else:
            if number > end - place:
                return "a check is out of bounds"
            fault = _check_members(tables, place, place + number, depth + 1)
            if fault != NULL:
                return fault
            place += number
    return NULL


cdef const char* _check_postings(Tables* tables) noexcept nogil:
    cdef uint32_t bitmap_count = 0
    cdef const Posting* posting
    cdef const uint32_t* rows
    cdef uint32_t number, place
    if tables.row_words:
        bitmap_count = tables.counts[BITMAPS] // tables.row_words
    for number in range(tables.counts[POSTINGS]):
        posting = &tables.postings[number]
        if posting.column >= tables.counts[COLUMNS]:
            return "a posting is out of bounds"
        if posting.dense:
            if posting.first >= bitmap_count or posting.best_row:
                return "a posting is out of bounds"
            continue
        if posting.first > tables.counts[POSTING_ROWS] \
                or posting.row_count > tables.counts[POSTING_ROWS] - posting.first:
            return "a posting is out of bounds"
        rows = tables.posting_rows + posting.first
        if posting.row_count and posting.best_row != rows[0]:
            return "the rows of a posting are not in order"
        for place in range(posting.row_count):
            if rows[place] >= tables.row_count or (place and rows[place] <= rows[place - 1]):
                return "the rows of a posting are not in order"
    return NULL


cdef const char* _check_values(Tables* tables) noexcept nogil:
    cdef const Feature* feature
    cdef uint32_t number, posting, used = 0
    cdef uint32_t mask = tables.counts[SLOTS] - 1
    for number in range(tables.counts[FEATURES]):
        feature = &tables.features[number]
        if feature.text_bytes > VALUE_BYTES_MAX:
            return "a value is out of bounds"
        if feature.text_bytes > TEXT_BYTES_INSIDE and (
            feature.text > tables.counts[TEXTS]
            or feature.text_bytes > tables.counts[TEXTS] - feature.text
        ):
            return "a value is out of bounds"
        if feature.posting_first > tables.counts[POSTINGS] \
                or feature.posting_count > tables.counts[POSTINGS] - feature.posting_first \
                or feature.posting_count > COLUMNS_MAX:
            return "a posting is out of bounds"
        for posting in range(feature.posting_first, feature.posting_first + feature.posting_count):
            if tables.postings[posting].best_row < feature.best_row:
                return "the rows of a posting are not in order"
    for number in range(tables.counts[SLOTS]):
        if not tables.slots[number]:
            continue
        if (tables.slots[number] & mask) - 1 >= tables.counts[FEATURES]:
            return "a value is out of bounds"
        used += 1
    if used == tables.counts[SLOTS]:
        return "the value table is full"  # a lookup would never end
    return NULL
