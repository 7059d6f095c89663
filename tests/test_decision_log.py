"""Sampled decision logs tell the totals within their known error, and the same in every process.

Whatever happens to a log, the answer that it is about stands.
"""

import errno
import os
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from math import sqrt
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest

from adcore.limits import PLACEMENTS_MAX
from server import families as table
from server.config import Config
from server.delivery import bundle, core
from server.delivery.answer import DECISION_ID_BYTES, Moment
from server.delivery.datacentres import Ranges
from server.delivery.decision_log import DecisionLog
from server.delivery.http import Ask, GivenHeaders
from server.delivery.kevel import COUNT_MAX, PlacementAsked
from server.delivery.robots import Robots
from server.delivery.snapshot import Holder
from server.delivery.spool import Spool, read_frames
from server.delivery.tally import Tally
from server.delivery.tracking import Tracker
from server.events.frames import RECORD_BYTES_MAX
from server.events.records import RECORD_DECISION, Answered, Decision
from server.metrics import Metrics, totals
from tests import catalogs
from tests.delivery import NOW_S, make_keyring, no_users, write_bundle
from tests.oracle import splitmix64

ROOT = Path(__file__).parent.parent
OPS_KEY = "0123456789abcdef" * 3
BODY = (
    b'{"placements":[{"divName":"top","siteId":10,"adTypes":[1],"count":3},'
    b'{"divName":"side","siteId":10,"adTypes":[2]},{"divName":"x","adTypes":[9]}]}'
)


class Bench:
    """A core over the smallest catalog, and what it has left in its spool."""

    def __init__(self, folder: Path, one_in: int, *, bytes_max: int = 1 << 28, **settings: object):
        self.folder = folder
        metrics = Metrics(folder, "worker-1")
        self.holder = Holder(folder)
        self.spool = Spool(folder / "spool", "w", now_s=NOW_S, bytes_max=bytes_max)
        tracker = Tracker(
            make_keyring(), self.spool, self.holder.click_url, self.holder.lookbacks,
            metrics.tracked, Robots(), Ranges(),
        )  # fmt: skip
        config = Config(decision_log_one_in=one_in, **settings)
        self.core = core.Core(
            config, self.holder, make_keyring(), tracker, Tally(metrics), {}, no_users(metrics)
        )

    def load(self) -> None:
        write_bundle(self.folder / "snapshot-7.bin", catalogs.minimal())
        bundle.make_current(self.folder, "snapshot-7.bin")
        assert self.holder.poll(NOW_S)

    def decide(self, body: bytes = BODY, *headers: tuple[str, str]) -> dict:
        answer = self.core.decide(Ask("POST", core.API, "", GivenHeaders(headers), ""), body)
        assert answer.status == 200
        return msgspec.json.decode(answer.body)

    def logs(self) -> list[Decision]:
        return logs_in(self.folder / "spool")

    def counted(self) -> dict[str, int]:
        now = totals(self.folder)
        results = table.DECISION_LOGS.labels["result"]
        return {result: now.value(table.DECISION_LOGS, result) for result in results}


def logs_in(spool_folder: Path) -> list[Decision]:
    return [
        msgspec.msgpack.decode(frame.record, type=Decision)
        for path in sorted(spool_folder.glob("*.spool"))
        for frame in read_frames(path)
        if frame.kind == RECORD_DECISION
    ]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Callable[..., Bench]]:
    made: list[Bench] = []

    def make(one_in: int, **settings: object) -> Bench:
        made.append(Bench(tmp_path, one_in, **settings))
        return made[-1]

    yield make
    for one in made:
        one.spool.close()


def make_log(folder: Path, one_in: int, bytes_max: int = 1 << 28) -> tuple[DecisionLog, Spool]:
    spool = Spool(folder / "spool", "w", now_s=NOW_S, bytes_max=bytes_max)
    return DecisionLog(spool, one_in, Tally(Metrics(folder, "worker-1"))), spool


# -- what a log says -------------------------------------------------------------------------------


