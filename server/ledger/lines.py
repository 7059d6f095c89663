"""`adcore lines`: the spool as JSON lines, for a stock shipper to tail instead of `adcore forward`.

    spool folder ─► a Sender for each shard ─► {shard}.{kind}.{stream}.{first}.jsonl ─► Fluent Bit

A shipper that tails files knows neither our frames nor that all events of a token go to one shard.
So this writes a file for each shard, whose name says where its lines belong, and deletes one when
the shipper's own database (`tail.db` beside the files) says that it has read it all.

Lines are written once each, killed or not: a line says its frame's number, and the next start goes
on behind the last whole one. What the shipper then sends twice is its affair: beacons have ids, so
a repeat is known; decisions have none, and count twice.
"""

import argparse
import logging
import os
import re
import signal
import sqlite3
import threading
from contextlib import ExitStack, closing
from functools import partial
from typing import Any, Final

import msgspec

from server import config as settings
from server import logs
from server.clock import monotonic_s, now_s
from server.errors import ConfigError
from server.events.frames import Frame, Frames
from server.events.records import (
    RECORD_BEACON,
    RECORD_DECISION,
    Answered,
    Beacon,
    Decision,
    Kind,
    Outcome,
)
from server.families import (
    FORWARD_BEHIND,
    FORWARD_LOST,
    FORWARD_WAITING,
    FORWARDED,
    FORWARDER,
    MAIN,
)
from server.ledger.folder import DiskFolder
from server.ledger.receiver import STREAM, Ack, Batch, Watermark
from server.ledger.sender import Query, Sender, Shards, done_segments, segments_of
from server.metrics import Metrics
from server.ops import Ops
from server.run_folder import open_run_folder

POLL_S: Final = 0.02  # between looks at the spool
SWEEP_S: Final = 0.25  # between looks for what may go
FILE_BYTES: Final = 16 << 20  # then a file gets a successor, so that it may go once it is read
WAITING_BYTES_MAX: Final = 256 << 20  # of lines not read; beyond, the spool waits by its own rules
DRAIN_S_MAX: Final = 15.0  # of a SIGTERM: what was written last is still taken by the shipper
DATABASE: Final = "tail.db"
DATABASE_S_MAX: Final = 1.0  # for which the shipper may have it locked
KINDS: Final = {RECORD_BEACON: "beacon", RECORD_DECISION: "decision"}

log = logging.getLogger(__name__)

_FILE = re.compile(rf"(?P<group>[0-9]+\.[a-z]+\.(?P<stream>{STREAM}))\.[0-9]{{20}}\.jsonl")
_encode = msgspec.json.Encoder().encode
_beacon = msgspec.msgpack.Decoder(Beacon).decode
_decision = msgspec.msgpack.Decoder(Decision).decode


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser("lines", help="write the spool as JSON lines for a stock shipper")
    parser.set_defaults(run=lines)


def lines(_: argparse.Namespace) -> int:
    config = settings.load(os.environ)
    if not config.spool_dir or not config.lines_dir:
        raise ConfigError("ADCORE_SPOOL_DIR, ADCORE_LINES_DIR: both are needed")
    if not config.aggregators:
        raise ConfigError("ADCORE_AGGREGATORS: missing; host:port of each, to know how many")
    logs.configure(FORWARDER, config.log_level)
    with ExitStack() as stack:
        spool, written = DiskFolder(config.spool_dir), DiskFolder(config.lines_dir)
        if not spool.lock() or not written.lock():
            raise ConfigError(f"ADCORE_SPOOL_DIR: {spool.path} has another forwarder")
        run_dir = stack.enter_context(open_run_folder(config.run_dir))
        Metrics(run_dir, MAIN).started(now_s())
        stack.enter_context(Ops(config.ops_host, config.ops_port, run_dir, 0))
        epochs = settings.shard_epochs(config.aggregators)
        shards = Shards((since_s, len(listed)) for since_s, listed in epochs if listed)
        count = max(len(listed) for _, listed in epochs)
        writer = Writer(spool, written, shards, count, Metrics(run_dir, FORWARDER))
        ending = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: ending.set())
        return writer.run(ending)


def as_line(frame: Frame) -> bytes:
    """Spell a record as stock shippers do. One that is none is sent on, to be counted as that."""
    try:
        fields = _beacon_map(frame.record) if frame.kind == RECORD_BEACON else _decision_map(frame)
    except (ValueError, RecursionError):
        fields = {"unreadable": True}
    return _encode({"sequence": frame.sequence, **fields}) + b"\n"


def _beacon_map(record: bytes) -> dict[str, Any]:
    found = _beacon(record)
    return _map(found) | {
        "kind": Kind(found.kind).name.lower(),
        "outcome": Outcome(found.outcome).name.lower(),
        "user_agent": _unescaped(found.user_agent),
    }


def _decision_map(frame: Frame) -> dict[str, Any]:
    if frame.kind != RECORD_DECISION:
        raise ValueError(f"a record of kind {frame.kind}")
    found = _decision(frame.record)
    return _map(found) | {"answers": [_map(answered) for answered in found.answers]}


def _unescaped(user_agent: str) -> str:
    """Undo what `cut_user_agent` does once more on the other side; not where it was cut in two."""
    try:
        plain = user_agent.encode("ascii").decode("unicode_escape")
        plain.encode()
    except UnicodeError:
        return user_agent
    return plain


def _map(record: Beacon | Decision | Answered) -> dict[str, Any]:
    values = ((name, getattr(record, name)) for name in record.__struct_fields__)
    return {name: it.hex() if isinstance(it, bytes) else it for name, it in values}


