from typing import Final

WON: Final[int]
PAUSED: Final[int]
FLIGHT: Final[int]
DAYPART: Final[int]
TARGETING: Final[int]
CREATIVE: Final[int]
FLOOR: Final[int]
LABEL: Final[int]
OUTRANKED: Final[int]
DRAW: Final[int]
REASON_COUNT: Final[int]
