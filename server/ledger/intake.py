"""The way into the log: what arrives meanwhile is written as one group, synced once, then answered.

put ─► group ─► write (append, sync) ─► answers go out
"""

from collections.abc import Callable
from typing import NamedTuple

from server.ledger.receiver import Receiver
from server.ledger.wal import Opened, Wal

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
        opened = self._receiver.opened(self._wal_id, now_ms) if self._wal.wants_segment else None
        group = Group(self._bodies, self._answers, opened)
        self._bodies, self._answers, self.waiting_bytes = [], [], 0
        return group

    def write(self, group: Group) -> None:
        """Return when the group is on the disk. After an OSError nothing may be answered."""
        if group.bodies:
            self._wal.append(group.bodies)
            if group.opened is not None:
                self._wal.open_segment(group.opened)
            self._wal.sync()
