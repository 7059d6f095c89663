"""Shoppers who are known to the ad server, so that frequency caps hold for them; minutely noted.

python -m tests.drill.visitors SEED RATE PATIENCE_S PORT...
"""

import time
from collections import Counter
from typing import Any, Final

from tests.drill.shopper import Shopper, main
from tests.drill.traffic import Client

USERS: Final = 2_000
CAPPED: Final = 5_000  # the line item with a frequency cap
HOUSE: Final = 5_001  # the one without a goal, shown where nothing else is


class Visitors(Shopper):
    def __init__(self, seed: int, client: Client, patience_s: float) -> None:
        super().__init__(seed, client, patience_s)
        # When it was answered, after how many ms, and how many of its ads were booked.
        self._noted: list[tuple[float, float, int]] = []
        self._capped: Counter[int] = Counter()

    def asked(self, number: int) -> dict[str, Any]:
        return super().asked(number) | {"user": {"key": f"visitor {number % USERS}"}}

    def answered(self, number: int, lines: list[int]) -> None:
        booked = sum(line not in (CAPPED, HOUSE) for line in lines)
        self._noted.append((time.monotonic(), self.latencies_ms[-1], booked))
        self._capped[number % USERS] += CAPPED in lines

    def more(self) -> dict[str, Any]:
        capped = Counter(self._capped.values())
        return {"answers": self._noted, "users_by_capped_ads": dict(sorted(capped.items()))}


if __name__ == "__main__":
    main(Visitors)
