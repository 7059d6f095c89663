"""What a forwarder sends again, what it passes over, and that nothing stops it in silence."""

import asyncio
import socket
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest

from server.config import Config
from server.delivery.spool import Spool
from server.events.records import Beacon
from server.families import FORWARDER
from server.ledger import forward, sender
from server.ledger.fluent import encode_reply
from server.ledger.folder import DiskFolder
from server.ledger.forward import Forwarder
from server.ledger.handshake import NONCE_BYTES, ServerEnd
from server.ledger.receiver import Ack, Batch, Receiver, Watermark
from server.ledger.sender import BATCH_BYTES, Query, Sender, segments_of
from server.metrics import Metrics

RECORD = msgspec.msgpack.encode(
    Beacon(1, 0, 1, 1, bytes(16), 1, 1, 1, bytes(8), 0, 1, 0, 0, "", "x" * 200)
)
SOON_S = 20.0


def write(folder: Path, count: int, producer: str = "w1", segment_bytes_max: int = 16 << 20) -> str:
    """Write one stream of so many frames; its name."""
    spool = Spool(folder, producer, now_s=1, bytes_max=1 << 30, segment_bytes_max=segment_bytes_max)
    for _ in range(count):
        spool.append(RECORD, billable=True)
    spool.close()
    return f"{producer}-{spool.epoch:016x}"


class CountingFolder(DiskFolder):
    read_bytes = 0

    def read(self, name: str, offset: int = 0, length: int = -1) -> bytes:
        content = super().read(name, offset, length)
        self.read_bytes += len(content)
        return content


def everything(sending: Sender, folder: DiskFolder) -> list[Query | Batch]:
    return list(sending.poll(segments_of(folder.names())))


# -- a sender


def test_a_sender_reads_nothing_twice_when_an_ack_went_missing(tmp_path):
    stream = write(tmp_path, 5000)
    folder = CountingFolder(tmp_path)
    sending = Sender(folder, lambda _: True)
    assert everything(sending, folder) == [Query(stream)]
    sending.told(Watermark(stream, 0))
    batches = [each for each in everything(sending, folder) if isinstance(each, Batch)]
    sending.told(Ack(stream, batches[0].last))
    sending.lost()
    folder.read_bytes = 0
    everything(sending, folder)
    sending.told(Watermark(stream, batches[-2].last))  # their acks were on the way
    (again,) = everything(sending, folder)[:1]
    assert isinstance(again, Batch)
    assert (again.previous, again.last) == (batches[-2].last, batches[-1].last)
    behind = (len(RECORD) + 25) * (5000 - batches[-2].last)
    assert folder.read_bytes <= 3 * behind + sender.READ_BYTES


def test_a_sender_passes_a_hole_of_zeros_at_once(tmp_path):
    """As a machine's crash leaves one: the file's length was on the disk, its content not."""
    stream = write(tmp_path, 10)
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    frame_bytes = len(whole) // 10
    path.write_bytes(whole[: 5 * frame_bytes] + bytes(16 << 20) + whole[6 * frame_bytes :])
    write(tmp_path, 1)  # the stream has ended
    folder = DiskFolder(tmp_path)
    sending = Sender(folder, lambda _: True)
    everything(sending, folder)
    sending.told(Watermark(stream, 0))
    started_s = time.process_time()
    batches = [each for each in everything(sending, folder) if isinstance(each, Batch)]
    assert time.process_time() - started_s < 2
    assert batches[-1].last == 10
    assert sum(len(batch.frames) for batch in batches) == 9 * frame_bytes
    assert sending.lost_frames == 1


def test_a_sender_that_has_much_to_pass_over_lets_others_have_a_turn(tmp_path):
    stream = write(tmp_path, 60_000)
    folder = CountingFolder(tmp_path)
    sending = Sender(folder, lambda _: True)
    everything(sending, folder)
    sending.told(Watermark(stream, 59_999))
    folder.read_bytes = 0
    assert everything(sending, folder) == []
    assert not sending.is_idle
    assert folder.read_bytes <= 2 * sender.SCAN_BYTES_MAX
    turns = 1
    while not (found := everything(sending, folder)):
        turns += 1
        assert turns < 100
    assert [each.last for each in found if isinstance(each, Batch)] == [60_000]


# -- the process around it

