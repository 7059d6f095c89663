# The compiled catalog as it lies in memory: one buffer, offsets instead of pointers, little-endian.
#
#   header | directory: (offset, bytes) of every section | sections, each on a cache line
#
# layout.py writes what is declared here, and `_open` with `_check` are the door: after them every
# number that the kernels use as an index is known to be in bounds, so the kernels check nothing.

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

cpdef enum:
    # Raised when the meaning of any section changes: a worker must not read another version's file.
    FORMAT_VERSION = 4
    MAGIC = 0x4443414B  # any number that no other file starts with
    SECTION_ALIGN = 64  # a cache line, so that a block of 512 rows of a bitmap is exactly one
    BLOCK_ROWS = 512
    BLOCK_WORDS = 8
    # Where terms begin is known of one row in so many, as a number for each was 4 bytes a row; the
    # others are found by walking: explaining took a third longer with 16, and a sixth with 8.
    TERM_ROWS = 8
    # A rate of so many ppm turns an eCPM into itself; 0 says that the line pays its own price.
    PPM_CPM = 1000

cdef enum:
    TERM_LAST = 1 << 31
    TEXT_BYTES_INSIDE = 8
    # The largest price (10^15) times the largest ppm (10^6) // 1000: eCPM + 1 can't overflow.
    ECPM_MAX = 1_000_000_000_000_000_000

cpdef enum:
    LINES = 0        # Line per rank
    SETTINGS = 1        # Settings, each one different
    GROUPS = 2       # Group
    TIERS = 3        # Tier
    ROW_RANKS = 4    # uint32 per row, never falling: the rows of a line are adjacent
    ADS = 5          # Ad, in ad-number order
    CREATIVES = 6    # Creative
    LABELS = 7       # uint32 label numbers of settings
    SCHEDULES = 8    # Schedule
    ZONES = 9        # time zone names joined by "\n"
    COLUMNS = 10     # Column
    BITMAPS = 11     # row_words words each; the first are the columns' bases
    POSTINGS = 12    # Posting
    POSTING_ROWS = 13  # uint32, rising within a posting
    FEATURES = 14    # Feature
    TEXTS = 15       # bytes of the features that are longer than TEXT_BYTES_INSIDE
    SLOTS = 16       # uint32, a power of two of them; see `_slot`
    TERM_FIRSTS = 17   # uint32 per TERM_ROWS rows: where the terms of the first of them begin
    TERMS = 18         # uint32, see `Predicate`: each row as it was booked, without its checks
    PREDICATES = 19    # uint32 places in PREDICATE_BYTES, and one more; each predicate is different
    PREDICATE_BYTES = 20  # see `Predicate`
    CHECKED = 21       # one bitmap: the rows with checks; empty without any
    CHECKED_ROWS = 22  # uint32, rising: the same rows as numbers
    CHECK_FIRSTS = 23  # uint32 per checked row and one more
    CHECKS = 24        # uint32, see `Check`
    RANGES = 25        # Range
    SECTION_COUNT = 26

# Spaces of features below KEY_SPACE_FIRST: the dimensions, and the names of keys. A key-value's
# space is KEY_SPACE_FIRST plus the feature number of its key.
cpdef enum:
    SPACE_SITE = 0
    SPACE_ZONE = 1
    SPACE_PLACEMENT = 2
    SPACE_AD_TYPE = 3
    SPACE_COUNTRY = 4
    SPACE_REGION = 5
    SPACE_METRO = 6
    SPACE_CITY = 7
    SPACE_DEVICE = 8
    SPACE_OS = 9
    SPACE_BROWSER = 10
    SPACE_LANGUAGE = 11
    SPACE_DOMAIN = 12
    SPACE_CONNECTION = 13
    SPACE_KEYWORD = 14
    SPACE_CATEGORY = 15
    SPACE_SEGMENT = 16
    SPACE_KEY = 17
    KEY_SPACE_FIRST = 18

cdef struct Header:
    uint32_t magic
    uint32_t version
    uint64_t bytes
    uint32_t section_count
    uint32_t row_count
    uint32_t label_count
    uint32_t second_price

cdef struct Section:
    uint64_t offset
    uint64_t bytes

# A line item; its rank is its place by (priority, eCPM of an auction falling, line).
cdef struct Line:
    int64_t line_item_id
    int64_t ecpm_micros
    int64_t price_micros
    uint32_t line
    uint32_t group
    uint32_t ad_first
    uint32_t settings

# What line items have in common with others: each different one is kept once.
cdef struct Settings:
    int64_t start_s     # when it may serve; a paused line item has an empty flight
    int64_t end_s       # exclusive
    uint32_t schedule
    uint32_t ppm        # clear price = clear eCPM x 1000 / ppm; 0: its own price
    uint32_t weight
    uint32_t ad_count
    uint32_t label_first
    uint16_t label_count
    uint16_t by_event   # 1: the price is for a click or conversion, and ppm is how often one comes

# A run of rows that one draw decides.
cdef struct Group:
    uint32_t row_end
    uint32_t tier

# The rows of one priority.
cdef struct Tier:
    uint32_t row_end
    uint32_t lottery
    uint32_t priority
    uint32_t reserved

cdef struct Ad:
    uint32_t creative
    uint32_t weight

cdef struct Creative:
    int64_t creative_id
    int64_t ad_type_id

