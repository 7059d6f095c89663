"""The way into the log: what arrives meanwhile is written as one group, synced once, then answered.

put ─► group ─► write (append, sync) ─► answers go out
"""

from collections.abc import Callable
from typing import Final, NamedTuple

from server.ledger.receiver import Receiver
from server.ledger.wal import Opened, Wal

# A quiet log closes a segment hourly, so that the archive is not behind by days.
SEGMENT_MS_MAX: Final = 3_600_000

Answer = Callable[[], None]


class Group(NamedTuple):
    bodies: list[bytes]
    answers: list[Answer]
    opened: Opened | None  # begin a segment behind these bodies


class Intake:
    """Owns the log. `put` and `swap` belong to one thread, `write` may run in another."""

    def __init__(self, wal: Wal, receiver: Receiver, wal_id: str, now_ms: int) -> None:
        self.waiting_bytes = 0
        self._wal = wal
        self._receiver = receiver
        self._wal_id = wal_id
        self._bodies: list[bytes] = []
        self._answers: list[Answer] = []
        self._opened_ms = now_ms
        if wal.is_new:
            wal.open_segment(receiver.opened(wal_id, now_ms))
            wal.sync()

    @property
    def is_empty(self) -> bool:
        return not self._answers

    def put(self, body: bytes | None, answer: Answer) -> None:
        """Have `answer` called once `body`, and all that was put before it, is on the disk."""
        if body is not None:
            self._bodies.append(body)
            self.waiting_bytes += len(body)
        self._answers.append(answer)

    def swap(self, now_ms: int) -> Group:
        """Close the group, and begin another one."""
        # The receiver knows every batch up to this group's last one, and no more. A segment may say
        # so only behind them: said before, a crash between the two would lose what it calls taken.
        opened = None
        if self._bodies and self._wants_segment(now_ms):
            opened = self._receiver.opened(self._wal_id, now_ms)
            self._opened_ms = now_ms
        group = Group(self._bodies, self._answers, opened)
        self._bodies, self._answers, self.waiting_bytes = [], [], 0
        return group

    def _wants_segment(self, now_ms: int) -> bool:
        return self._wal.wants_segment or now_ms - self._opened_ms >= SEGMENT_MS_MAX

    def write(self, group: Group) -> None:
        """Return when the group is on the disk. After an OSError nothing may be answered."""
        if group.bodies:
            self._wal.append(group.bodies)
            if group.opened is not None:
                self._wal.open_segment(group.opened)
            self._wal.sync()
