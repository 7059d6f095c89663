# Every bound of the engine with its reason; Python reads the same: `from adcore.limits import ...`.
# A bound is checked once, at a door (catalog.py, request.py, layout.py); the kernels trust it.

cpdef enum:
    # Row numbers are uint32 in postings, with the top bit kept free for a flag.
    ROWS_MAX = 1 << 30
    # 4 million line items is 40 x the largest catalog we know of; dense line numbers stay uint32.
    LINE_ITEMS_MAX = 4_000_000
    # A targeting expression becomes an OR of ANDs, a row each; past 16 it is checked instead.
    CONJUNCTIONS_MAX = 16
    # Tests of an expression that is checked: it is read whole for each request that may match.
    CHECKS_MAX = 4096
    # Predicates in one AND. Real ads data has up to 56 in a whole expression.
    PREDICATES_MAX = 64
    # Nesting of all/any/not: deeper than this nobody can read, and recursion stays shallow.
    EXPRESSION_DEPTH_MAX = 8
    # Values in one include or exclude set: postal codes of a region fit, a user list does not.
    VALUES_MAX = 4096
    # Bytes of one targeting value, and of one key, on both sides: longer values can't match.
    VALUE_BYTES_MAX = 256
    # Creatives of one line item: the choice among them is a linear walk.
    ADS_MAX = 64
    # Labels of one line item, its campaign and advertiser together: kept in a fixed array.
    LABELS_MAX = 8
    # Placements in one request, as Kevel's API has it; a page has fewer than 20 slots.
    PLACEMENTS_MAX = 50
    # Winners of one placement: five times what Kevel's `count` may be, for a caller that ranks them
    # once more. Room for all of a request's is kept in a fixed array of 80 KB, touched as used.
    WINNERS_MAX = 100
    # Values of one multi-valued dimension in a request (segments: the research workload has 500).
    REQUEST_VALUES_MAX = 1024
    # Keys of one request and one placement together; their values, over all keys together, are at
    # most REQUEST_VALUES_MAX.
    REQUEST_KEYS_MAX = 256
    # Feature numbers that one placement may gather: five multi-valued dimensions and the key-values
    # at REQUEST_VALUES_MAX each, and the twelve dimensions with one value; a fixed array.
    REQUEST_FEATURES_MAX = 8192
    # Columns of the index: twelve dimensions with one value, six with a column for each predicate
    # of an AND (12 + 6 x PREDICATES_MAX = 396); kept in fixed arrays.
    COLUMNS_MAX = 512
    # Creatives a request may refuse: compared one by one with each candidate.
    BLOCKED_MAX = 256
    # Line items a request may leave out, such as those that a user has seen often enough; kept in
    # a fixed array, sorted. More caps than that at once are a few line items too many refused.
    CAPPED_MAX = 1024
    # Those that a placement leaves out over and above them: compared one by one.
    CAPPED_HERE_MAX = 64
    # Priority tiers: a byte in the sort key.
    PRIORITY_MAX = 255
    # Weight of a line item among equals or of a creative in its line item; sums stay below 2^63.
    WEIGHT_MAX = 1_000_000
