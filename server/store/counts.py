"""Counts by shard and bucket: a view of the shard's log, made again from it whenever it is lost.

The cursor says up to where in the log the counts go, and is changed by the same script that changes
them. So whatever takes counts back (a lost tail of Redis's own log, a failover to a replica that
was behind, a flush) takes the cursor back with them, and whoever applies the log sees from where
to do it again.

The log's time goes with the cursor: it says what moment the counts stand for to those who have no
log. There is none while a rebuild fills the counts up, so nobody takes half of them for the truth.
"""

from collections.abc import Iterable, Iterator
from importlib import resources
from typing import Any, Final

import redis

from server.errors import StoreError
from server.store.buckets import EVER, HOUR, Bucket, Spent, Totals, hour, quarter, window
from server.store.client import translated
from server.store.keyspace import Keyspace

TORN: Final = "torn"
"""In a cursor's place: Redis has a part of a change in its counts, which only `clear` mends."""

# What is not over is there, though a lease's window may begin so long after the log's time.
EXPIRY_MARGIN_S: Final = 600

SpentByLine = dict[int, Spent]
_MEASURES: Final = {name: name for name in Spent._fields}


class CountsStore:
    """The counts of one shard. `apply` and `clear` are for its aggregator alone."""

    def __init__(self, client: redis.Redis, keyspace: Keyspace, shard: int) -> None:
        self._client: Any = client
        self._keys = keyspace
        self._shard = shard
        scripts = resources.files("server.store") / "scripts"
        self._apply, self._clear = (
            client.register_script((scripts / f"{name}_counts.lua").read_text("utf-8"))
            for name in ("apply", "clear")
        )

    def close(self) -> None:
        self._client.close()

    def announce(self) -> None:
        """Tell readers that this shard exists."""
        with translated():
            self._client.sadd(self._keys.count_shards, self._shard)

    def cursor(self) -> str:
        """Give the cursor as it was set, an empty string, or TORN."""
        return self.place()[0]

    def place(self) -> tuple[str, int | None]:
        """Give the cursor, and the log's time that the counts stand for, if they do."""
        with translated():
            return _place(*self._ask(self._client.pipeline(transaction=True)).execute())

    def apply(
        self, expected: str, following: str, deltas: Totals, time_s: int | None
    ) -> str | None:
        """Add all and move cursor and time; give None or, with nothing changed, the cursor found.

        After a StoreError nobody knows which; the cursor tells.
        """
        arguments: list[Any] = [expected, following, "" if time_s is None else time_s]
        for bucket, fields in deltas.items():
            lives_s = bucket.kept_s + EXPIRY_MARGIN_S if bucket.kept_s else 0
            arguments += (str(bucket), lives_s, len(fields))
            for pair in fields.items():
                arguments += pair
        with translated():
            found: bytes | None = self._apply(keys=self._of(deltas), args=arguments)
            return None if found is None else found.decode()

    def clear(self, expected: str, following: str) -> str | None:
        """Forget all counts and the time, and set the cursor; give None or the cursor found."""
        keys = self._of(self.buckets())
        with translated():
            found: bytes | None = self._clear(keys=keys, args=[expected, following])
            return None if found is None else found.decode()

    # -- reading

    def buckets(self) -> list[Bucket]:
        """Give all that have counts, in order."""
        with translated():
            names: list[bytes] = self._client.zrange(self._keys.count_buckets(self._shard), 0, -1)
        return sorted(Bucket.parse(name.decode()) for name in names)

    def hours(self) -> list[int]:
        """Hours that have counts, in order."""
        return [bucket.number for bucket in self.buckets() if bucket.kind == HOUR]

    def read(self, hours: list[int]) -> Iterator[tuple[int, str, dict[bytes, int]]]:
        """Give each hour with its counts and the cursor that they belong to."""
        for bucket, cursor, counts in self.read_buckets(map(hour, hours)):
            yield bucket.number, cursor, counts

    def read_buckets(
        self, buckets: Iterable[Bucket]
    ) -> Iterator[tuple[Bucket, str, dict[bytes, int]]]:
        """Give each bucket with its counts and the cursor that they belong to."""
        for bucket in buckets:
            (cursor, _), (counts,) = self._read([bucket])
            yield bucket, cursor, counts

    def spent_in(self, number: int, now_s: int = 0) -> tuple[int | None, SpentByLine]:
        """Give the log's time and, by line item, what was billed in a window by then.

        It is all that ever will be once that time has closed the window. No time: nothing is known,
        as of a window so old that Redis may have let go of it: by the log's time, or by `now_s`,
        Redis's own clock. A log that stood still for hours has an old time and lost windows, so who
        settles by this must say how late it is.
        """
        time_s, (spent,) = self.spent([window(number)], now_s)
        return time_s, spent

    def quarters(
        self, numbers: Iterable[int], now_s: int = 0
    ) -> tuple[int | None, dict[int, SpentByLine]]:
        """Give the log's time and, by quarter of an hour, what was billed in it by then.

        No time if one of them may be gone, as in `spent_in`.
        """
        asked = [*numbers]
        time_s, spent = self.spent([quarter(number) for number in asked], now_s)
        return time_s, dict(zip(asked, spent, strict=True))

    def ever(self) -> tuple[int | None, SpentByLine]:
        """Give the log's time and, by line item, all that was billed by then.

        Not for every second: of 100,000 line items it keeps Redis from all others for 0.13 s.
        """
        time_s, (spent,) = self.spent([EVER])
        return time_s, spent

    def spent(
        self, buckets: Iterable[Bucket], now_s: int = 0
    ) -> tuple[int | None, list[SpentByLine]]:
        """Give the log's time and what was billed in each bucket by then, all at one moment.

        No time if one of them may be gone, as in `spent_in`.
        """
        asked = [*buckets]
        (_, time_s), counts = self._read(asked)
        if time_s is not None and any(bucket.is_over(max(time_s, now_s)) for bucket in asked):
            time_s = None
        return time_s, [_by_line(fields) for fields in counts]

    def _read(
        self, buckets: Iterable[Bucket]
    ) -> tuple[tuple[str, int | None], list[dict[bytes, int]]]:
        """Read buckets and the place in the log that they belong to, all at one moment."""
        with translated():
            pipeline = self._ask(self._client.pipeline(transaction=True))
            for bucket in buckets:
                pipeline.hgetall(self._keys.count_bucket(self._shard, bucket))
            cursor, ends, time_s, *hashes = pipeline.execute()
        counts = [{field: int(count) for field, count in each.items()} for each in hashes]
        return _place(cursor, ends, time_s), counts

    def _ask(self, pipeline: Any) -> Any:
        """Ask for what `_place` takes."""
        pipeline.get(self._keys.count_cursor(self._shard))
        pipeline.hmget(self._keys.count_transactions(self._shard), "begun", "done")
        return pipeline.get(self._keys.count_time(self._shard))

    def _of(self, buckets: Iterable[Bucket]) -> list[str]:
        return [
            self._keys.count_cursor(self._shard),
            self._keys.count_transactions(self._shard),
            self._keys.count_time(self._shard),
            self._keys.count_buckets(self._shard),
            *(self._keys.count_bucket(self._shard, bucket) for bucket in buckets),
        ]


