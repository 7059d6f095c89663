"""`adcore aggregate`: takes what forwarders and stock shippers send, and acks what is on the disk.

    connection ─ protocol ─► receiver ─► intake ═ a group, synced ═► acks

One asyncio loop reads; one thread writes. Counting is another process's work (`count`), which reads
the log that this one writes. A fault of the disk ends the process: what it had not acked is sent
again, and what is true stands in the log.
"""

import argparse
import asyncio
import logging
import os
import signal
import ssl
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from math import inf
from pathlib import Path
from socket import gethostname
from typing import Final

from server import config as settings
from server import logs
from server.clock import monotonic_s, now_ms, now_s, perf_ns
from server.config import Config
from server.errors import ConfigError, ProtocolError
from server.families import (
    COUNTER,
    INTAKE,
    INTAKE_STRAY,
    INTAKER,
    LOG_DURABLE,
    LOG_SYNC_SECONDS,
    MAIN,
)
from server.kept_process import KeptProcess
from server.ledger import wal
from server.ledger.fluent import Chunk, encode_chunk_ack, encode_reply
from server.ledger.folder import DiskFolder
from server.ledger.forward import DRAIN_S_MAX, POLL_S
from server.ledger.handshake import NONCE_BYTES, ServerEnd
from server.ledger.housekeeping import Housekeeping
from server.ledger.intake import Intake
from server.ledger.receiver import Ack, Batch, Receiver, Watermark
from server.ledger.sender import Query, Sender, done_segments, segments_of
from server.ledger.stock import convert
from server.ledger.wal import Ticked, encode
from server.metrics import Metrics
from server.ops import Ops
from server.run_folder import open_run_folder

READ_BYTES: Final = 256 << 10
WAITING_BYTES_MAX: Final = 16 << 20  # taken and not yet on the disk: beyond it, nobody is read from
SILENCE_S_MAX: Final = 300.0  # a forwarder asks again within seconds; this one is gone
CONNECTIONS_MAX: Final = 4096
# A quiet log still tells the time: to what waits in the counter, and to who waits for the end of a
# window. Half of one, so that a window closes as soon after its time as under traffic.
TICK_S: Final = 5.0
EXIT_DISK: Final = 1

log = logging.getLogger(__name__)


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser("aggregate", help="take billable events, and count them in Redis")
    parser.set_defaults(run=aggregate)


def aggregate(_: argparse.Namespace) -> int:
    """Run until a signal (0), or until the disk or the log is not what it must be (1)."""
    config = settings.load(os.environ)
    if not config.ledger_dir:
        raise ConfigError("ADCORE_LEDGER_DIR: missing; the log's folder, on a disk that lasts")
    logs.configure(INTAKER, config.log_level)
    log.info("settings", extra={"settings": config.redacted()})
    with ExitStack() as stack:
        folder = Path(config.ledger_dir)
        lock = DiskFolder(folder)
        if not lock.lock():
            raise ConfigError(f"ADCORE_LEDGER_DIR: {folder} is in use by another aggregator")
        run_dir = stack.enter_context(open_run_folder(config.run_dir))
        Metrics(run_dir, MAIN).started(now_s())
        metrics = Metrics(run_dir, INTAKER)
        aggregator = Aggregator(config, DiskFolder(folder / "wal"), metrics)
        stack.enter_context(Ops(config.ops_host, config.ops_port, run_dir, 0))
        command = ["count", "--run-dir", str(run_dir), "--parent", str(os.getpid())]
        stack.enter_context(KeptProcess(command, partial(metrics.restarted, COUNTER)))
        chores = ("archive", "reconcile") if config.archive_url else ("reconcile",)
        stack.enter_context(Housekeeping(chores, metrics))
        return asyncio.run(aggregator.run())


