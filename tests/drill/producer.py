"""A process that writes events into the pods' spools, as a server's worker does, only faster.

python -m tests.drill.producer NAME SEED RATE EVENTS JOURNAL SPOOL...

It stops after EVENTS or at SIGTERM, prints what it did as JSON, and leaves its journal of truth. An
ad's events may go to another pod's spool than its impression, as they do behind a load balancer.
"""

import hashlib
import json
import os
import random
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from server.delivery.spool import Spool
from server.errors import SpoolError
from server.events.records import RATE_SHIFT, RECORD_BEACON, RECORD_DECISION, Beacon
from server.events.records import Answered as Line
from server.events.records import Decision as DecisionLog
from server.lifeline import die_with
from tests.drill import truth
from tests.drill.truth import Journal, Row

BATCH: Final = 64  # rows between two looks at the clock
# Small beside the server's own, so that a full spool is ours alone: the server must not refuse.
SPOOL_BYTES_MAX: Final = 400 << 20
LINES: Final = 40
SITES: Final = 5
HOURS: Final = 3
ENCODE: Final = msgspec.msgpack.Encoder().encode


class Rows:
    """Events without end, by a seed: ads, each with what comes of it."""

    def __init__(self, name: str, seed: int) -> None:
        self._dice = random.Random(f"{name} {seed}")
        self._head = hashlib.sha256(f"{name} {seed}".encode()).digest()[:4]
        self._number = 0
        self._later: list[Row] = []  # what comes of earlier ads

    def __iter__(self) -> Iterator[Row]:
        while True:
            yield from self._ad(self._dice)
            while len(self._later) > 256:
                yield self._later.pop(self._dice.randrange(len(self._later)))

    def rest(self) -> list[Row]:
        """What has not come yet of ads that were."""
        return self._later

    def _ad(self, dice: random.Random) -> Iterator[Row]:
        self._number += 1
        # Tokens' ids are random in their heads, and the shard goes by that.
        id = hashlib.sha256(self._head + self._number.to_bytes(8, "big")).digest()[:16]
        line, site = 1 + dice.randrange(LINES), dice.randrange(SITES)
        issued_s = int(time.time()) - 60 - 3600 * dice.randrange(HOURS)
        shown = Row(id, truth.IMPRESSION, 0, 0, line % 4, line, 1000 + line, site, issued_s, line)
        chance = dice.random()
        if chance < 0.01:
            yield shown._replace(kind=truth.DECISION, extra=1 + dice.randrange(16))
        elif chance < 0.02:
            yield shown._replace(outcome=1 + dice.randrange(4))
        elif chance < 0.021:
            yield Row(id, truth.UNREADABLE, 0, 0, 0, 0, 0, 0, issued_s, 0)
        yield shown
        if chance > 0.90:
            self._later.append(shown._replace(kind=truth.CLICK))
        if chance > 0.98:
            self._later.append(shown._replace(kind=truth.CLICK))
            self._later.append(shown)
        if chance > 0.97:
            order = dice.randrange(3)
            self._later += [shown._replace(kind=truth.CONVERSION, event=7, extra=order)] * 2
        if chance > 0.85:
            self._later.append(shown._replace(kind=truth.EVENT, event=truth.VIEWABLE))
        if 0.5 < chance < 0.55:
            self._later.append(shown._replace(kind=truth.EVENT, event=3))


def record_of(row: Row) -> tuple[bytes, int]:
    """The bytes that a server would write for the row, and their kind."""
    received_s = row.issued_s + 30
    if row.kind == truth.UNREADABLE:
        return b"\xc1" + row.id, RECORD_BEACON
    if row.kind == truth.DECISION:
        answers = [Line(row.site, row.line, row.creative)]
        decision = DecisionLog(0, 0, received_s, row.issued_s, row.id, row.extra, 1, answers)
        return ENCODE(decision), RECORD_DECISION
    beacon = Beacon(
        row.kind,
        row.outcome,
        received_s,
        row.issued_s,
        row.id,
        row.line,
        row.creative,
        row.site,
        b"\0" * 8,
        0,
        row.price_micros,
        row.event,
        row.rate << RATE_SHIFT,
        "",
        # No two clicks from one browser: that is a rule of its own.
        f"Mozilla/5.0 (X11; Linux x86_64; rv:150.0) Gecko/20100101 drill/{row.id.hex()}",
    )
    if row.kind == truth.CONVERSION:
        beacon = msgspec.structs.replace(
            beacon, value_micros=row.extra, order=b"%d" % row.extra, view_lookback_s=86_400
        )
    return ENCODE(beacon), RECORD_BEACON


class Producer:
    def __init__(self, name: str, journal: Path, folders: list[str]) -> None:
        self._journal = Journal(journal)
        self._spools = [
            Spool(folder, name, now_s=int(time.time()), bytes_max=SPOOL_BYTES_MAX)
            for folder in folders
        ]
        self._lost_ads: set[bytes] = set()  # whose impression was refused
        self.refused = 0
        self.stopped = False

    def run(self, rows: Rows, rate: float, count: int) -> None:
        source = iter(rows)
        start_s = time.monotonic()
        while self._journal.count < count and not self.stopped:
            self._write([next(source) for _ in range(BATCH)])
            ahead_s = self._journal.count / rate - (time.monotonic() - start_s) if rate else 0
            if ahead_s > 0:
                time.sleep(ahead_s)
            elif ahead_s < -1:
                start_s -= ahead_s  # stopped for a while: no burst to make up for it
        self._write(rows.rest())

    def _write(self, rows: list[Row]) -> None:
        rows = [row for row in rows if row.id not in self._lost_ads]
        self._journal.intend(rows)
        for row in rows:
            if row.id in self._lost_ads:  # within this batch
                self._journal.failed()
                continue
            record, kind = record_of(row)
            spool = self._spools[self._pod(row)]
            try:
                spool.append(record, billable=kind == RECORD_BEACON, kind=kind)
            except SpoolError:
                self.refused += 1
                self._journal.failed()
                if row.kind == truth.IMPRESSION and not row.outcome:
                    self._lost_ads.add(row.id)
            else:
                self._journal.sent()

    def _pod(self, row: Row) -> int:
        """A click goes to another pod than its impression, unless it is too old to wait."""
        elsewhere = row.kind == truth.CLICK and time.time() - row.issued_s < 120
        return (row.id[0] + elsewhere) % len(self._spools)


def main(name: str, seed: str, rate: str, count: str, journal: str, *folders: str) -> None:
    producer = Producer(name, Path(journal), list(folders))

    def stop(*_: object) -> None:
        producer.stopped = True

    signal.signal(signal.SIGTERM, stop)
    start_s = time.monotonic()
    producer.run(Rows(name, int(seed)), float(rate), int(count))
    seconds = time.monotonic() - start_s
    written = producer._journal.count - producer.refused
    print(json.dumps({"written": written, "refused": producer.refused, "seconds": seconds}))


if __name__ == "__main__":
    die_with(os.getppid())
    main(*sys.argv[1:])
