"""Which of several `adcore control` leads: a lock that runs out by itself."""

from importlib import resources
from typing import Any

import redis

from server.store.client import translated
from server.store.keyspace import Keyspace


class LeaderStore:
    """The lock of one prefix. Whoever holds it says so again before `lock_ms` have passed."""

    def __init__(self, client: redis.Redis, keyspace: Keyspace) -> None:
        self._client: Any = client
        self._key = keyspace.leader
        scripts = resources.files("server.store") / "scripts"
        self._hold, self._drop = (
            client.register_script((scripts / f"{name}_leader.lua").read_text("utf-8"))
            for name in ("hold", "drop")
        )

    def hold(self, name: str, lock_ms: int) -> str:
        """Take or keep the lead if nobody else has it; give the name of who has."""
        with translated():
            leader: bytes = self._hold(keys=[self._key], args=[name, lock_ms])
            return leader.decode()

    def drop(self, name: str) -> None:
        """Give the lead up; nothing happens when another one has it."""
        with translated():
            self._drop(keys=[self._key], args=[name])

    def leader(self) -> str:
        """Tell who leads; an empty string when nobody does."""
        with translated():
            found: bytes | None = self._client.get(self._key)
            return (found or b"").decode()

    def close(self) -> None:
        self._client.close()
