"""Every key in Redis, in one table.

| key | type | what |
|---|---|---|
| `{prefix}:{catalog}:current` | string | the generation that is served |
| `{prefix}:{catalog}:last` | string | the highest generation ever given out |
| `{prefix}:{catalog}:generations` | hash | those kept -> how many keys each has |
| `{prefix}:{catalog}:meta:{generation}` | string | `Meta` as msgpack |
| `{prefix}:{catalog}:chunk:{generation}:{number}` | string | records of one kind as msgpack |
| `{prefix}:{catalog}:published` | channel | a generation, when it becomes current |

The braces around `catalog` are literal: Redis Cluster hashes what is between them, so all of these
lie in one slot and one script may change them together.
"""

from typing import NamedTuple


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

    def _catalog(self, name: str) -> str:
        return f"{self.prefix}:{{catalog}}:{name}"
