"""The metrics: one table for all processes, in which each has its slots.

A row is a counter, a gauge or a histogram; each combination of its labels' values is a slot of
eight bytes, a histogram several. Label values are fixed sets, so that no client can make new ones.
"""

from collections.abc import Callable, Iterable
from itertools import product
from math import prod
from typing import Final, Literal, NamedTuple

from adcore.index import OUTCOMES

SLOT_BYTES: Final = 8
MAIN: Final = "main"  # the parent of all others; a role is what stands before the hyphen
LOADER: Final = "loader"
AGENT: Final = "agent"
WORKER: Final = "worker"
FORWARDER: Final = "forwarder"
INTAKER: Final = "intake"
COUNTER: Final = "counter"
CONTROL: Final = "control"

Merge = Callable[[Iterable[int]], int]


class Family(NamedTuple):
    """One metric. Each combination of label values owns `width` slots, in order from `start`."""

    kind: Literal["counter", "gauge", "histogram"]
    name: str
    help: str
    labels: dict[str, tuple[str, ...]]
    start: int
    bounds: tuple[int, ...] = ()  # of a histogram: each bucket's largest value, in nanoseconds
    role: str = ""  # of a gauge: which processes say it, and
    merge: Merge = sum  # how what they say becomes one number

    @property
    def width(self) -> int:
        # A histogram: its buckets, the one without a bound, the sum of the values.
        return len(self.bounds) + 2 if self.bounds else 1

    @property
    def end(self) -> int:
        return self.start + self.width * prod(map(len, self.labels.values()))

    def slot(self, *values: str) -> int:
        """Find the first slot of a combination of label values; ValueError if there is none."""
        place = 0
        for value, known in zip(values, self.labels.values(), strict=True):
            place = place * len(known) + known.index(value)
        return self.start + place * self.width

    def combinations(self) -> Iterable[tuple[str, ...]]:
        return product(*self.labels.values())


class Table:
    """Hands out slots in order of declaration, so a new row may stand anywhere."""

    def __init__(self) -> None:
        self.families: list[Family] = []

    @property
    def slots(self) -> int:
        return self.families[-1].end if self.families else 0

    def counter(self, name: str, help: str, **labels: tuple[str, ...]) -> Family:
        return self._add(Family("counter", name, help, labels, self.slots))

    def gauge(self, name: str, help: str, *, role: str, merge: Merge = max) -> Family:
        return self._add(Family("gauge", name, help, {}, self.slots, role=role, merge=merge))

    def histogram(self, name: str, help: str, bounds: tuple[int, ...]) -> Family:
        return self._add(Family("histogram", name, help, {}, self.slots, bounds))

    def _add(self, family: Family) -> Family:
        self.families.append(family)
        return family


# -- the table -------------------------------------------------------------------------------------

ROUTES: Final = {
    "/api/v2": "api",
    "/i.gif": "impression",
    "/r": "click",
    "/e.gif": "event",
    "/c.gif": "conversion",
    "/ping": "ping",
}
STATUSES: Final = (200, 204, 302, 400, 401, 404, 405, 408, 413, 414, 415, 429, 431, 503)
OTHER: Final = "other"  # whatever a fixed set does not name is counted all the same

# 10 us to 50 ms: below is the clock's own noise, beyond is every deadline missed.
LATENCY_BOUNDS_US: Final = (
    10, 15, 20, 30, 40, 60, 80, 120, 200, 300, 500,
    1_000, 2_000, 5_000, 10_000, 20_000, 50_000,
)  # fmt: skip
LATENCY_BOUNDS_NS: Final = tuple(us * 1000 for us in LATENCY_BOUNDS_US)

# A plan is made each 5 s: beyond that is beyond use.
SOLVE_BOUNDS_NS: Final = tuple(
    ms * 1_000_000 for ms in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000)
)

TABLE: Final = Table()

