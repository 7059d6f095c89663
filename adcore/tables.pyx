"""The door for compiled buffers: a corrupt one is refused here, and can't crash a kernel later.

`_open` reads the directory. `_check` reads every record once, so it is linear in the file (some
milliseconds at 100,000 rows); its caller releases the GIL around it.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t, uint8_t

from adcore.limits cimport ADS_MAX, COLUMNS_MAX, LABELS_MAX, ROWS_MAX, VALUE_BYTES_MAX, WEIGHT_MAX

cdef uint32_t[SECTION_COUNT] _record_bytes = [
    sizeof(Line), sizeof(Service), sizeof(Group), sizeof(uint32_t), sizeof(Ad), sizeof(uint32_t),
    sizeof(Schedule), 1, sizeof(Column), sizeof(uint64_t), sizeof(Posting), sizeof(uint32_t),
    sizeof(Feature), 1, sizeof(Slot), sizeof(uint32_t), sizeof(Range), sizeof(uint32_t),
    sizeof(uint32_t), sizeof(Predicate), sizeof(uint32_t),
]

HEADER_BYTES = sizeof(Header)
RECORD_BYTES = tuple(_record_bytes)
ECPM_MICROS_MAX = <int64_t> <int64_t> ECPM_MAX


cdef const char* _open(Tables* tables, const uint8_t* base, uint64_t size) noexcept nogil:
    cdef uint64_t directory_end = sizeof(Header) + SECTION_COUNT * sizeof(Section)
    cdef const Header* header = <const Header*> base
    cdef const Section* sections = <const Section*> (base + sizeof(Header))
    cdef int number
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
    tables.services = <const Service*> (base + sections[SERVICES].offset)
    tables.groups = <const Group*> (base + sections[GROUPS].offset)
    tables.row_ranks = <const uint32_t*> (base + sections[ROW_RANKS].offset)
    tables.ads = <const Ad*> (base + sections[ADS].offset)
    tables.labels = <const uint32_t*> (base + sections[LABELS].offset)
    tables.schedules = <const Schedule*> (base + sections[SCHEDULES].offset)
    tables.zones = base + sections[ZONES].offset
    tables.columns = <const Column*> (base + sections[COLUMNS].offset)
    tables.bitmaps = <const uint64_t*> (base + sections[BITMAPS].offset)
    tables.postings = <const Posting*> (base + sections[POSTINGS].offset)
    tables.posting_rows = <const uint32_t*> (base + sections[POSTING_ROWS].offset)
    tables.features = <const Feature*> (base + sections[FEATURES].offset)
    tables.texts = base + sections[TEXTS].offset
    tables.slots = <const Slot*> (base + sections[SLOTS].offset)
    tables.range_firsts = <const uint32_t*> (base + sections[RANGE_FIRSTS].offset)
    tables.ranges = <const Range*> (base + sections[RANGES].offset)
    tables.term_firsts = <const uint32_t*> (base + sections[TERM_FIRSTS].offset)
    tables.terms = <const uint32_t*> (base + sections[TERMS].offset)
    tables.predicates = <const Predicate*> (base + sections[PREDICATES].offset)
    tables.predicate_values = <const uint32_t*> (base + sections[PREDICATE_VALUES].offset)
    return _shape(tables)


cdef const char* _shape(Tables* tables) noexcept nogil:
    """Compare the sections' sizes with each other."""
    cdef uint64_t rows = tables.header.row_count
    cdef uint32_t* counts = tables.counts
    if rows > ROWS_MAX or rows != counts[ROW_RANKS]:
        return "the number of rows is contradictory"
    tables.row_count = <uint32_t> rows
    tables.row_words = <uint32_t> ((rows + BLOCK_ROWS - 1) // BLOCK_ROWS * BLOCK_WORDS)
    if counts[SERVICES] != counts[LINES]:
        return "the number of line items is contradictory"
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
    if counts[RANGE_FIRSTS]:
        if counts[RANGE_FIRSTS] != rows + 1:
            return "the number of ranges is contradictory"
    elif counts[RANGES]:
        return "the number of ranges is contradictory"
    if counts[TERM_FIRSTS] != rows + 1:
        return "the number of terms is contradictory"
    return NULL


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
    return fault


cdef const char* _check_lines(Tables* tables) noexcept nogil:
    cdef uint32_t* counts = tables.counts
    cdef const Line* line
    cdef uint32_t number
    for number in range(counts[LINES]):
        line = &tables.lines[number]
        if line.group >= counts[GROUPS] or line.line >= counts[LINES]:
            return "a line item is out of bounds"
        if number and (line.group < tables.lines[number - 1].group
                       or line.group > tables.lines[number - 1].group + 1):
            return "the groups are not in order"
        if line.ecpm_micros < 0 or line.ecpm_micros > <int64_t> ECPM_MAX or line.price_micros < 0:
            return "a price is out of bounds"
        if not line.weight or line.weight > WEIGHT_MAX:
            return "a weight is out of bounds"
        if not line.ad_count or line.ad_count > ADS_MAX or line.ad_first > counts[ADS] \
                or line.ad_count > counts[ADS] - line.ad_first:
            return "an ad is out of bounds"
        if line.label_count > LABELS_MAX or line.label_first > counts[LABELS] \
                or line.label_count > counts[LABELS] - line.label_first:
            return "a label is out of bounds"
        if tables.services[number].schedule >= counts[SCHEDULES]:
            return "a schedule is out of bounds"
    for number in range(counts[GROUPS]):
        if tables.groups[number].row_end > tables.row_count \
                or tables.groups[number].tier_row_end > tables.row_count:
            return "a group is out of bounds"
    for number in range(counts[ADS]):
        if not tables.ads[number].weight or tables.ads[number].weight > WEIGHT_MAX:
            return "a weight is out of bounds"
    for number in range(counts[LABELS]):
        if tables.labels[number] >= tables.header.label_count:
            return "a label is out of bounds"
    return NULL


cdef const char* _check_rows(Tables* tables) noexcept nogil:
    cdef uint32_t row, number
    for row in range(tables.row_count):
        if tables.row_ranks[row] >= tables.counts[LINES]:
            return "a row is out of bounds"
        if row and tables.row_ranks[row] < tables.row_ranks[row - 1]:
            return "the rows are not in order"
    if tables.counts[RANGE_FIRSTS]:
        for row in range(tables.row_count):
            if tables.range_firsts[row] > tables.range_firsts[row + 1]:
                return "the ranges are not in order"
        if tables.range_firsts[tables.row_count] != tables.counts[RANGES]:
            return "the number of ranges is contradictory"
    for number in range(tables.counts[RANGES]):
        if tables.ranges[number].negated > 1:
            return "a range is out of bounds"
    return NULL


cdef const char* _check_terms(Tables* tables) noexcept nogil:
    cdef const Predicate* predicate
    cdef uint32_t row, number
    for row in range(tables.row_count):
        if tables.term_firsts[row] > tables.term_firsts[row + 1]:
            return "the terms are not in order"
    if tables.term_firsts[tables.row_count] != tables.counts[TERMS]:
        return "the number of terms is contradictory"
    for number in range(tables.counts[TERMS]):
        if tables.terms[number] >= tables.counts[PREDICATES]:
            return "a term is out of bounds"
    for number in range(tables.counts[PREDICATES]):
        predicate = &tables.predicates[number]
        # A key-value's space names a feature, its key.
        if predicate.negated > 1 or predicate.space == <uint32_t> SPACE_KEY \
                or predicate.space >= <uint64_t> KEY_SPACE_FIRST + tables.counts[FEATURES] \
                or predicate.value_first > tables.counts[PREDICATE_VALUES] \
                or predicate.value_count > tables.counts[PREDICATE_VALUES] - predicate.value_first:
            return "a predicate is out of bounds"
    for number in range(tables.counts[PREDICATE_VALUES]):
        if tables.predicate_values[number] >= tables.counts[FEATURES]:
            return "a value is out of bounds"
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
        if posting.bitmap:
            if posting.bitmap >= bitmap_count:
                return "a posting is out of bounds"
            continue
        if posting.row_first > tables.counts[POSTING_ROWS] \
                or posting.row_count > tables.counts[POSTING_ROWS] - posting.row_first:
            return "a posting is out of bounds"
        rows = tables.posting_rows + posting.row_first
        for place in range(posting.row_count):
            if rows[place] >= tables.row_count or (place and rows[place] <= rows[place - 1]):
                return "the rows of a posting are not in order"
    return NULL


cdef const char* _check_values(Tables* tables) noexcept nogil:
    cdef const Feature* feature
    cdef uint32_t number, used = 0
    tables.posting_count_max = 0
    for number in range(tables.counts[FEATURES]):
        feature = &tables.features[number]
        if feature.text_bytes > VALUE_BYTES_MAX or feature.text_first > tables.counts[TEXTS] \
                or feature.text_bytes > tables.counts[TEXTS] - feature.text_first:
            return "a value is out of bounds"
        if feature.posting_first > tables.counts[POSTINGS] \
                or feature.posting_count > tables.counts[POSTINGS] - feature.posting_first \
                or feature.posting_count > COLUMNS_MAX:
            return "a posting is out of bounds"
        tables.posting_count_max = max(tables.posting_count_max, feature.posting_count)
    for number in range(tables.counts[SLOTS]):
        if tables.slots[number].feature_after > tables.counts[FEATURES]:
            return "a value is out of bounds"
        used += tables.slots[number].feature_after != 0
    if used == tables.counts[SLOTS]:
        return "the value table is full"  # a lookup would never end
    return NULL