def _place(
    cursor: bytes | None, ends: list[bytes | None], time_s: bytes | None
) -> tuple[str, int | None]:
    if ends[0] != ends[1]:
        return TORN, None
    if cursor is None or time_s is None:
        return (cursor or b"").decode(), None
    return cursor.decode(), int(time_s)


def _by_line(fields: dict[bytes, int]) -> SpentByLine:
    sums: dict[int, dict[str, int]] = {}
    for field, amount in fields.items():
        try:
            line, measure = field.decode().split(".", 1)
            sums.setdefault(int(line), {})[_MEASURES[measure]] = amount
        except (ValueError, KeyError):
            raise StoreError(f"Redis has the count {field!r}, which is none of ours") from None
    return {line: Spent(**measures) for line, measures in sums.items()}


def summed(parts: Iterable[SpentByLine]) -> SpentByLine:
    """Add up, line item by line item: shards, or the quarters of a day."""
    sums: SpentByLine = {}
    for part in parts:
        for line, spent in part.items():
            before = sums.get(line)
            sums[line] = spent if before is None else Spent(*map(int.__add__, before, spent))
    return sums


def shards(client: redis.Redis, keyspace: Keyspace) -> list[int]:
    """Give the shards that were ever announced, in order."""
    with translated():
        members: Any = client.smembers(keyspace.count_shards)
        return sorted(int(shard) for shard in members)
