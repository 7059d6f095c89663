"""Counts by shard and hour: a view of the shard's log, made again from it whenever it is lost.

The cursor says up to where in the log the counts go, and is changed by the same script that changes
them. So whatever takes counts back (a lost tail of Redis's own log, a failover to a replica that
was behind, a flush) takes the cursor back with them, and whoever applies the log sees from where
to do it again.
"""

from collections.abc import Iterator, Mapping
from importlib import resources
from typing import Any, Final

import redis

from server.store.client import translated
from server.store.keyspace import Keyspace

Deltas = Mapping[int, Mapping[bytes, int]]
"""By hour, by field (`line.creative.site.measure`): what is to be added."""

KEPT_S: Final = 62 * 86_400  # an hour's counts, from their last change: two months of reports

TORN: Final = "torn"
"""In a cursor's place: Redis has a part of a change in its counts, which only `clear` mends."""


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
        with translated():
            return _cursor(*self._ask(self._client.pipeline(transaction=True)).execute())

    def apply(self, expected: str, following: str, deltas: Deltas) -> str | None:
        """Add all and move the cursor; give None or, with nothing changed, the cursor found.

        After a StoreError nobody knows which; the cursor tells.
        """
        arguments: list[Any] = [expected, following, KEPT_S]
        for hour, fields in deltas.items():
            arguments += (hour, len(fields))
            for pair in fields.items():
                arguments += pair
        with translated():
            found: bytes | None = self._apply(keys=self._of(deltas), args=arguments)
            return None if found is None else found.decode()

    def clear(self, expected: str, following: str) -> str | None:
        """Forget all counts and set the cursor; give None or the cursor found."""
        with translated():
            hours = [int(hour) for hour in self._client.smembers(self._hours)]
            arguments: list[Any] = [expected, following, *hours]
            found: bytes | None = self._clear(keys=self._of(hours), args=arguments)
            return None if found is None else found.decode()

    # -- reading

    def hours(self) -> list[int]:
        """Hours that have counts, in order."""
        with translated():
            return sorted(int(hour) for hour in self._client.smembers(self._hours))

    def read(self, hours: list[int]) -> Iterator[tuple[int, str, dict[bytes, int]]]:
        """Give each hour with its counts and the cursor that they belong to."""
        for hour in hours:
            with translated():
                pipeline = self._client.pipeline(transaction=True)
                self._ask(pipeline).hgetall(self._keys.count_hour(self._shard, hour))
                *found, fields = pipeline.execute()
            counts = {field: int(count) for field, count in fields.items()}
            yield hour, _cursor(*found), counts

    def _ask(self, pipeline: Any) -> Any:
        """Ask for what `_cursor` takes."""
        pipeline.get(self._keys.count_cursor(self._shard))
        return pipeline.hmget(self._keys.count_transactions(self._shard), "begun", "done")

    @property
    def _hours(self) -> str:
        return self._keys.count_hours(self._shard)

    def _of(self, hours: Any) -> list[str]:
        return [
            self._keys.count_cursor(self._shard),
            self._keys.count_transactions(self._shard),
            self._hours,
            *(self._keys.count_hour(self._shard, hour) for hour in hours),
        ]


def _cursor(found: bytes | None, ends: list[bytes | None]) -> str:
    return (found or b"").decode() if ends[0] == ends[1] else TORN


def shards(client: redis.Redis, keyspace: Keyspace) -> list[int]:
    """Give the shards that were ever announced, in order."""
    with translated():
        members: Any = client.smembers(keyspace.count_shards)
        return sorted(int(shard) for shard in members)
