"""What the scripts of `server.store.counts` do to Redis, with what Redis may do to them."""

from copy import deepcopy
from random import Random

from server.errors import StoreError
from server.store.buckets import Totals


class RedisTwin:
    """The counts of one shard. It keeps some of its past, to go back to."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.is_up = True
        self.timeout_share = 0.0
        self.at = ""
        self.time_s: int | None = None
        self.counts: Totals = {}
        self._past: list[tuple[str, int | None, Totals]] = []

    def cursor(self) -> str:
        self._answer()
        return self.at

    def place(self) -> tuple[str, int | None]:
        self._answer()
        return self.at, self.time_s

    def apply(
        self, expected: str, following: str, deltas: Totals, time_s: int | None
    ) -> str | None:
        return self._change(expected, following, deltas, time_s, clear=False)

    def clear(self, expected: str, following: str) -> str | None:
        return self._change(expected, following, {}, None, clear=True)

    def _change(
        self, expected: str, following: str, deltas: Totals, time_s: int | None, clear: bool
    ) -> str | None:
        self._answer()
        timed_out = self.random.random() < self.timeout_share
        if timed_out and self.random.random() < 0.5:
            raise StoreError("timed out on the way there")
        found = self.at
        if found == expected:
            self._remember()
            if clear:
                self.counts = {}
            for bucket, fields in deltas.items():
                counts = self.counts.setdefault(bucket, {})
                for field, delta in fields.items():
                    counts[field] = counts.get(field, 0) + delta
            self.at, self.time_s = following, time_s
        if timed_out:
            raise StoreError("timed out on the way back")
        return None if found == expected else found

    def go_back(self) -> None:
        """Lose a tail, as a failover to a replica that was behind does."""
        if self._past:
            place = self.random.randrange(len(self._past))
            self.at, self.time_s, self.counts = self._past[place]
            del self._past[place:]

    def flush(self) -> None:
        self.at, self.time_s, self.counts = "", None, {}

    def _remember(self) -> None:
        self._past.append((self.at, self.time_s, deepcopy(self.counts)))
        del self._past[:-12]

    def _answer(self) -> None:
        if not self.is_up:
            raise StoreError("Redis is away")