# Bit h of hours is hour h of the week, from Monday 00:00 in the zone.
cdef struct Schedule:
    uint64_t hours[3]
    uint32_t zone
    uint32_t reserved

# At most one predicate of each row. Bit `row` of its base: does the row pass a request that none of
# the predicate's values is in? A value that is in the request turns the bit over.
cdef struct Column:
    uint32_t space
    uint32_t base_count     # rows that pass by their base bit: an estimate of selectivity only

# The rows of one column that name one feature: a bitmap (the base with their bits turned over) or a
# list.
cdef struct Posting:
    uint32_t first          # in POSTING_ROWS, or the number of the bitmap
    uint32_t row_count
    uint32_t best_row       # the first of the list; 0 of a bitmap
    uint16_t column
    uint16_t dense          # 1: a bitmap

# What a row demands of one dimension or key: a value of the request is among these; negated, that
# none is. The columns say the same of all rows at once; `scan` and `explain` go by this. Written as
# numbers of seven bits a byte, lowest first, the top bit set in all but a number's last byte: twice
# the space, plus negated; the first feature; and how much further each of the others is.
# A row's terms are the numbers of its predicates, one at least; its last one has the bit TERM_LAST.
cdef struct Predicate:
    const uint8_t* features     # those from here on are not read yet
    const uint8_t* end
    uint32_t space
    uint32_t negated

# What is left to look at when the columns let a row pass: it must satisfy all of its checks. One is
# a leaf, the kind in the two top bits and a number below, or an OR (AND): the kind and how many
# numbers its members take up, and then the members, each a check.
cdef enum Check:
    CHECK_PREDICATE = 0
    CHECK_RANGE = 1
    CHECK_ANY = 2
    CHECK_ALL = 3
    CHECK_SHIFT = 30
    CHECK_MASK = (1 << 30) - 1

# What a request asks for is told by this alone, if its text is short: a cache line, and not one
# more for the text, one or two for postings and one for each list that the best rows are not in.
cdef struct Feature:
    uint64_t text           # itself, filled up with zeros; a longer one's place in TEXTS
    uint32_t space
    uint32_t posting_first
    uint32_t best_row       # the least of its postings'; NO_ROW without any
    uint16_t text_bytes
    uint16_t posting_count

cdef enum:
    NO_ROW = 0xFFFFFFFF

cdef struct Range:
    double at_least
    double below
    uint32_t key            # feature number of the key
    uint32_t negated

cdef struct Tables:
    const Header* header
    const Line* lines
    const Settings* settings
    const Group* groups
    const Tier* tiers
    const uint32_t* row_ranks
    const Ad* ads
    const Creative* creatives
    const uint32_t* labels
    const Schedule* schedules
    const uint8_t* zones
    const Column* columns
    const uint64_t* bitmaps
    const Posting* postings
    const uint32_t* posting_rows
    const Feature* features
    const uint8_t* texts
    const uint32_t* slots
    const uint32_t* term_firsts
    const uint32_t* terms
    const uint32_t* predicates
    const uint8_t* predicate_bytes
    const uint64_t* checked
    const uint32_t* checked_rows
    const uint32_t* check_firsts
    const uint32_t* checks
    const Range* ranges
    uint32_t counts[SECTION_COUNT]
    uint32_t row_count
    uint32_t row_words      # of a bitmap: a multiple of BLOCK_WORDS
    uint32_t posting_count_max  # of one feature
    bint checks_values      # a check is about values, not only numbers

cdef inline const Settings* _settings(const Tables* tables, const Line* line) noexcept nogil:
    return &tables.settings[line.settings]

cdef inline const Tier* _tier(const Tables* tables, const Line* line) noexcept nogil:
    return &tables.tiers[tables.groups[line.group].tier]

cdef inline const uint8_t* _text(const Feature* feature, const uint8_t* texts) noexcept nogil:
    if feature.text_bytes <= TEXT_BYTES_INSIDE:
        return <const uint8_t*> &feature.text
    return texts + feature.text

cdef inline uint32_t _slot(uint64_t hashed, uint32_t mask, uint32_t number) noexcept nogil:
    """A feature in a table of mask + 1 slots: its number + 1, below as much of the hash as fits.

    A free slot is 0. There are more slots than features, so the number stays within the mask.
    """
    return <uint32_t> (hashed >> 32) & ~mask | (number + 1)

cdef inline uint32_t _number(const uint8_t** place) noexcept nogil:
    """Read one number of a predicate and step behind it."""
    cdef uint32_t number = 0
    cdef int shift = 0
    while place[0][0] & 0x80:
        number |= <uint32_t> (place[0][0] & 0x7F) << shift
        shift += 7
        place[0] += 1
    number |= <uint32_t> place[0][0] << shift
    place[0] += 1
    return number

cdef inline Predicate _predicate(const Tables* tables, uint32_t number) noexcept nogil:
    cdef Predicate predicate
    cdef uint32_t subject
    predicate.features = tables.predicate_bytes + tables.predicates[number]
    predicate.end = tables.predicate_bytes + tables.predicates[number + 1]
    subject = _number(&predicate.features)
    predicate.space = subject >> 1
    predicate.negated = subject & 1
    return predicate

# NULL, or what is wrong with the buffer as a C string.
cdef const char* _open(Tables* tables, const uint8_t* base, uint64_t size) noexcept nogil
cdef const char* _check(Tables* tables) noexcept nogil
