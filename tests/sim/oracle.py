"""What a log's records count, written to be read: the specification of `server.ledger.counter`.

It keeps every id for ever and looks at every beacon it has kept; it shares no code with the counter
but the names of measures.
"""

from collections import Counter as Sums
from collections.abc import Iterable

import msgspec

from server.events.frames import Frames
from server.events.records import Beacon, Decision, Kind, Outcome
from server.store.buckets import Bucket

HOUR_S = 3600
QUARTER_S = 900
LEASE_S = 10
LEASE_OPEN_S = 160  # from its window's begin: 20 s of use, 120 s to be seen in, 20 s on the way
WINDOW_S = {1: 120, 2: 86_400, 3: 86_400, 4: 31 * 86_400}
KEPT_S = 86_400 + 7_200
HELD_S = 300
HOURS_BACK_S = 62 * 86_400
CROWD_KEPT_S = 3600
CLICKS_A_MINUTE_MAX = 60
HELD_MAX = 100_000
NAMES = {outcome.value: outcome.name.lower() for outcome in Outcome if outcome < 16}

Field = tuple[str, int, str]
"""Kind of bucket, its number, field."""


class Oracle:
    def __init__(self) -> None:
        self.sums: Sums[Field] = Sums()
        self.now_s = 0
        self.seen: set[bytes] = set()
        self.clicked: dict[bytes, int] = {}  # billed, when
        self.taken: set[tuple[object, ...]] = set()
        self.clicks: list[Beacon] = []  # the last one of each browser on each creative
        self.crowd: list[Beacon] = []  # those that count towards their minute's
        self.held: list[tuple[int, Beacon]] = []

    def take(self, written_ms: int, frames: bytes) -> None:
        before_s, self.now_s = self.now_s, max(self.now_s, written_ms // 1000)
        for _, beacon in [entry for entry in self.held if entry[0] <= self.now_s]:
            self.refuse(beacon, "unattributed" if beacon.kind == 4 else "no_impression")
        self.held = [entry for entry in self.held if entry[0] > self.now_s]
        if before_s // 60 != self.now_s // 60:
            self.forget(self.now_s - CROWD_KEPT_S)
        for frame in Frames(frames):
            self.frame(frame.kind, frame.record)

    def forget(self, before_s: int) -> None:
        """Let go of the clicks that are too old for others to be measured by them."""
        while self.clicks and self.clicks[0].received_s < before_s:
            del self.clicks[0]
        self.crowd = [click for click in self.crowd if click.received_s // 60 * 60 >= before_s]

    def frame(self, kind: int, record: bytes) -> None:
        try:
            if kind == 1:
                self.beacon(msgspec.msgpack.decode(record, type=Beacon))
                return
            if kind == 2:
                self.decision(msgspec.msgpack.decode(record, type=Decision))
                return
        except msgspec.MsgspecError:
            pass
        self.unreadable()

    def unreadable(self) -> None:
        self.sums["hour", self.now_s // HOUR_S, "0.0.0.unreadable"] += 1

    def decision(self, decision: Decision) -> None:
        hour = decision.issued_s // HOUR_S
        if self.is_late(decision.issued_s) or decision.issued_s > self.now_s + HELD_S:
            self.unreadable()
            return
        site = decision.answers[0].site_id
        self.sums["hour", hour, f"0.0.{site}.decision_logs"] += 1
        self.sums["hour", hour, f"0.0.{site}.requests"] += decision.weight
        for answer in decision.answers:
            name = "decisions" if answer.line_item_id else "no_fill"
            place = f"{answer.line_item_id}.{answer.creative_id}.{answer.site_id}"
            self.sums["hour", hour, f"{place}.{name}"] += decision.weight

    def is_late(self, issued_s: int) -> bool:
        """Whether the ids of that hour are forgotten."""
        return (issued_s // HOUR_S + 1) * HOUR_S + KEPT_S < self.now_s

    def add(self, beacon: Beacon, measure: str, amount: int = 1) -> None:
        place = f"{beacon.line_item_id}.{beacon.creative_id}.{beacon.site_id}"
        issued_s = beacon.issued_s
        if issued_s > self.now_s + HELD_S or issued_s < self.now_s - HOURS_BACK_S:
            issued_s = self.now_s
        self.sums["hour", issued_s // HOUR_S, f"{place}.{measure}"] += amount

    def owe(self, beacon: Beacon, measure: str, revenue_nanos: int) -> None:
        """Bill a beacon: to its hour, and to the line item's windows, quarters and all time."""
        window = self.now_s // LEASE_S
        if beacon.kind == 1 and beacon.lease != 0:
            window = beacon.lease
        quarter = window * LEASE_S // QUARTER_S
        for name, amount in ((measure, 1), ("revenue_nanos", revenue_nanos)):
            self.add(beacon, name, amount)
            for kind, number in (("window", window), ("quarter", quarter), ("ever", 0)):
                self.sums[kind, number, f"{beacon.line_item_id}.{name}"] += amount

    def refuse(self, beacon: Beacon, reason: str) -> None:
        self.add(beacon, f"invalid.{Kind(beacon.kind).name.lower()}.{reason}")

    def beacon(self, beacon: Beacon) -> None:
        reason = self.why_not(beacon)
        if reason == "hold":
            self.held.append((self.now_s + HELD_S, beacon))
        elif reason:
            self.refuse(beacon, reason)
        else:
            self.bill(beacon)

    def why_not(self, beacon: Beacon) -> str:
        if beacon.outcome:
            return NAMES.get(beacon.outcome, "other")
        age_s = beacon.received_s - beacon.issued_s
        if age_s < -60 or beacon.received_s > self.now_s + HELD_S:
            return "future"
        if age_s > WINDOW_S[beacon.kind]:
            return "expired"
        late = self.is_late(beacon.issued_s)
        if late and beacon.kind != 4:
            return "late"
        known = beacon.id in self.seen and not late
        if beacon.kind == 1:
            if beacon.lease and not known and not self.is_open(beacon.lease):
                return "lease_closed"
            return "duplicate" if known else ""
        clicked = beacon.id in self.clicked
        if beacon.kind == 2 and ("click", beacon.id) in self.taken:
            return "duplicate"
        if not known and not (beacon.kind == 4 and clicked):
            soon = self.now_s - beacon.issued_s <= WINDOW_S[1] + HELD_S
            if soon and not late and len(self.held) < HELD_MAX:
                return "hold"
            return "unattributed" if beacon.kind == 4 else "no_impression"
        return getattr(self, f"_{Kind(beacon.kind).name.lower()}")(beacon, known)

    def is_open(self, lease: int) -> bool:
        """Whether an impression of the window with that number may still, or already, be billed."""
        begin_s = lease * LEASE_S
        return begin_s - HELD_S <= self.now_s < begin_s + LEASE_OPEN_S

    def _click(self, beacon: Beacon, known: bool) -> str:
        self.taken.add(("click", beacon.id))
        alike = [other for other in self.clicks if _browser(other) == _browser(beacon)]
        self.clicks = [other for other in self.clicks if other not in alike] + [beacon]
        # The one before is the one that came before, whenever it happened.
        if alike and abs(beacon.received_s - alike[-1].received_s) <= 1:
            return "double_click"
        if not beacon.network:
            return ""
        self.crowd.append(beacon)
        beside = [other for other in self.crowd if _crowd(other) == _crowd(beacon)]
        return "rate" if len(beside) > CLICKS_A_MINUTE_MAX else ""

    def _event(self, beacon: Beacon, known: bool) -> str:
        return "duplicate" if ("event", beacon.id, beacon.event) in self.taken else ""

    def _conversion(self, beacon: Beacon, known: bool) -> str:
        after_click_s = beacon.received_s - self.clicked.get(beacon.id, -(10**9))
        after_view_s = beacon.received_s - beacon.issued_s if known else 10**9
        if after_click_s > beacon.click_lookback_s and after_view_s > beacon.view_lookback_s:
            return "unattributed"
        again = ("conversion", beacon.id, beacon.event, beacon.order) in self.taken
        return "duplicate" if again else ""

    def bill(self, beacon: Beacon) -> None:
        rate = beacon.flags >> 1 & 3
        if beacon.kind == 1:
            self.seen.add(beacon.id)
            self.owe(beacon, "impressions", beacon.price_micros if rate == 0 else 0)
            waiting = [entry for entry in self.held if entry[1].id == beacon.id]
            self.held = [entry for entry in self.held if entry[1].id != beacon.id]
            for _, held in waiting:
                self.beacon(held)
        elif beacon.kind == 2:
            self.clicked[beacon.id] = beacon.received_s
            self.owe(beacon, "clicks", beacon.price_micros * 1000 if rate == 1 else 0)
        elif beacon.kind == 3:
            self.taken.add(("event", beacon.id, beacon.event))
            self.add(beacon, "viewable" if beacon.event == 40 else "events")
        else:
            self.taken.add(("conversion", beacon.id, beacon.event, beacon.order))
            self.owe(beacon, "conversions", beacon.price_micros * 1000 if rate == 2 else 0)
            self.add(beacon, "conversion_value_micros", beacon.value_micros)


def _browser(click: Beacon) -> tuple[object, ...]:
    return click.network, click.user_agent, click.creative_id


def _crowd(click: Beacon) -> tuple[object, ...]:
    return click.network, click.creative_id, click.received_s // 60


def counted(records: Iterable[tuple[int, bytes]]) -> dict[Bucket, dict[bytes, int]]:
    """Count (written_ms, frames) in the log's order, as Redis should have it."""
    oracle = Oracle()
    for written_ms, frames in records:
        oracle.take(written_ms, frames)
    totals: dict[Bucket, dict[bytes, int]] = {}
    for (kind, number, field), amount in oracle.sums.items():
        if amount:
            totals.setdefault(Bucket(kind, number), {})[field.encode()] = amount
    return totals
