"""Published catalogs: each a generation in chunks, one of them current.

Chunks are written under keys that nobody reads and that expire if their publisher dies; then one
script checks that all are there, keeps them, makes the generation current and drops the eleventh.
So a reader sees a whole generation or none, whoever else publishes meanwhile, and of two publishers
the last to finish is current. Every chunk's length and CRC-32C are in the generation's meta: a
reader that finds anything else than what was written says which of REASONS it is.
"""

import hashlib
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from importlib import resources
from typing import Any, Final, Literal, TypeAlias, get_args

import msgspec
import redis
from crc32c import crc32c
from redis.client import PubSub

from adcore.catalog import SCHEMA_VERSION, Account, Catalog
from server.clock import monotonic_s
from server.errors import CatalogError, SnapshotError, StoreError
from server.store.client import translated
from server.store.keyspace import Keyspace

CHUNK_RECORDS_MAX: Final = 512  # decoding one takes 1 to 2 ms: a reader may pause between two
CHUNK_BYTES_MAX: Final = 1 << 20  # Redis answers nobody else while it copies one
GENERATIONS_KEPT: Final = 10
PENDING_TTL_S: Final = 3600  # what a dead publisher leaves goes by itself; a live one needs seconds

Reason: TypeAlias = Literal["missing", "checksum", "schema", "decode"]
REASONS: Final[tuple[str, ...]] = get_args(Reason)

_KINDS: Final = {field.name: field.type for field in msgspec.structs.fields(Catalog)}
_DECODERS: Final[dict[str, msgspec.msgpack.Decoder[tuple[Any, ...]]]] = {
    kind: msgspec.msgpack.Decoder(tuple[Account, ...] if kind == "account" else type_)
    for kind, type_ in _KINDS.items()
}
_UNDECODABLE: Final = (msgspec.DecodeError, UnicodeDecodeError)
_HEADER_BYTES: Final = 3  # at most: msgpack's array header, up to 65,535 entries


class Chunk(msgspec.Struct, frozen=True, array_like=True):
    kind: str  # a field of Catalog
    records: int
    size_bytes: int
    crc32c: int