class Writer:
    """One spool, and the files that its shards' lines go to."""

    def __init__(
        self, spool: DiskFolder, written: DiskFolder, shards: Shards, count: int, metrics: Metrics
    ) -> None:
        self._spool, self._written, self._slots = spool, written, metrics.slots
        self._senders = [Sender(spool, partial(_belongs, shards, shard)) for shard in range(count)]
        self._last: dict[str, int] = {}  # the number of the last line, by group
        self._open: dict[str, str] = {}  # the file that grows, by group
        self._idle_s = monotonic_s()
        for name in written.names():
            if found := _FILE.fullmatch(name):
                self._open[found["group"]] = name  # in order of time, so the newest one stays
        for group, name in self._open.items():
            self._last[group] = self._mend(name)

    def run(self, ending: threading.Event) -> int:
        """Write until told to end and all has been read by the shipper, or DRAIN_S_MAX later."""
        unread, swept_s, deadline_s = 0, float("-inf"), float("inf")
        pause = threading.Event()  # never set: `ending` would not let us wait once it is
        while monotonic_s() < deadline_s:
            # A shipper that stands still leaves things in the spool, which has rules for that.
            if unread < WAITING_BYTES_MAX:
                self.step()
            if monotonic_s() - swept_s > SWEEP_S:
                unread, swept_s = self.sweep(), monotonic_s()
                self._tell(unread)
                if ending.is_set() and not unread and self.is_idle:
                    return 0
            if ending.is_set():
                deadline_s = min(deadline_s, monotonic_s() + DRAIN_S_MAX)
            pause.wait(POLL_S)
        log.error("not all lines were read by the shipper", extra={"bytes": unread})
        return 1

    @property
    def is_idle(self) -> bool:
        return all(sender.is_idle for sender in self._senders)

    def step(self) -> None:
        """Write what the spool has got since."""
        spooled = segments_of(self._spool.names())
        for shard, sender in enumerate(self._senders):
            for message in sender.poll(spooled):
                if isinstance(message, Query):
                    last = min(self._last.get(each, 0) for each in _groups(shard, message.stream))
                    sender.told(Watermark(message.stream, last))
                else:
                    self._write(shard, message)
                    sender.told(Ack(message.stream, message.last))

    def sweep(self) -> int:
        """Remove what all are done with; give how many bytes of lines have not been read."""
        spooled = segments_of(self._spool.names())
        for name in done_segments(spooled, self._senders):
            self._spool.remove(name)
        offsets, unread = self._offsets(), 0
        for name in self._written.names():
            if not (found := _FILE.fullmatch(name)):
                continue
            size = self._written.size(name)
            unread += size - min(size, offsets.get(name, 0))
            # The newest one says up to where its stream is written, for as long as that is there.
            is_needed = self._open.get(found["group"]) == name
            if is_needed and found["stream"] not in spooled:
                del self._open[found["group"]], self._last[found["group"]]
                is_needed = False
            if not is_needed and size <= offsets.get(name, 0):
                self._written.remove(name)
        return unread

    def _write(self, shard: int, batch: Batch) -> None:
        written: dict[str, list[bytes]] = {group: [] for group in _groups(shard, batch.stream)}
        for frame in Frames(batch.frames):
            group = f"{shard}.{KINDS.get(frame.kind, 'beacon')}.{batch.stream}"
            if frame.sequence > self._last.get(group, 0):
                written[group].append(as_line(frame))
                self._last[group] = frame.sequence
        for group, pieces in written.items():
            if not pieces:
                continue
            name = self._open.get(group, "")
            if not name or self._written.size(name) >= FILE_BYTES:
                name = f"{group}.{msgspec.json.decode(pieces[0])['sequence']:020d}.jsonl"
                self._open[group] = name
            self._written.append(name, b"".join(pieces))
        self._slots[FORWARDED.slot("sent")] += 1

    def _mend(self, name: str) -> int:
        """Cut a line that was torn when we were killed; give the number of the last whole one."""
        content = self._written.read(name)
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            self._written.truncate(name, whole)
        before = content.rfind(b"\n", 0, max(whole - 1, 0)) + 1
        if whole:
            return int(msgspec.json.decode(content[before:whole])["sequence"])
        return int(name.rpartition(".jsonl")[0].rpartition(".")[2]) - 1

    def _offsets(self) -> dict[str, int]:
        """Ask the shipper's database how far it has read; nothing, until it has one."""
        path = self._written.path / DATABASE
        if not path.exists():
            return {}
        try:
            with closing(
                sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=DATABASE_S_MAX)
            ) as database:
                rows = database.execute("SELECT name, offset FROM in_tail_files").fetchall()
        except sqlite3.Error as error:
            log.warning("the shipper's database can't be read", extra={"detail": str(error)})
            return {}
        return {os.path.basename(str(name)): int(offset) for name, offset in rows}

    def _tell(self, unread: int) -> None:
        sizes = [self._spool.size(name) for name in self._spool.names() if name.endswith(".spool")]
        if self.is_idle and not unread:
            self._idle_s = monotonic_s()
        self._slots[FORWARD_BEHIND.start] = int(monotonic_s() - self._idle_s)
        self._slots[FORWARD_LOST.start] = max(each.lost_frames for each in self._senders)
        self._slots[FORWARD_WAITING.start] = unread + (0 if self.is_idle else sum(sizes))


def _groups(shard: int, stream: str) -> list[str]:
    return [f"{shard}.{kind}.{stream}" for kind in KINDS.values()]


def _belongs(shards: Shards, shard: int, record: bytes) -> bool:
    return shards.of(record) == shard
