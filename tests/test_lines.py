"""`adcore lines`: each frame becomes one line of its shard, and reads as the record that it was."""

import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading

import msgspec
import pytest

from server.events.frames import Frame, Frames, pack
from server.events.privacy import cut_user_agent
from server.events.records import RECORD_BEACON, RECORD_DECISION, Answered, Beacon, Decision
from server.families import FORWARDER
from server.ledger import lines
from server.ledger.fluent import Chunk
from server.ledger.folder import DiskFolder
from server.ledger.lines import Writer, as_line
from server.ledger.sender import Shards
from server.ledger.stock import convert
from server.metrics import Metrics
from tests.serving import free_ports

NOW_S = 1_793_500_000
EPOCH = 7
STREAM = f"front-{EPOCH:016x}"
SHARDS = 2


def frames_of(seed, count):
    dice = random.Random(seed)
    for sequence in range(1, count + 1):
        id_ = dice.randbytes(16)
        if dice.random() < 0.3:
            answers = [Answered(9, 70_001, 80_001), Answered(9, 0, 0)]
            kind, record = RECORD_DECISION, Decision(0, 0, NOW_S, NOW_S, id_, 100, 3, answers)
        else:
            kind, record = RECORD_BEACON, Beacon(
                dice.randint(1, 3), dice.choice((0, 1, 7)), NOW_S + 1, NOW_S, id_, 70_001, 80_001,
                9, dice.randbytes(8), dice.randint(0, 5), 2_500_000, 40, dice.choice((0, 2)),
                "203.0.113.0", cut_user_agent('Mozilla (\\ "é" 𝄞\n)'), order=dice.randbytes(16),
            )  # fmt: skip
        yield Frame(EPOCH, sequence, kind, msgspec.msgpack.encode(record))


def chunk(kind, written):
    entries = [msgspec.msgpack.encode([NOW_S, msgspec.json.decode(line)]) for line in written]
    return Chunk(f"adcore.{kind}.0", "a", entries)


class Folders:
    def __init__(self, path):
        self.spool, self.written, self.run = path / "spool", path / "lines", path / "run"
        self.run.mkdir()

    def open(self):
        shards = Shards([(0, SHARDS)])
        metrics = Metrics(self.run, FORWARDER)
        return Writer(DiskFolder(self.spool), DiskFolder(self.written), shards, SHARDS, metrics)

    def append(self, frames, segment=1):
        DiskFolder(self.spool).append(f"{STREAM}-{segment:08d}.spool", b"".join(map(pack, frames)))

    def lines(self):
        """Sequence numbers by file's shard and kind, as they stand in the files."""
        found = {}
        for path in sorted(self.written.glob("*.jsonl")):
            shard, kind = path.name.split(".")[:2]
            numbers = found.setdefault((int(shard), kind), [])
            numbers += [msgspec.json.decode(x)["sequence"] for x in path.read_bytes().splitlines()]
        return found

    def read_by_shipper(self, share=1.0):
        """What Fluent Bit keeps of how far it has read: the table's columns that we look at."""
        with sqlite3.connect(self.written / "tail.db") as database:
            database.execute(
                "CREATE TABLE IF NOT EXISTS in_tail_files (id INTEGER PRIMARY KEY, name TEXT,"
                " offset INTEGER, inode INTEGER, created INTEGER, rotated INTEGER DEFAULT 0)"
            )
            database.execute("DELETE FROM in_tail_files")
            for path in self.written.glob("*.jsonl"):
                row = (str(path), int(path.stat().st_size * share), path.stat().st_ino)
                database.execute(
                    "INSERT INTO in_tail_files (name, offset, inode) VALUES (?, ?, ?)", row
                )
        database.close()


@pytest.fixture
def folders(tmp_path):
    return Folders(tmp_path)


def expected(frames):
    shards = Shards([(0, SHARDS)])
    found = {}
    for frame in frames:
        key = (shards.of(frame.record), lines.KINDS[frame.kind])
        found.setdefault(key, []).append(frame.sequence)
    return found


