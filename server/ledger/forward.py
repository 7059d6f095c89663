"""`adcore forward`: hands the spool to the aggregators, and deletes what they have.

    spool folder ─► a Sender for each aggregator ─► its connection ─► acks ─► segments deleted

A sidecar: it shares nothing with the server but the folder, and keeps nothing of its own. Each
aggregator is served by itself; one that is away holds up what is its own and no other's.
"""

import argparse
import asyncio
import logging
import os
import signal
import ssl
from asyncio import FIRST_COMPLETED
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import partial
from socket import gethostname
from typing import Final

from server import config as settings
from server import logs
from server.clock import monotonic_s, now_s
from server.config import Config
from server.errors import ConfigError, ProtocolError
from server.families import (
    FORWARD_BEHIND,
    FORWARD_LOST,
    FORWARD_WAITING,
    FORWARDED,
    FORWARDER,
    MAIN,
)
from server.ledger.fluent import encode_request
from server.ledger.folder import DiskFolder
from server.ledger.handshake import NONCE_BYTES, ClientEnd
from server.ledger.receiver import Ack, Batch
from server.ledger.sender import Sender, Shards, done_segments, segments_of
from server.metrics import Metrics
from server.ops import Ops
from server.run_folder import open_run_folder

POLL_S: Final = 0.003  # how long a frame lies before it is seen; a look takes 30 us
SWEEP_S: Final = 0.25  # between looks for segments that may go
CONNECT_S_MAX: Final = 2.0
SILENCE_S_MAX: Final = 10.0  # without an ack while something flies: the connection is dead
BACK_OFF_S: Final = (0.05, 2.0)
READ_BYTES: Final = 64 << 10
DRAIN_S_MAX: Final = 15.0  # of a SIGTERM: what the servers wrote last is still handed over

log = logging.getLogger(__name__)


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser("forward", help="hand the spool to the aggregators")
    parser.set_defaults(run=forward)


def forward(_: argparse.Namespace) -> int:
    config = settings.load(os.environ)
    if not config.spool_dir:
        raise ConfigError("ADCORE_SPOOL_DIR: missing; the folder that the server writes to")
    if not config.aggregators:
        raise ConfigError("ADCORE_AGGREGATORS: missing; host:port of each")
    logs.configure(FORWARDER, config.log_level)
    log.info("settings", extra={"settings": config.redacted()})
    with ExitStack() as stack:
        spool = DiskFolder(config.spool_dir)
        if not spool.lock():
            raise ConfigError(f"ADCORE_SPOOL_DIR: {spool.path} has another forwarder")
        run_dir = stack.enter_context(open_run_folder(config.run_dir))
        Metrics(run_dir, MAIN).started(now_s())
        stack.enter_context(Ops(config.ops_host, config.ops_port, run_dir, 0))
        return asyncio.run(Forwarder(config, spool, Metrics(run_dir, FORWARDER)).run())


class Forwarder:
    """One spool, and a link to each aggregator that it goes to."""

    def __init__(self, config: Config, spool: DiskFolder, metrics: Metrics) -> None:
        epochs = [
            (since_s, addresses)
            for since_s, addresses in settings.shard_epochs(config.aggregators)
            if addresses
        ]
        shards = Shards((since_s, len(addresses)) for since_s, addresses in epochs)
        # A shard's aggregator is where the newest list has it.
        addresses = dict(pair for _, listed in epochs for pair in enumerate(listed))
        self._spool = spool
        self._metrics = metrics
        self._links = [
            Link(config, address, Sender(spool, partial(_belongs, shards, shard)), metrics)
            for shard, address in sorted(addresses.items())
        ]

    async def run(self) -> int:
        """Forward until told to end and all is handed over, or DRAIN_S_MAX later."""
        loop = asyncio.get_running_loop()
        ending = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, ending.set)
        tasks = [asyncio.create_task(link.run(self._spooled)) for link in self._links]
        sweeping = asyncio.create_task(self._sweep())
        told = asyncio.create_task(ending.wait())
        done, _ = await asyncio.wait({told, sweeping, *tasks}, return_when=FIRST_COMPLETED)
        handed_over = told in done and await self._drain()
        for task in (told, sweeping, *tasks):
            task.cancel()
        await asyncio.gather(told, sweeping, *tasks, return_exceptions=True)
        for task in done - {told}:  # none of the others ends by itself
            task.result()
        if not handed_over:
            log.error("not all of the spool was handed over")
        return 0 if handed_over else 1

    def _spooled(self) -> dict[str, list[str]]:
        return segments_of(self._spool.names())

    async def _drain(self) -> bool:
        deadline_s = monotonic_s() + DRAIN_S_MAX
        # Two looks: a frame may have been written between a link's last one and now.
        await asyncio.sleep(2 * POLL_S)
        while not all(link.sender.is_idle for link in self._links):
            if monotonic_s() > deadline_s:
                return False
            await asyncio.sleep(POLL_S)
        return True

    async def _sweep(self) -> None:
        while True:
            spooled = self._spooled()
            for name in done_segments(spooled, [link.sender for link in self._links]):
                self._spool.remove(name)
            self._tell()
            await asyncio.sleep(SWEEP_S)

    def _tell(self) -> None:
        slots = self._metrics.slots
        spooled = self._spooled()  # once more: some have just gone
        behind = [link.behind_s() for link in self._links]
        slots[FORWARD_BEHIND.start] = int(max(behind))
        slots[FORWARD_LOST.start] = max(link.sender.lost_frames for link in self._links)
        sizes = [self._spool.size(name) for names in spooled.values() for name in names]
        slots[FORWARD_WAITING.start] = sum(sizes) if any(behind) else 0


