"""The engine's bounds: see limits.pxd, which is their one definition."""

from typing import Final

ROWS_MAX: Final[int]
LINE_ITEMS_MAX: Final[int]
CONJUNCTIONS_MAX: Final[int]
CHECKS_MAX: Final[int]
PREDICATES_MAX: Final[int]
EXPRESSION_DEPTH_MAX: Final[int]
VALUES_MAX: Final[int]
VALUE_BYTES_MAX: Final[int]
ADS_MAX: Final[int]
LABELS_MAX: Final[int]
PLACEMENTS_MAX: Final[int]
WINNERS_MAX: Final[int]
REQUEST_VALUES_MAX: Final[int]
REQUEST_KEYS_MAX: Final[int]
REQUEST_FEATURES_MAX: Final[int]
COLUMNS_MAX: Final[int]
BLOCKED_MAX: Final[int]
CAPPED_MAX: Final[int]
PRIORITY_MAX: Final[int]
WEIGHT_MAX: Final[int]