REQUESTS = TABLE.counter(
    "adcore_requests",
    "Answers sent.",
    route=(*ROUTES.values(), "page", OTHER),
    status=(*map(str, STATUSES), OTHER),
)
BAD_REQUESTS = TABLE.counter(
    "adcore_bad_requests",
    "API requests refused, by what was wrong with them.",
    reason=(
        "json", "shape", "size", "media_type", "encoding", "method", "headers", "timeout", OTHER,
    ),
)  # fmt: skip
DECISIONS = TABLE.counter(
    "adcore_decisions",
    "Placements decided.",
    result=("filled", "no_fill", "no_snapshot"),
)
CLEARED = TABLE.counter(
    "adcore_cleared_ecpm_micros",
    "Sum of the eCPM that wins clear at: a thousandth is what they are expected to be worth.",
)
DECISION_SECONDS = TABLE.histogram(
    "adcore_decision_seconds",
    "Time from a request's last byte to the answer's first, without the network.",
    LATENCY_BOUNDS_NS,
)
ROWS_LOOKED_AT = TABLE.counter(
    "adcore_rows_looked_at",
    "Rows of the catalog that decisions looked at, by what became of them.",
    outcome=OUTCOMES,
)
SHADOW_CHECKS = TABLE.counter(
    "adcore_shadow_checks",
    "Decisions in which the index was held against a scan of some of its rows.",
    result=("agrees", "differs"),
)
DECISION_LOGS = TABLE.counter(
    "adcore_decision_logs", "Logs of sampled decisions.", result=("written", "shed", "failed")
)
BEACONS = TABLE.counter(
    "adcore_beacons",
    "Beacons by what became of them; only accepted ones are billed.",
    kind=("impression", "click", "event", "conversion"),
    outcome=(
        "accepted", "preview", "head", "prefetch", "expired", "future", "no_user_agent",
        "robot", "headless", "datacentre", "bad_query", "bad_token", "unknown_creative",
        "destination_changed", "spool_failed", OTHER,
    ),
)  # fmt: skip
SPOOL_FRAMES = TABLE.counter(
    "adcore_spool_frames",
    "Frames written to the spool, shed because it was too full, or failed.",
    result=("written", "shed", "failed"),
)
SPOOL_BYTES = TABLE.gauge("adcore_spool_bytes", "Size of the spool's files.", role=WORKER)
SPOOL_BYTES_MAX = TABLE.gauge(
    "adcore_spool_limit_bytes", "ADCORE_SPOOL_BYTES_MAX, its bound.", role=WORKER
)
SPOOL_AGE_S = TABLE.gauge(
    "adcore_spool_left_seconds",
    "For how long a finished segment has lain there: forwarders delete them within a second.",
    role=WORKER,
)
CACHE_LOOKUPS = TABLE.counter(
    "adcore_cache_lookups",
    "Look-ups in the caches of a worker.",
    cache=("device", "geo", "robot"),
    result=("hit", "miss"),
)
CAP_READS = TABLE.counter(
    "adcore_cap_reads",
    "Times that a request needed to know what its user was shown, by where from or why not.",
    result=("hit", "sent", "shared", "timeout", "failed", "refused"),
)
CAP_READ_SECONDS = TABLE.histogram(
    "adcore_cap_read_seconds",
    "From asking Redis for a user to its answer, taking part in a batch included.",
    LATENCY_BOUNDS_NS,
)
CAP_CHECKS = TABLE.counter(
    "adcore_cap_checks",
    "Ads counted in Redis before they are shown, unless a cap is used up.",
    result=("allowed", "denied"),
)
CAP_COUNTS = TABLE.counter(
    "adcore_cap_counts",
    "Ads counted in Redis as they are shown; lost while it is away.",
    result=("sent", "lost", "taken_back"),
)
CAP_UNKNOWN = TABLE.counter(
    "adcore_cap_unknown",
    "Wins of capped line items that on_unknown decided.",
    result=("allowed", "denied"),
)
CAP_WINS_REFUSED = TABLE.counter(
    "adcore_cap_wins_refused", "Wins that a cap refused: another line item had the place."
)
CAP_BREAKER_OPEN = TABLE.gauge(
    "adcore_cap_breaker_open",
    "1 while a worker does without Redis: on_unknown decides at once.",
    role=WORKER,
)
SERVING_GENERATION = TABLE.gauge(
    "adcore_serving_generation",
    "Oldest catalog generation that a worker serves, 0 when one has none.",
    role=WORKER,
    merge=min,
)
DIRECT_DISPATCH = TABLE.gauge(
    "adcore_direct_dispatch",
    "1 when each worker answers on Granian's own thread, 0 when one needs the event loop.",
    role=WORKER,
    merge=min,
)
SNAPSHOT_GENERATION = TABLE.gauge(
    "adcore_snapshot_generation", "Catalog generation that the loader loaded last.", role=LOADER
)
SNAPSHOT_LOADED_S = TABLE.gauge(
    "adcore_snapshot_loaded_timestamp_seconds", "When the loader loaded it.", role=LOADER
)
SNAPSHOTS_LOADED = TABLE.counter("adcore_snapshots_loaded", "Catalog generations loaded.")
SNAPSHOTS_REFUSED = TABLE.counter(
    "adcore_snapshots_refused",
    "Catalog generations that could not be used; the one before goes on serving.",
    reason=("missing", "checksum", "schema", "decode", "invalid", "build", OTHER),
)
REDIS_UP = TABLE.gauge(
    "adcore_redis_up", "1 when the loader's last command was answered.", role=LOADER
)
REDIS_FAILURES = TABLE.counter("adcore_redis_failures", "Looks at Redis that failed.")
RESTARTS = TABLE.counter(
    "adcore_restarts",
    "Processes that ended by themselves and were replaced.",
    process=(WORKER, LOADER, AGENT, COUNTER),
)
LEASE_REFUSALS = TABLE.counter(
    "adcore_lease_refusals",
    "Winners that had no lease: the placement was decided again without them.",
)
LEASE_CALLS = TABLE.counter(
    "adcore_lease_calls",
    "Calls of the agent to Redis, by what came of them.",
    result=("granted", "window", "repeat", "fenced", "late", "lost", "alone", "failed", OTHER),
)
LEASE_UNITS = TABLE.counter(
    "adcore_lease_units",
    "Impressions granted to this server, and given back unused.",
    way=("granted", "returned"),
)
LEASE_UNKNOWN = TABLE.counter(
    "adcore_lease_unopened",
    "Wants for line items whose accounts control had not opened yet.",
)
LEASES_HELD = TABLE.gauge(
    "adcore_lease_held_units", "Impressions that this server may serve on leases.", role=AGENT
)
LEASE_LINES = TABLE.gauge(
    "adcore_lease_awake_line_items", "Line items that units are asked for.", role=AGENT
)
LEASE_AT_S = TABLE.gauge(
    "adcore_lease_granted_timestamp_seconds", "When Redis last answered with grants.", role=AGENT
)
PLAN_MADE_AT_S = TABLE.gauge(
    "adcore_plan_timestamp_seconds",
    "When the oldest plan that a worker goes by was made; 0: one goes by none.",
    role=WORKER,
    merge=min,
)
FORWARDED = TABLE.counter(
    "adcore_forward_batches",
    "Batches handed to aggregators.",
    result=("sent", "acked", "restarted"),
)
FORWARD_LOST = TABLE.counter("adcore_forward_lost_frames", "Frames that the disk changed or lost.")
FORWARD_WAITING = TABLE.gauge(
    "adcore_forward_waiting_bytes", "Spooled and not yet acked, rounded up.", role=FORWARDER
)
FORWARD_BEHIND = TABLE.gauge(
    "adcore_forward_behind_seconds",
    "For how long something has waited for its ack.",
    role=FORWARDER,
)
INTAKE = TABLE.counter(
    "adcore_ledger_batches",
    "What came to the aggregator, by what became of it.",
    result=("taken", "repeated", "gap", "refused"),
)
INTAKE_STRAY = TABLE.counter(
    "adcore_ledger_stray_records",
    "Records of stock shippers that are none of ours.",
    reason=("unknown_tag", "unreadable"),
)
LOG_DURABLE = TABLE.gauge(
    "adcore_ledger_durable_lsn", "The log is certain up to here.", role=INTAKER
)
LOG_COUNTED = TABLE.gauge("adcore_ledger_counted_lsn", "Redis has counts up to here.", role=COUNTER)
LOG_SYNC_SECONDS = TABLE.histogram(
    "adcore_ledger_sync_seconds", "Writing a group and waiting for the disk.", LATENCY_BOUNDS_NS
)
COUNTER_WAITING = TABLE.gauge(
    "adcore_ledger_waiting_beacons", "Beacons that wait for their impression.", role=COUNTER
)
COUNTER_TURNS = TABLE.counter(
    "adcore_ledger_turns",
    "Times that Redis had another cursor, and the counter went back or began again.",
    kind=("rewind", "rebuild"),
)
CHECKPOINTS = TABLE.counter("adcore_ledger_checkpoints", "Checkpoints.", result=("kept", "failed"))
CHORES = TABLE.counter(
    "adcore_ledger_chores",
    "Hourly chores; one that differs found counts that Redis has otherwise than the log.",
    chore=("reconcile", "archive"),
    result=("done", "failed", "differs"),
)
CHORE_AT_S = TABLE.gauge(
    "adcore_ledger_chore_timestamp_seconds", "When the last one ended.", role=INTAKER
)
CONTROL_LEADS = TABLE.gauge(
    "adcore_control_leads", "1 while this one leads, 0 while it waits.", role=CONTROL
)
CONTROL_TICKS = TABLE.counter(
    "adcore_control_ticks",
    "Seconds of a leader's work; what could not be done because of Redis is done in the next.",
    result=("done", "store_failed", "counts_missing"),
)
CONTROL_GENERATION = TABLE.gauge(
    "adcore_control_generation", "Catalog generation that control goes by.", role=CONTROL
)
WINDOWS_SETTLED = TABLE.counter("adcore_control_windows_settled", "Lease windows settled.")
SETTLED_AGE_S = TABLE.gauge(
    "adcore_control_settled_age_seconds",
    "For how long the last settled window has been over; 150 to 170 is usual.",
    role=CONTROL,
)
ACCOUNTS_OPENED = TABLE.counter("adcore_control_accounts_opened", "Accounts opened.")
BUDGET_RESETS = TABLE.counter(
    "adcore_control_resets", "Times that Redis had lost the accounts, and they were made again."
)
GHOSTS = TABLE.gauge(
    "adcore_control_ghost_windows",
    "Windows whose grants may be lost: until they are settled, limits count them as granted.",
    role=CONTROL,
)
PLANS = TABLE.counter(
    "adcore_control_plans",
    "Plans made, by what became of them; one that comes late is refused.",
    result=("written", "late"),
)
CONTROL_PLAN_VERSION = TABLE.gauge(
    "adcore_control_plan_version", "The last plan written.", role=CONTROL
)
CONTROL_PLAN_AT_S = TABLE.gauge(
    "adcore_control_plan_timestamp_seconds", "When it was made.", role=CONTROL
)
CONTROL_PLAN_LINES = TABLE.gauge(
    "adcore_control_plan_line_items", "Line items in it.", role=CONTROL
)
SOLVE_SECONDS = TABLE.histogram(
    "adcore_control_solve_seconds",
    "Making a plan: reading the counts, solving, writing.",
    SOLVE_BOUNDS_NS,
)
TRACE_SPANS = TABLE.counter(
    "adcore_trace_spans",
    "Spans of sampled decisions, by what became of them; tracing is off by default.",
    result=("sent", "dropped", "failed"),
)
START_S = TABLE.gauge("adcore_start_time_seconds", "When the server started.", role=MAIN)
STOPPING = TABLE.gauge("adcore_stopping", "1 while draining, 2 while workers end.", role=MAIN)
DRAINS: Final = 1
ENDS: Final = 2