class Aggregator:
    """The receiving side of one shard, on one event loop."""

    def __init__(self, config: Config, folder: DiskFolder, metrics: Metrics) -> None:
        recovered = wal.recover(folder)
        self._receiver = Receiver(recovered.opened)
        for record in recovered.records:
            self._receiver.restore(wal.decode(record.body))
        wal_id = wal.log_id(folder) if recovered.opened else uuid.uuid4().hex
        self._wal = recovered.wal
        self._intake = Intake(self._wal, self._receiver, wal_id, now_ms())
        if recovered.cut_bytes:
            log.warning("cut a torn end off the log", extra={"bytes": recovered.cut_bytes})
        self._config = config
        self._metrics = metrics
        self._writer = ThreadPoolExecutor(1, "log")
        self._wanted = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._ending = False
        self._connections: set[asyncio.Task[None]] = set()
        self._result: dict[str, int] = {
            result: INTAKE.slot(result) for result in INTAKE.labels["result"]
        }

    async def run(self) -> int:
        """Serve until SIGTERM or SIGINT; what was taken by then is written and acked."""
        loop = asyncio.get_running_loop()
        ending = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, ending.set)
        committing = asyncio.create_task(self._commit())
        ticking = asyncio.create_task(self._tick())
        tailing = asyncio.create_task(self._tail(ending))
        server = await asyncio.start_server(
            self._accept,
            self._config.aggregate_host,
            self._config.aggregate_port,
            limit=READ_BYTES,
            ssl=_tls(self._config),
        )
        log.info("aggregating", extra={"shard": self._config.shard, "lsn": self._wal.end})
        await asyncio.wait({committing, tailing}, return_when=asyncio.FIRST_COMPLETED)
        server.close()
        ticking.cancel()
        for connection in self._connections:
            connection.cancel()
        if committing.done():  # the disk
            tailing.cancel()
        self._ending = True
        self._wanted.set()
        written = await committing
        if written:
            tailing.result()  # it ended as told, or raises what ended it
        return 0 if written else EXIT_DISK

    async def _tail(self, ending: asyncio.Event) -> None:
        """Read the spool of this very machine, if there is one; return when told to end."""
        if not self._config.spool_dir:
            await ending.wait()
            return
        spool = DiskFolder(self._config.spool_dir)
        if not spool.lock():
            raise ConfigError(f"ADCORE_SPOOL_DIR: {spool.path} has another forwarder")
        sender = Sender(spool, lambda _: True)
        deadline_s = inf
        while not (ending.is_set() and (sender.is_idle or monotonic_s() > deadline_s)):
            if ending.is_set():
                deadline_s = min(deadline_s, monotonic_s() + DRAIN_S_MAX)
            spooled = segments_of(spool.names())
            for message in sender.poll(spooled):
                self.take(message, sender.told)
            for name in done_segments(spooled, [sender]):
                spool.remove(name)
            await asyncio.sleep(POLL_S)

    # -- a connection

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        if len(self._connections) >= CONNECTIONS_MAX:
            writer.close()
            return
        self._connections.add(task)
        try:
            await self._serve(reader, writer)
        except ProtocolError as error:
            self._count("refused")
            peer = writer.get_extra_info("peername")
            log.warning("hung up", extra={"peer": str(peer), "detail": str(error)})
        except (OSError, TimeoutError, asyncio.CancelledError):
            pass  # gone, silent, or we are going
        finally:
            self._connections.discard(task)
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # The two ends never share a name: a digest sent back to its maker is no proof.
        name = f"aggregate.{gethostname()}"
        end = ServerEnd(self._config.ledger_key.encode(), name, os.urandom(NONCE_BYTES))
        writer.write(end.outgoing())
        while data := await asyncio.wait_for(reader.read(READ_BYTES), SILENCE_S_MAX):
            try:
                for request in end.feed(data):
                    self._take(request, writer)
            finally:
                if greeting := end.outgoing():
                    writer.write(greeting)
            await writer.drain()
            await self._room.wait()

    def _take(self, request: Query | Batch | Chunk, writer: asyncio.StreamWriter) -> None:
        if isinstance(request, Chunk):
            self._take_chunk(request, writer)
        else:
            self.take(request, lambda reply: self._answer(writer, encode_reply(reply)))

    def take(self, request: Query | Batch, tell: Callable[[Ack | Watermark], None]) -> None:
        """Take a forwarder's request; `tell` is called with the reply once that is true."""
        if isinstance(request, Query):
            # Where a stream stands means as much as an ack, so it waits like one.
            self._put(None, partial(tell, self._receiver.watermark(request.stream)))
            return
        try:
            reply, body = self._receiver.take(request, now_ms())
        except ValueError as error:
            raise ProtocolError("shape", str(error)) from None
        self._count("taken" if body else "repeated" if isinstance(reply, Ack) else "gap")
        self._put(body, partial(tell, reply))

    def _take_chunk(self, chunk: Chunk, writer: asyncio.StreamWriter) -> None:
        converted = convert(chunk)
        if converted.refused:
            self._metrics.slots[INTAKE_STRAY.slot(converted.reason)] += converted.refused
        # A chunk of nothing is remembered too: its sender waits for an ack, and may repeat it.
        body = self._receiver.take_chunk(chunk.chunk, converted.frames, now_ms())
        self._count("taken" if body else "repeated")
        ack = encode_chunk_ack(chunk.chunk) if chunk.chunk else b""
        self._put(body, partial(self._answer, writer, ack))

    def _put(self, body: bytes | None, answer: Callable[[], None]) -> None:
        self._intake.put(body, answer)
        self._wanted.set()
        if self._intake.waiting_bytes > WAITING_BYTES_MAX:
            self._room.clear()

    def _answer(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        if not writer.is_closing():
            writer.write(data)

    def _count(self, result: str) -> None:
        self._metrics.slots[self._result[result]] += 1

    # -- the log

    async def _commit(self) -> bool:
        """Write group after group until told to end; False when the disk failed."""
        loop = asyncio.get_running_loop()
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            group = self._intake.swap(now_ms())
            self._room.set()
            started_ns = perf_ns()
            try:
                await loop.run_in_executor(self._writer, self._intake.write, group)
            except OSError as error:
                # Nobody knows what the disk has. Ack nothing more, and find out at the next start.
                log.critical("the log's disk fails", extra={"detail": str(error)})
                return False
            self._metrics.observe(LOG_SYNC_SECONDS, perf_ns() - started_ns)
            self._metrics.slots[LOG_DURABLE.start] = self._wal.durable
            for answer in group.answers:
                answer()
            if self._ending and self._intake.is_empty:
                return True

    async def _tick(self) -> None:
        """Write the time at the start, and whenever nothing has been written for a while."""
        written = asyncio.Event()
        while True:
            self._put(encode(Ticked(now_ms())), written.set)
            await written.wait()
            written.clear()
            end = -1
            while end != self._wal.end:
                end = self._wal.end
                await asyncio.sleep(TICK_S)


def _tls(config: Config) -> ssl.SSLContext | None:
    if not config.ledger_tls_cert_file:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(config.ledger_tls_cert_file, config.ledger_tls_key_file or None)
    return context
