"""Each guard of the ledger, by name: taken out, the simulator or a scenario fails.

What is compiled can't be changed while it runs. There the oracle loses the rule instead: the
simulator compares the two for equality, so a counter without a rule that the oracle has shows as
surely as a counter with one that the oracle lacks.
"""

import pytest

from server.events.frames import Frames
from server.events.records import Kind
from server.ledger import checkpoints, counter, wal
from server.ledger.applier import Applier
from server.ledger.intake import Intake
from server.ledger.receiver import Receiver
from server.ledger.sender import _Stream
from tests.guards import simulate, without
from tests.sim.oracle import Oracle
from tests.sim.world import World

SYNCED = "    self._wal.sync()\n"

SIMULATED = {
    # -- what is sent once is taken once, and nothing is left out
    "sequence numbers": without(
        Receiver.take,
        ("batch.last <= here.last", "False"),
        ("batch.previous != here.last", "False"),
        ("walk(batch.frames, batch.previous) != batch.last", "False"),
    ),
    "the repeat drop": without(Receiver.take, ("batch.last <= here.last", "False")),
    "the gap check": without(Receiver.take, ("batch.previous != here.last", "False")),
    "a spool frame's CRC": without(Frames.__iter__, ("_crc(body) != crc", "False")),
    "an unread end is not done": without(
        _Stream.next_batch, ("BEYOND_ALL if ended else segments[-1]", "BEYOND_ALL")
    ),
    "what flies is not done": without(_Stream.done_before, ("if self._flying:", "if False:")),
    # -- what was acked is on the disk
    "an ack after the sync": without(Intake.write, ("self._wal.sync()", "pass")),
    "a Query's answer after the sync": without(
        World._take,
        (
            "shard.intake.put(body, partial(self.network.append, answer))",
            "shard.intake.put(body, partial(self.network.append, answer)) "
            "if isinstance(message, Batch) else self.network.append(answer)",
        ),
    ),
    "Opened says what lies before it": without(
        Intake.write,
        ("self._wal.append(group.bodies)\n", "\n"),
        ("self._wal.sync()", "self._wal.append(group.bodies); self._wal.sync()"),
    ),
    "a log record's CRC": without(
        wal._whole, ("crc32c(body, crc32c(head[_CRC_FROM:], crc32c(head[:4]))) != crc", "False")
    ),
    "what was certain must be there": without(wal._refuse_lost, ("end < certain", "False")),
    # -- what is counted is counted once
    "a checkpoint's CRC": without(
        checkpoints._read, ('crc32c(content).to_bytes(_CRC_BYTES, "big") != crc', "False")
    ),
    "no rewind to beyond the cursor": without(checkpoints.newest, ("lsn <= until", "True")),
    "no end_saving of a replaced counter": without(
        Applier.end_saving, ("saving.counter is not self._counter", "False")
    ),
    # -- what is valid
    "the impression's window": lambda patch: patch.setitem(
        counter._WINDOWS_S, Kind.IMPRESSION, 10**9
    ),
    "the click's window": lambda patch: patch.setitem(counter._WINDOWS_S, Kind.CLICK, 10**9),
    "the clock's skew": lambda patch: patch.setattr(counter, "SKEW_S", 10**9),
    "an impression counts once": without(
        Oracle.why_not, ('return "duplicate" if known else ""', 'return ""')
    ),
    "a click counts once": without(
        Oracle.why_not, ('("click", beacon.id) in self.taken', "False")
    ),
    "a click waits for its impression": without(
        Oracle.why_not, ("not known and not (beacon.kind == 4 and clicked)", "False")
    ),
    "nothing waits for ever": lambda patch: patch.setattr(counter, "HELD_S", 10**9),
    "the second half of a double click": without(
        Oracle._click, ('return "double_click"', "pass")
    ),
    "a crowd's clicks": without(Oracle._click, ("len(beside) > CLICKS_A_MINUTE_MAX", "False")),
    "a bound on what waits": without(Oracle.why_not, ("len(self.held) < HELD_MAX", "True")),
}  # fmt: skip


@pytest.mark.parametrize("guard", SIMULATED)
def test_the_simulator_misses(guard, monkeypatch):
    SIMULATED[guard](monkeypatch)
    with pytest.raises(AssertionError) as caught:
        simulate(monkeypatch)
    print(str(caught.value).splitlines()[0])
