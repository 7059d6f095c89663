"""Every key in Redis, in one table.

| key | type | what |
|---|---|---|
| `{prefix}:{catalog}:current` | string | the generation that is served |
| `{prefix}:{catalog}:last` | string | the highest generation ever given out |
| `{prefix}:{catalog}:generations` | hash | those kept -> how many keys each has |
| `{prefix}:{catalog}:meta:{generation}` | string | `Meta` as msgpack |
| `{prefix}:{catalog}:chunk:{generation}:{number}` | string | records of one kind as msgpack |
| `{prefix}:{catalog}:published` | channel | a generation, when it becomes current |
| `{prefix}:count:shards` | set | shards of the ledger that have counts |
| `{prefix}:{count:SHARD}:cursor` | string | up to where in its log a shard's counts go |
| `{prefix}:{count:SHARD}:transactions` | hash | how many changes were `begun` and `done` |
| `{prefix}:{count:SHARD}:time` | string | the log's time that the counts stand for, when they do |
| `{prefix}:{count:SHARD}:buckets` | sorted set | buckets that have counts, by when they go |
| `{prefix}:{count:SHARD}:hour:N` | hash | `line.creative.site.measure` -> count |
| `{prefix}:{count:SHARD}:quarter:N`, `window:N`, `ever` | hash | `line.measure` -> count |
| `{prefix}:{control}:leader` | string | the `adcore control` that leads; expires |
| `{prefix}:{pace}:state` | hash | `version` of a plan, and what its maker had learned |
| `{prefix}:{plan}:current` | string | the plan as msgpack, see `plans.py` |
| `{prefix}:{plan}:version` | string | which one that is |
| `{prefix}:{plan}:last` | string | the highest version ever given out |
| `{prefix}:{budget}:state` | hash | up to where accounts go, and whose they are: see `grant.lua` |
| `{prefix}:{budget}:base:PERIOD` | hash | account -> spent in settled windows; `ever` or a date |
| `{prefix}:{budget}:open` | hash | `PERIOD/account` -> granted in windows that are not settled |
| `{prefix}:{budget}:granted:WINDOW` | hash | `PERIOD/account` -> granted in this window |
| `{prefix}:{budget}:ghosts` | set | windows whose grants may be lost |
| `{prefix}:{budget}:servers` | hash | agent -> `sequence:window` of its last call |
| `{prefix}:user:{HASH}` | hash | what a user was shown: `l42`, `c7`, `a3` -> its last moments |

The braces around `catalog`, `plan`, `budget`, `count:SHARD` and `HASH` are literal: Redis Cluster
hashes what is between them, so what shares them lies in one slot, and one script may change it
together.
"""

from typing import NamedTuple

from server.store.buckets import Bucket


class Keyspace(NamedTuple):
    prefix: str = "adcore"

    @property
    def current(self) -> str:
        return self._catalog("current")

    @property
    def last(self) -> str:
        return self._catalog("last")

    @property
    def generations(self) -> str:
        return self._catalog("generations")

    @property
    def published(self) -> str:
        return self._catalog("published")

    def meta(self, generation: int) -> str:
        return self._catalog(f"meta:{generation}")

    def chunk(self, generation: int, number: int) -> str:
        return self._catalog(f"chunk:{generation}:{number}")

    def keys_of(self, generation: int, count: int) -> list[str]:
        """All keys of a generation: its meta and count - 1 chunks."""
        chunks = [self.chunk(generation, number) for number in range(count - 1)]
        return [self.meta(generation), *chunks]

    @property
    def count_shards(self) -> str:
        return f"{self.prefix}:count:shards"

    def count_cursor(self, shard: int) -> str:
        return self._count(shard, "cursor")

    def count_transactions(self, shard: int) -> str:
        return self._count(shard, "transactions")

    def count_time(self, shard: int) -> str:
        return self._count(shard, "time")

    def count_buckets(self, shard: int) -> str:
        return self._count(shard, "buckets")

    def count_bucket(self, shard: int, bucket: Bucket) -> str:
        return self._count(shard, str(bucket))

    @property
    def leader(self) -> str:
        return f"{self.prefix}:{{control}}:leader"

    @property
    def learned(self) -> str:
        return f"{self.prefix}:{{pace}}:state"

    def user(self, hashed: str) -> str:
        return f"{self.prefix}:user:{{{hashed}}}"

    @property
    def plan_current(self) -> str:
        return self._plan("current")

    @property
    def plan_version(self) -> str:
        return self._plan("version")

    @property
    def plan_last(self) -> str:
        return self._plan("last")

    @property
    def budget_state(self) -> str:
        return self._budget("state")

    @property
    def budget_open(self) -> str:
        return self._budget("open")

    @property
    def budget_ghosts(self) -> str:
        return self._budget("ghosts")

    @property
    def budget_servers(self) -> str:
        return self._budget("servers")

    def budget_base(self, period: str) -> str:
        return self._budget(f"base:{period}")

    def budget_granted(self, window: int) -> str:
        return self._budget(f"granted:{window}")

    def _plan(self, name: str) -> str:
        return f"{self.prefix}:{{plan}}:{name}"

    def _budget(self, name: str) -> str:
        return f"{self.prefix}:{{budget}}:{name}"

    def _count(self, shard: int, name: str) -> str:
        return f"{self.prefix}:{{count:{shard}}}:{name}"

    def _catalog(self, name: str) -> str:
        return f"{self.prefix}:{{catalog}}:{name}"
