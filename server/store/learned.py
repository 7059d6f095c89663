"""What control has learned, kept in Redis so that its successor need not begin again."""

from importlib import resources
from typing import Any, Final

import msgspec
import redis

from server.store.client import translated
from server.store.keyspace import Keyspace

SCHEMA: Final = 1


class Learned(msgspec.Struct, frozen=True, array_like=True):
    schema: int
    version: int  # of the plan that came of it
    made_at_s: int
    generation: int  # of the catalog that it is about
    state: bytes  # `server.pacing.state.State`
    forecast: bytes  # `server.pacing.forecast.Forecast`


class LearnedStore:
    """The one `Learned` of a prefix."""

    def __init__(self, client: redis.Redis, keyspace: Keyspace) -> None:
        self._client: Any = client
        self._key = keyspace.learned
        script = resources.files("server.store") / "scripts" / "save_learned.lua"
        self._save = client.register_script(script.read_text("utf-8"))

    def save(self, learned: Learned) -> bool:
        """Keep it; False when something newer is there."""
        with translated():
            content = msgspec.msgpack.encode(learned)
            return bool(self._save(keys=[self._key], args=[learned.version, content]))

    def load(self) -> Learned | None:
        """Give what was kept; None when nothing was, or by an adcore that we don't understand.

        It is learned again within hours. No money depends on it.
        """
        with translated():
            content = self._client.hget(self._key, "learned")
        try:
            learned = msgspec.msgpack.decode(content, type=Learned) if content else None
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None
        return learned if learned is not None and learned.schema == SCHEMA else None

    def close(self) -> None:
        self._client.close()