Check = Callable[["FakeAggregator"], Coroutine[Any, Any, None]]


class FakeAggregator:
    """Takes all and acks it, or, when `deaf`, answers questions and then reads no more."""

    def __init__(self) -> None:
        self.deaf = False
        self.connections = self.taken = 0
        self._receiver = Receiver(None)
        self._tasks: set[asyncio.Task[None] | None] = set()

    def end(self) -> None:
        for task in self._tasks:
            if task is not None:
                task.cancel()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._tasks.add(asyncio.current_task())
        try:
            await self._talk(reader, writer)
        finally:
            writer.transport.abort()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        end = ServerEnd(b"", "aggregate.test", bytes(range(NONCE_BYTES)))
        writer.write(end.outgoing())
        with suppress(OSError):
            while data := await reader.read(64 << 10):
                for request in end.feed(data):
                    if isinstance(request, Query):
                        reply: Ack | Watermark = self._receiver.watermark(request.stream)
                    else:
                        assert isinstance(request, Batch)
                        reply, body = self._receiver.take(request, 1)
                        self.taken += body is not None
                    if isinstance(request, Query) or not self.deaf:
                        writer.write(encode_reply(reply))
                if self.deaf:
                    reader._transport.pause_reading()  # type: ignore[attr-defined]
                    await asyncio.sleep(SOON_S)


def drive(
    spool: Path, run_dir: Path, check: Callable[[FakeAggregator], Coroutine[Any, Any, None]]
) -> None:
    """Run a forwarder and a fake aggregator for as long as `check` takes."""

    async def all_of_it() -> None:
        aggregator = FakeAggregator()
        listener = socket.create_server(("127.0.0.1", 0))
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        server = await asyncio.start_server(aggregator.serve, sock=listener)
        config = Config(
            spool_dir=str(spool), aggregators=(f"127.0.0.1:{listener.getsockname()[1]}",)
        )
        forwarder = Forwarder(config, DiskFolder(spool), Metrics(run_dir, FORWARDER))
        forwarding = asyncio.create_task(forwarder.run())
        checking = asyncio.create_task(check(aggregator))
        try:
            await asyncio.wait(
                {forwarding, checking}, timeout=SOON_S, return_when=asyncio.FIRST_COMPLETED
            )
            assert checking.done(), "it took too long, or the forwarder ended"
            checking.result()
        finally:
            forwarding.cancel()
            checking.cancel()
            await asyncio.gather(forwarding, checking, return_exceptions=True)
            server.close()
            aggregator.end()
            await asyncio.sleep(0.05)

    asyncio.run(all_of_it())


async def until(condition: Callable[[], object]) -> None:
    while not condition():  # noqa: ASYNC110 - it waits for files and for another's counts
        await asyncio.sleep(0.01)


def test_segments_go_when_they_are_acked_and_so_do_later_ones(tmp_path, monkeypatch):
    monkeypatch.setattr(forward, "SWEEP_S", 0.01)
    spool = tmp_path / "spool"

    async def check(_: FakeAggregator) -> None:
        for _ in range(3):
            write(spool, 1000, segment_bytes_max=BATCH_BYTES)
            await until(lambda: len(list(spool.glob("*.spool"))) == 1)

    drive(spool, tmp_path, check)


def test_a_peer_that_takes_nothing_more_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(forward, "SILENCE_S_MAX", 0.3)
    spool = tmp_path / "spool"
    for number in range(12):  # more than the kernel's buffers hold
        write(spool, 4000, f"w{number}")

    async def check(aggregator: FakeAggregator) -> None:
        aggregator.deaf = True
        await until(lambda: aggregator.connections >= 2)
        aggregator.deaf = False
        await until(lambda: aggregator.taken > 12)

    drive(spool, tmp_path, check)


def test_a_forwarder_ends_with_what_stops_a_part_of_it(tmp_path, monkeypatch):
    """Half a forwarder would look healthy and fill the disk."""
    config = Config(spool_dir=str(tmp_path), aggregators=("127.0.0.1:1",))
    forwarder = Forwarder(config, DiskFolder(tmp_path), Metrics(tmp_path, FORWARDER))

    def broken(*_: object) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr(forward, "done_segments", broken)
    with pytest.raises(RuntimeError, match="broken"):
        asyncio.run(asyncio.wait_for(forwarder.run(), SOON_S))
