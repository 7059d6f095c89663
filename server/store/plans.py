"""The plan in Redis: what share of its requests each line item takes part in.

Its number is drawn before what it is made of is read, and rises. So of two that lead at once, the
one that saw less is refused, whenever its plan arrives.
"""

from importlib import resources
from typing import Any, Final

import msgspec
import redis

from server.store.client import translated
from server.store.keyspace import Keyspace

SCHEMA: Final = 1


class Plan(msgspec.Struct, frozen=True, array_like=True):
    schema: int
    version: int
    made_at_s: int
    ids: bytes  # of line items: int64, little-endian, rising; the two below have their order
    rates_ppm: bytes  # int64
    probabilities_ppm: bytes  # int64 of the event that is paid for; -1: as booked


class PlanStore:
    """The one plan of a prefix."""

    def __init__(self, client: redis.Redis, keyspace: Keyspace) -> None:
        self._client: Any = client
        self._keys = keyspace
        scripts = resources.files("server.store") / "scripts"
        self._draw, self._write = (
            client.register_script((scripts / f"{name}_plan.lua").read_text("utf-8"))
            for name in ("draw", "write")
        )

    def draw(self) -> int:
        """Draw a number, which nobody else has or will have."""
        with translated():
            return int(self._draw(keys=[self._keys.plan_drawn]))

    def write(self, plan: Plan) -> bool:
        """Make it the current one; False when that is newer."""
        with translated():
            keys = [self._keys.plan, self._keys.plan_version]
            return bool(self._write(keys=keys, args=[plan.version, msgspec.msgpack.encode(plan)]))

    def version(self) -> int:
        """Give the current plan's number, 0 when there is none: cheap enough to ask each second."""
        with translated():
            return int(self._client.get(self._keys.plan_version) or 0)

    def current(self) -> Plan | None:
        """Give the current plan; None when there is none, or none that we understand."""
        with translated():
            content = self._client.get(self._keys.plan)
        try:
            plan = msgspec.msgpack.decode(content, type=Plan) if content else None
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None
        return plan if plan is not None and plan.schema == SCHEMA else None

    def close(self) -> None:
        self._client.close()