def test_a_log_says_who_won_each_placement_and_which_got_no_ad(bench):
    one = bench(1)
    one.load()
    answer = one.decide()
    (log,) = one.logs()
    assert log.id.hex() == answer["decisionId"]
    assert (log.kind, log.outcome, log.weight, log.generation) == (0, 0, 1, 7)
    assert log.received_s == log.issued_s > NOW_S
    shown = answer["decisions"]["top"]
    assert shown
    assert log.answers == [
        *(Answered(10, ad["flightId"], ad["creativeId"]) for ad in shown),
        Answered(10, 0, 0),
        Answered(0, 0, 0),
    ]
    assert one.counted() == {"written": 1, "shed": 0, "failed": 0}


def test_without_a_catalog_no_placement_gets_an_ad_from_generation_0(bench):
    one = bench(1)
    one.decide()
    (log,) = one.logs()
    assert log.generation == 0
    assert log.answers == [Answered(10, 0, 0), Answered(10, 0, 0), Answered(0, 0, 0)]


def test_none_are_logged_when_none_are_asked_for(bench):
    one = bench(0)
    one.load()
    for _ in range(200):
        one.decide()
    assert one.logs() == []
    assert one.counted() == {"written": 0, "shed": 0, "failed": 0}


def test_previews_and_refusals_are_not_logged(bench):
    one = bench(1, preview=True, ops_key=OPS_KEY)
    one.load()
    one.decide(BODY, ("x-adcore-time", str(NOW_S)))
    one.decide(BODY, ("x-adcore-explain", "1"), ("authorization", f"Bearer {OPS_KEY}"))
    bad = one.core.decide(Ask("POST", core.API, "", GivenHeaders(()), ""), b"{}")
    assert bad.status == 400
    assert one.logs() == []
    one.decide()
    assert len(one.logs()) == 1


class Winner(NamedTuple):
    """The largest that a winner's ids can be."""

    line_item_id: int = 2**63 - 1
    creative_id: int = 2**63 - 1


def test_the_largest_log_fits_a_frame(tmp_path):
    largest = {"divName": "x", "siteId": 2**63 - 1}
    placements = msgspec.convert([largest] * PLACEMENTS_MAX, list[PlacementAsked])
    log, spool = make_log(tmp_path, 1)
    moment = Moment(bytes(DECISION_ID_BYTES), NOW_S, preview=False)
    log.write(placements, [[Winner()] * COUNT_MAX] * PLACEMENTS_MAX, None, moment)
    spool.close()
    (read,) = logs_in(tmp_path / "spool")
    assert len(read.answers) == COUNT_MAX * PLACEMENTS_MAX
    assert len(msgspec.msgpack.encode(read)) < RECORD_BYTES_MAX


# -- which are logged ------------------------------------------------------------------------------


def test_sampled_logs_rebuild_the_totals_within_three_sigma(bench, monkeypatch):
    """Real decisions from seeded ids, a few of them logged: each total is a sum of weights."""
    dice, one_in, decisions = random.Random(20261125), 20, 20_000
    monkeypatch.setattr("server.delivery.dice.urandom", dice.randbytes)
    one = bench(one_in)
    one.load()
    true: Counter[Answered] = Counter()
    for _ in range(decisions):
        # Two in three get an ad, of creative 50 twice as often as of 51.
        ad_type = dice.choice((1, 1, 9))
        body = b'{"placements":[{"divName":"top","siteId":10,"adTypes":[%d]}]}' % ad_type
        ad = one.decide(body)["decisions"]["top"]
        true[Answered(10, ad["flightId"], ad["creativeId"]) if ad else Answered(10, 0, 0)] += 1
    logs = one.logs()
    rebuilt: Counter[Answered] = Counter()
    for log in logs:
        for answered in log.answers:
            rebuilt[answered] += log.weight
    assert len(logs) == one.counted()["written"] == len({log.id for log in logs})
    assert {answered.creative_id for answered in true} == {0, 50, 51}
    assert rebuilt.keys() == true.keys()
    for answered, total in [*true.items()]:
        assert abs(rebuilt[answered] - total) <= 3 * sqrt(total * (one_in - 1)), answered
    assert abs(one_in * len(logs) - decisions) <= 3 * sqrt(decisions * (one_in - 1))