class Meta(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a generation without reading it."""

    schema_version: int
    generation: int
    source: str  # where it came from, for people
    published_at_s: int
    digest: str  # SHA-256 of all chunks in order: same digest, same catalog
    chunks: tuple[Chunk, ...]

    @property
    def counts(self) -> dict[str, int]:
        """How many records of each kind."""
        counts: Counter[str] = Counter()
        for chunk in self.chunks:
            counts[chunk.kind] += chunk.records
        return dict(counts)

    @property
    def size_bytes(self) -> int:
        return sum(chunk.size_bytes for chunk in self.chunks)


class _Version(msgspec.Struct):
    """The one field that every `Meta` has, past or future."""

    schema_version: int


class CatalogStore:
    """The catalogs below one prefix. For one thread; only `close` may come from another."""

    def __init__(self, client: redis.Redis, keyspace: Keyspace) -> None:
        # redis-py types every answer as str or bytes; without decode_responses they are bytes.
        self._client: Any = client
        self._keys = keyspace
        script = resources.files("server.store") / "scripts" / "make_current.lua"
        self._make_current = client.register_script(script.read_text("utf-8"))
        self._subscription: PubSub | None = None
        self._closing = threading.Event()

    # -- writing

    def publish(self, catalog: Catalog, *, source: str, now_s: int) -> int:
        """Write `catalog` as a new generation and make it current; failing changes nothing."""
        if not catalog.line_items:
            raise CatalogError("no line items: publishing this would stop all ads")
        with translated():
            generation = int(self._client.incr(self._keys.last))
            chunks, digest = self._write(catalog, generation)
            meta = Meta(
                schema_version=SCHEMA_VERSION,
                generation=generation,
                source=source,
                published_at_s=now_s,
                digest=digest,
                chunks=tuple(chunks),
            )
            self._set(self._keys.meta(generation), msgspec.msgpack.encode(meta))
        if not self._switch(meta):
            raise StoreError("Redis lost chunks while they were being written; publish again")
        return generation

    def _write(self, catalog: Catalog, generation: int) -> tuple[list[Chunk], str]:
        chunks: list[Chunk] = []
        digest = hashlib.sha256()
        for kind, records, content in _split(catalog):
            self._set(self._keys.chunk(generation, len(chunks)), content)
            chunks.append(Chunk(kind, records, len(content), crc32c(content)))
            digest.update(content)
        return chunks, digest.hexdigest()

    def _set(self, key: str, content: bytes) -> None:
        self._client.set(key, content, ex=PENDING_TTL_S)

    def make_current(self, generation: int) -> None:
        """Serve a generation that is still kept: the way back after a bad publish."""
        if not self._switch(self.meta(generation)):
            raise SnapshotError("missing", f"generation {generation} is not complete")

    def _switch(self, meta: Meta) -> bool:
        count = 1 + len(meta.chunks)
        keys = [self._keys.current, self._keys.generations]
        keys += self._keys.keys_of(meta.generation, count)
        arguments: list[str | int] = [self._keys.published, GENERATIONS_KEPT]
        arguments += [meta.generation, count]
        with translated():
            for old, old_count in self._kept()[GENERATIONS_KEPT - 1 :]:
                keys += self._keys.keys_of(old, old_count)
                arguments += [old, old_count]
            return bool(self._make_current(keys=keys, args=arguments))

    def _kept(self) -> list[tuple[int, int]]:
        """Each kept generation, newest first, and how many keys it has."""
        found = self._client.hgetall(self._keys.generations)
        return sorted(((int(number), int(count)) for number, count in found.items()), reverse=True)

    # -- reading

    def current(self) -> int | None:
        """Return the generation to serve; None before the first publish."""
        with translated():
            text = self._client.get(self._keys.current)
        try:
            return None if text is None else int(text)
        except ValueError:
            raise StoreError(f"{self._keys.current} holds no number") from None

    def meta(self, generation: int) -> Meta:
        with translated():
            content = self._client.get(self._keys.meta(generation))
        if content is None:
            raise SnapshotError("missing", f"there is no generation {generation}")
        return _decode_meta(generation, content)

    def generations(self) -> list[Meta]:
        """Return what can be rolled back to, newest first, without what can't be read."""
        metas = []
        with translated():
            kept = self._kept()
        for generation, _ in kept:
            with suppress(SnapshotError):
                metas.append(self.meta(generation))
        return metas

    def load(self, generation: int) -> Catalog:
        """Return the generation as it was published, or raise SnapshotError with the reason."""
        records: dict[str, list[Any]] = {kind: [] for kind in _KINDS}
        for number, chunk in enumerate(self.meta(generation).chunks):
            name = f"chunk {number} of generation {generation}"
            with translated():
                content = self._client.get(self._keys.chunk(generation, number))
            if content is None:
                raise SnapshotError("missing", f"{name} is gone")
            if len(content) != chunk.size_bytes or crc32c(content) != chunk.crc32c:
                raise SnapshotError("checksum", f"{name} is not what was published")
            if chunk.kind not in _KINDS:
                raise SnapshotError("decode", f"{name} holds unknown {chunk.kind!r}")
            try:
                records[chunk.kind] += _DECODERS[chunk.kind].decode(content)
            except _UNDECODABLE as error:
                raise SnapshotError("decode", f"{name}: {error}") from None
        accounts = records.pop("account")
        if len(accounts) != 1:
            raise SnapshotError("decode", f"generation {generation} has {len(accounts)} accounts")
        return Catalog(account=accounts[0], **{kind: tuple(of) for kind, of in records.items()})

    # -- waiting

    def wait(self, timeout_s: float) -> None:
        """Return when somebody publishes, or after `timeout_s`; a lost message costs no more.

        While Redis is away, the full time passes before this raises: a loop around it can't spin.
        """
        deadline_s = monotonic_s() + timeout_s
        try:
            with translated():
                self._listen(deadline_s)
        except StoreError:
            self._unsubscribe()
            self._closing.wait(max(0.0, deadline_s - monotonic_s()))
            raise

    def _listen(self, deadline_s: float) -> None:
        if self._subscription is None:
            subscription: PubSub = self._client.pubsub(ignore_subscribe_messages=True)
            self._subscription = subscription
            subscription.subscribe(self._keys.published)
        while (left_s := deadline_s - monotonic_s()) > 0 and not self._closing.is_set():
            if self._subscription.get_message(timeout=left_s) is not None:
                return

    def _unsubscribe(self) -> None:
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            with suppress(redis.RedisError):
                subscription.close()

    def close(self) -> None:
        """Give up connections; a `wait` in another thread ends at its timeout or before."""
        self._closing.set()
        self._unsubscribe()
        self._client.close()


def _split(catalog: Catalog) -> Iterator[tuple[str, int, bytes]]:
    """Yield the catalog's records as chunks: their kind, how many there are, and their bytes."""
    encode = msgspec.msgpack.Encoder().encode
    for kind in _KINDS:
        records = (catalog.account,) if kind == "account" else getattr(catalog, kind)
        batch: list[msgspec.Raw] = []
        size_bytes = _HEADER_BYTES
        for position, record in enumerate(records):
            content = encode(record)
            if _HEADER_BYTES + len(content) > CHUNK_BYTES_MAX:
                raise CatalogError(f"{kind}[{position}]: larger than {CHUNK_BYTES_MAX} bytes")
            if len(batch) == CHUNK_RECORDS_MAX or size_bytes + len(content) > CHUNK_BYTES_MAX:
                yield kind, len(batch), encode(batch)
                batch, size_bytes = [], _HEADER_BYTES
            batch.append(msgspec.Raw(content))
            size_bytes += len(content)
        if batch:
            yield kind, len(batch), encode(batch)


def _decode_meta(generation: int, content: bytes) -> Meta:
    try:
        version = msgspec.msgpack.decode(content, type=_Version).schema_version
        if version != SCHEMA_VERSION:
            raise SnapshotError(
                "schema", f"generation {generation} has schema {version}, not {SCHEMA_VERSION}"
            )
        return msgspec.msgpack.decode(content, type=Meta)
    except _UNDECODABLE as error:
        raise SnapshotError("decode", f"meta of generation {generation}: {error}") from None
