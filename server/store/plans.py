"""The plan in Redis: how often each line item may take part, and what it is worth, as of now.

Control writes it, every server's agent reads it. Versions rise, and the script writes none that is
not above the one that is there. A leader draws its version before it reads what the plan is made
of: so of two that lead at once the one that saw less is refused, whenever its plan arrives.
"""

from importlib import resources
from typing import Any, Final

import msgspec
import redis
from msgspec import Struct

from server.errors import SnapshotError
from server.store.client import translated
from server.store.keyspace import Keyspace

SCHEMA: Final = 1
KEPT_S: Final = 3600  # far beyond the age at which servers drop it
_NUMBER_BYTES: Final = 8


class Plan(Struct, frozen=True, array_like=True):
    """Columns are int64, little-endian; what no plan names serves as booked."""

    schema: int
    version: int
    made_at_s: int
    ids: bytes  # line items
    rates_ppm: bytes  # the share of requests to take part in
    probabilities_ppm: bytes  # of a click or conversion; -1: as booked
    multipliers_ppm: bytes = b""  # of the eCPM, in ranking alone; empty: all 10^6


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Plan).decode


class PlanStore:
    """The plan below one prefix."""

    def __init__(self, client: redis.Redis, keyspace: Keyspace) -> None:
        self._client: Any = client
        self._keys = keyspace
        scripts = resources.files("server.store") / "scripts"
        self._draw, self._write = (
            client.register_script((scripts / f"{name}_plan.lua").read_text("utf-8"))
            for name in ("draw", "write")
        )

    def close(self) -> None:
        self._client.close()

    def draw(self) -> int:
        """Draw a version, which nobody else has or will have: also after Redis has lost them."""
        with translated():
            return int(self._draw(keys=[self._keys.plan_last]))

    def write(
        self,
        made_at_s: int,
        ids: bytes,
        rates_ppm: bytes,
        probabilities_ppm: bytes,
        version: int | None = None,
        multipliers_ppm: bytes = b"",
    ) -> int | None:
        """Make a plan current; its version, or None when somebody wrote a newer one meanwhile."""
        if version is None:
            version = self.draw()
        columns = (ids, rates_ppm, probabilities_ppm, multipliers_ppm)
        plan = Plan(SCHEMA, version, made_at_s, *columns)
        keys = [self._keys.plan_current, self._keys.plan_version]
        with translated():
            written = self._write(keys=keys, args=[version, _encode(plan), KEPT_S])
        return version if written else None

    def version(self) -> int:
        """Which one is current, 0 for none: much less to read than the plan."""
        with translated():
            return int(self._client.get(self._keys.plan_version) or 0)

    def read(self) -> Plan | None:
        """Give the current plan, None when there is none; SnapshotError for one that is no good."""
        with translated():
            found = self._client.get(self._keys.plan_current)
        if found is None:
            return None
        try:
            plan = _decode(found)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise SnapshotError("decode", f"plan: {error}") from None
        if plan.schema != SCHEMA:
            raise SnapshotError("schema", f"plan of schema {plan.schema}")
        columns = {len(plan.ids), len(plan.rates_ppm), len(plan.probabilities_ppm)}
        columns |= {len(plan.multipliers_ppm)} - {0}
        if len(columns) != 1 or len(plan.ids) % _NUMBER_BYTES:
            raise SnapshotError("decode", f"plan {plan.version}: columns of different sizes")
        return plan