@pytest.mark.parametrize("kind", [RECORD_BEACON, RECORD_DECISION])
def test_a_line_reads_as_the_record_that_it_was(kind):
    frames = [frame for frame in frames_of(1, 300) if frame.kind == kind]
    converted = convert(chunk(lines.KINDS[kind], map(as_line, frames)))
    assert converted.refused == 0
    records = [frame.record for frame in Frames(converted.frames)]
    assert records == [frame.record for frame in frames]


def test_what_is_no_record_is_sent_on_and_counted():
    line = as_line(Frame(EPOCH, 5, RECORD_BEACON, b"\xc1"))
    converted = convert(chunk("beacon", [line]))
    assert (converted.taken, converted.refused) == (0, 1)


def test_each_frame_is_one_line_of_its_shard(folders):
    frames = list(frames_of(2, 2_000))
    folders.append(frames[:900])
    writer = folders.open()
    writer.step()
    folders.append(frames[900:])
    writer.step()
    assert folders.lines() == expected(frames)


def test_a_kill_at_any_byte_neither_loses_nor_doubles_a_line(folders):
    frames = list(frames_of(3, 400))
    folders.append(frames)
    folders.open().step()
    whole = {path: path.read_bytes() for path in folders.written.glob("*.jsonl")}
    dice = random.Random(3)
    for _ in range(40):
        for path, content in whole.items():  # each file as far as it had come
            cut = dice.randrange(len(content) + 1)
            path.write_bytes(content[:cut])
        folders.open().step()
        assert folders.lines() == expected(frames)


def test_a_file_goes_when_it_is_read_and_no_sooner(folders, monkeypatch):
    monkeypatch.setattr(lines, "FILE_BYTES", 4_096)
    frames = list(frames_of(4, 600))
    writer = folders.open()
    for start in range(0, 600, 100):
        folders.append(frames[start : start + 100])
        writer.step()
    count = len(list(folders.written.glob("*.jsonl")))
    assert count > 2 * SHARDS
    assert writer.sweep() > 0  # nobody reads
    folders.read_by_shipper(share=0.5)
    assert writer.sweep() > 0
    assert folders.lines() == expected(frames)
    folders.read_by_shipper()
    assert writer.sweep() == 0
    # The newest of each stays: it says up to where the stream is written.
    assert len(list(folders.written.glob("*.jsonl"))) == 2 * SHARDS
    folders.open().step()
    assert len(list(folders.written.glob("*.jsonl"))) == 2 * SHARDS


def test_spool_segments_go_once_they_are_written(folders):
    frames = list(frames_of(5, 300))
    folders.append(frames[:200], segment=1)
    folders.append(frames[200:], segment=2)
    writer = folders.open()
    writer.step()
    writer.sweep()
    assert [path.name for path in folders.spool.glob("*.spool")] == [f"{STREAM}-00000002.spool"]


@pytest.mark.process
def test_told_to_end_it_waits_for_the_shipper(folders):
    frames = list(frames_of(6, 500))
    folders.append(frames)
    environ = {k: v for k, v in os.environ.items() if not k.startswith("ADCORE_")} | {
        "ADCORE_SPOOL_DIR": str(folders.spool),
        "ADCORE_LINES_DIR": str(folders.written),
        "ADCORE_AGGREGATORS": "a:24224 b:24224",
        "ADCORE_OPS_PORT": str(free_ports()[0]),
    }
    command = [sys.executable, "-m", "server", "lines"]
    with subprocess.Popen(command, env=environ, stdout=subprocess.DEVNULL) as process:
        while not folders.written.exists() or folders.lines() != expected(frames):
            assert process.poll() is None
        folders.read_by_shipper()
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 0


def test_a_shipper_that_reads_nothing_is_not_waited_for_for_ever(folders, monkeypatch):
    monkeypatch.setattr(lines, "DRAIN_S_MAX", 0.5)
    folders.append(list(frames_of(7, 10)))
    ending = threading.Event()
    ending.set()
    assert folders.open().run(ending) == 1