_DICE = random.Random(1)
IDS = [_DICE.randbytes(DECISION_ID_BYTES) for _ in range(4096)]


def verdicts(folder: Path, one_in: int) -> list[bool]:
    log, spool = make_log(folder, one_in)
    spool.close()
    return [log.keeps(decision_id) for decision_id in IDS]


def test_one_decision_has_one_verdict_in_every_process(tmp_path):
    """And in those of the next release: another hash would be another sample in the middle."""
    ours = verdicts(tmp_path, 100)
    assert ours == [
        splitmix64(int.from_bytes(decision_id[8:])) < 2**64 // 100 for decision_id in IDS
    ]
    assert any(ours)
    script = (
        "import sys; from pathlib import Path; from tests.test_decision_log import verdicts;"
        "print(*map(int, verdicts(Path(sys.argv[1]), 100)), sep='')"
    )
    for seed in ("1", "2"):
        environ = os.environ | {"PYTHONHASHSEED": seed}
        command = [sys.executable, "-c", script, str(tmp_path / seed)]
        (tmp_path / seed).mkdir()
        theirs = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, check=True)
        assert [digit == "1" for digit in theirs.stdout.decode().strip()] == ours


def test_the_draw_does_not_say_what_is_logged(tmp_path):
    log, spool = make_log(tmp_path, 8)
    spool.close()
    for decision_id in IDS[:64]:
        others = {log.keeps(bytes((draw,)) * 8 + decision_id[8:]) for draw in range(64)}
        assert others == {log.keeps(decision_id)}
    # Of a draw that is checked against a scan, as many are logged as of any.
    kept = sum(log.keeps(bytes(8) + decision_id[8:]) for decision_id in IDS)
    assert abs(8 * kept - len(IDS)) <= 3 * sqrt(len(IDS) * 7)


def test_a_rarer_sample_is_part_of_every_larger_one(tmp_path):
    larger = [True] * len(IDS)
    for one_in in (1, 2, 3, 10, 100, 1000, 1_000_000):
        (tmp_path / str(one_in)).mkdir()
        kept = verdicts(tmp_path / str(one_in), one_in)
        assert sum(kept) == len(IDS) if one_in == 1 else sum(kept) < sum(larger)
        assert all(before for now, before in zip(kept, larger, strict=True) if now)
        larger = kept


def test_an_id_of_another_size_is_none(tmp_path):
    log, spool = make_log(tmp_path, 1)
    spool.close()
    for size in (0, 8, DECISION_ID_BYTES - 1, DECISION_ID_BYTES + 1):
        with pytest.raises(ValueError, match="14 bytes"):
            log.keeps(bytes(size))


# -- when the spool does not take it ---------------------------------------------------------------


def test_a_full_spool_sheds_logs_and_answers(bench):
    one = bench(1, bytes_max=1000)
    one.load()
    for _ in range(20):
        assert one.decide()["decisions"]["top"]
    counted = one.counted()
    assert counted["written"] == len(one.logs()) > 0
    assert counted == {"written": counted["written"], "shed": 20 - counted["written"], "failed": 0}
    # What is left belongs to what is billed.
    one.spool.append(bytes(60), billable=True)


def test_a_disk_that_fails_costs_no_answer(bench, monkeypatch):
    one = bench(1)
    one.load()

    def fail(*_: object) -> int:
        raise OSError(errno.EIO, "broken")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", fail)
        assert one.decide()["decisions"]["top"]
    assert one.counted() == {"written": 0, "shed": 0, "failed": 1}
    assert one.decide()["decisions"]["top"]
    assert one.counted() == {"written": 1, "shed": 0, "failed": 1}