def _belongs(shards: Shards, shard: int, record: bytes) -> bool:
    return shards.of(record) == shard


class Link:
    """One aggregator: connected again and again, polled for, listened to."""

    def __init__(
        self, config: Config, address: tuple[str, int], sender: Sender, metrics: Metrics
    ) -> None:
        self.sender = sender
        self._address = address
        self._key = config.ledger_key.encode()
        self._tls = _tls(config)
        self._slots = metrics.slots
        self._idle_s = self._heard_s = monotonic_s()
        self._is_up: bool | None = None
        self._pause_s = BACK_OFF_S[0]

    def behind_s(self) -> float:
        """For how long something has waited here."""
        if self.sender.is_idle:
            self._idle_s = monotonic_s()
        return monotonic_s() - self._idle_s

    async def run(self, spooled: Callable[[], dict[str, list[str]]]) -> None:
        while True:
            try:
                async with asyncio.timeout(CONNECT_S_MAX):
                    reader, writer = await asyncio.open_connection(*self._address, ssl=self._tls)
                await self._talk(reader, writer, spooled)
                detail = "closed by the aggregator"
            except (OSError, TimeoutError, ProtocolError) as error:
                detail = str(error) or type(error).__name__
            if self._is_up is not False:
                log.warning("not connected", extra={"aggregator": self._name, "detail": detail})
            self._is_up = False
            self._slots[FORWARDED.slot("restarted")] += 1
            self.sender.lost()
            await asyncio.sleep(self._pause_s)
            self._pause_s = min(2 * self._pause_s, BACK_OFF_S[1])

    def _heard(self) -> None:
        """An aggregator that answers is one that took our key, too."""
        self._heard_s = monotonic_s()
        self._pause_s = BACK_OFF_S[0]
        if not self._is_up:
            log.info("connected", extra={"aggregator": self._name})
            self._is_up = True

    @property
    def _name(self) -> str:
        return f"{self._address[0]}:{self._address[1]}"

    async def _talk(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        spooled: Callable[[], dict[str, list[str]]],
    ) -> None:
        end = ClientEnd(self._key, f"forward.{gethostname()}", os.urandom(NONCE_BYTES))
        self._heard_s = monotonic_s()
        listening = asyncio.create_task(self._listen(reader, writer, end))
        try:
            while not listening.done():
                if end.is_open:
                    for message in self.sender.poll(spooled()):
                        writer.write(encode_request(message))
                        self._slots[FORWARDED.slot("sent")] += isinstance(message, Batch)
                    # A peer that takes nothing more tells so by nothing else.
                    async with asyncio.timeout(SILENCE_S_MAX):
                        await writer.drain()
                if self.sender.is_idle:
                    self._heard_s = monotonic_s()
                elif monotonic_s() - self._heard_s > SILENCE_S_MAX:
                    raise TimeoutError("no ack")
                await asyncio.sleep(POLL_S)
            listening.result()
        finally:
            listening.cancel()
            with suppress(Exception, asyncio.CancelledError):
                await listening
            writer.close()

    async def _listen(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, end: ClientEnd
    ) -> None:
        while data := await reader.read(READ_BYTES):
            for reply in end.feed(data):
                self._heard()
                self.sender.told(reply)
                self._slots[FORWARDED.slot("acked")] += isinstance(reply, Ack)
            writer.write(end.outgoing())


def _tls(config: Config) -> ssl.SSLContext | None:
    if not config.ledger_tls_ca_file:
        return None
    return ssl.create_default_context(cafile=config.ledger_tls_ca_file)
