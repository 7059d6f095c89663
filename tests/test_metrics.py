"""Metrics: no count is lost, none goes down, and what is exposed is what was counted."""

import itertools
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import parser
from prometheus_client.openmetrics import parser as openmetrics

import adcore
from server import families as table
from server.delivery import core, tracking
from server.delivery.tally import Tally
from server.events.records import Kind
from server.exposition import expose
from server.families import TABLE, Family
from server.metrics import Metrics, Totals, totals
from tests import worlds

ROOT = Path(__file__).parent.parent
COUNTS = st.integers(0, 2**40)


def samples_of(text: bytes, parse) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in parse(text.decode())
        for sample in family.samples
    }


def counters(now: Totals) -> list[int]:
    return [
        now.value(family, *values)
        for family in TABLE.families
        if family.kind == "counter"
        for values in family.combinations()
    ]


# -- the table


def test_every_combination_of_labels_has_slots_of_its_own():
    taken = [
        slot
        for family in TABLE.families
        for values in family.combinations()
        for slot in range(family.slot(*values), family.slot(*values) + family.width)
    ]
    assert taken == list(range(TABLE.slots))


def test_label_values_are_those_that_the_code_has():
    assert {core.API, core.PING, "/i.gif", "/r", "/e.gif", "/c.gif"} == table.ROUTES.keys()
    kinds, outcomes = table.BEACONS.labels.values()
    assert {kind.name.lower() for kind in Kind} == {*kinds}
    assert {outcome.name.lower() for outcome in tracking.Outcome} == {*outcomes} - {table.OTHER}


def test_a_label_that_is_not_declared_has_no_slot():
    with pytest.raises(ValueError, match="not in tuple"):
        table.DECISIONS.slot("perhaps")
    with pytest.raises(ValueError, match="zip"):
        table.BEACONS.slot("click")


# -- writing


@pytest.mark.parametrize(
    ("path", "status", "labels"),
    [
        ("/api/v2", 200, ("api", "200")),
        ("/api/v2", 431, ("api", "431")),
        ("/i.gif", 503, ("impression", "503")),
        ("/r", 302, ("click", "302")),
        ("/e.gif", 204, ("event", "204")),
        ("/ping", 503, ("ping", "503")),
        ("/", 200, ("page", "200")),
        ("/wp-login.php", 404, ("other", "404")),
        ("/api/v2/", 404, ("other", "404")),
        ("/api/v2", 418, ("api", "other")),
    ],
)
def test_a_request_is_counted_by_route_and_status(tmp_path, path, status, labels):
    Tally(Metrics(tmp_path, "worker-1")).request(path, status)
    now = totals(tmp_path)
    assert now.value(table.REQUESTS, *labels) == 1
    assert sum(counters(now)) == 1


def test_a_decision_is_counted_by_placement_and_timed_by_request(tmp_path):
    tally = Tally(Metrics(tmp_path, "worker-1"))
    tally.decided(["a", "b", "c"], [["win"], [], ["win", "win"]], 12_000)
    tally.decided(["a"], [], 60_000_000)
    now = totals(tmp_path)
    assert now.value(table.DECISIONS, "filled") == 2
    assert now.value(table.DECISIONS, "no_fill") == 1
    assert now.value(table.DECISIONS, "no_snapshot") == 1
    buckets = now.buckets(table.DECISION_SECONDS)
    assert buckets[1] == buckets[-1] == 1 == sum(buckets) / 2
    assert now.sum_ns(table.DECISION_SECONDS) == 60_012_000


def test_wins_are_counted_by_what_they_clear_at(tmp_path):
    index = adcore.compile(worlds.catalog_of(worlds.item(1, 3000), worlds.item(2, 500)))
    request = adcore.Request([adcore.Placement("a"), adcore.Placement("b", count=2)])
    tally = Tally(Metrics(tmp_path, "worker-1"))
    tally.sold(index.select(request, index.live(1_750_000_000), 1))
    tally.sold([[], []])
    assert totals(tmp_path).value(table.CLEARED) == 3000 + 3000 + 500


@pytest.mark.parametrize("edge", range(len(table.LATENCY_BOUNDS_NS)))
def test_a_bucket_takes_its_bound_and_not_a_nanosecond_more(tmp_path, edge):
    tally = Tally(Metrics(tmp_path, "worker-1"))
    for more in (0, 1):
        tally.decided([], [], table.LATENCY_BOUNDS_NS[edge] + more)
    assert totals(tmp_path).buckets(table.DECISION_SECONDS)[edge : edge + 2] == [1, 1]


def test_what_a_set_does_not_name_is_counted_as_other(tmp_path):
    metrics = Metrics(tmp_path, "worker-1")
    tally = Tally(metrics)
    tally.bad_request("shape")
    tally.bad_request("unheard of")
    metrics.tracked("click", "bad_token")
    metrics.tracked("click", "unheard of")
    metrics.snapshot_refused("checksum")
    metrics.snapshot_refused("unheard of")
    now = totals(tmp_path)
    for family, *labels in (
        (table.BAD_REQUESTS, "shape"),
        (table.BAD_REQUESTS, "other"),
        (table.BEACONS, "click", "bad_token"),
        (table.BEACONS, "click", "other"),
        (table.SNAPSHOTS_REFUSED, "checksum"),
        (table.SNAPSHOTS_REFUSED, "other"),
    ):
        assert now.value(family, *labels) == 1
    assert sum(counters(now)) == 6


def test_the_loaders_state_is_told(tmp_path):
    metrics = Metrics(tmp_path, "loader")
    metrics.redis_state(True)
    metrics.snapshot_loaded(7, 1_700_000_000)
    metrics.redis_state(False)
    metrics.redis_state(False)
    now = totals(tmp_path)
    assert now.value(table.SNAPSHOT_GENERATION) == 7
    assert now.value(table.SNAPSHOT_LOADED_S) == 1_700_000_000
    assert now.value(table.REDIS_UP) == 0
    assert now.value(table.REDIS_FAILURES) == 2


def test_the_parents_word_reaches_every_process_at_once(tmp_path):
    worker = Metrics(tmp_path, "worker-1")  # even one that was there first
    main = Metrics(tmp_path, "main")
    assert not Tally(worker).draining()
    main.stopping(table.DRAINS)
    assert Tally(worker).draining()
    assert Tally(main).draining()
    assert totals(tmp_path).value(table.STOPPING) == table.DRAINS


# -- several processes, and one after the other

WRITER = """
import sys
from pathlib import Path
from server.delivery.tally import Tally
from server.metrics import Metrics
tally = Tally(Metrics(Path(sys.argv[1]), sys.argv[2]))
print("ready", flush=True)
sys.stdin.readline()
for _ in range(int(sys.argv[3])):
    tally.request("/api/v2", 200)
    tally.decided([0], [[1]], 25_000)
"""


def test_no_count_is_lost_or_goes_down_while_processes_write(tmp_path):
    counts = (30_000, 20_000, 10_000)
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, tmp_path, f"worker-{number}", str(count)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
        )
        for number, count in enumerate(counts, 1)
    ]
    for writer in writers:
        assert writer.stdout.readline() == b"ready\n"
    for writer in writers:
        writer.stdin.close()
    before, looks = counters(totals(tmp_path)), 0
    while any(writer.poll() is None for writer in writers):
        now = counters(totals(tmp_path))
        assert all(a <= b for a, b in zip(before, now, strict=True))
        before, looks = now, looks + 1
    for writer in writers:
        writer.stdout.close()
        assert writer.wait() == 0
    assert looks > 1
    now = totals(tmp_path)
    assert now.value(table.REQUESTS, "api", "200") == sum(counts)
    assert now.value(table.DECISIONS, "filled") == sum(counts)
    assert now.buckets(table.DECISION_SECONDS)[3] == sum(counts)  # above 20 us, up to 30
    assert now.sum_ns(table.DECISION_SECONDS) == 25_000 * sum(counts)


def test_a_respawned_worker_goes_on_counting_and_forgets_its_state(tmp_path):
    first = Metrics(tmp_path, "worker-1")
    other = Metrics(tmp_path, "worker-2")
    Tally(first).request("/r", 302)
    first.serving(5)
    other.serving(6)
    first.spooled(1000, written=10, shed=2, failed=1)
    first.looked_up("geo", hits=100, misses=3)
    assert totals(tmp_path).value(table.SERVING_GENERATION) == 5

    second = Metrics(tmp_path, "worker-1")
    assert totals(tmp_path).value(table.SERVING_GENERATION) == 0  # it has no snapshot yet
    Tally(second).request("/r", 302)
    second.serving(6)
    second.spooled(2000, written=4, shed=0, failed=0)
    second.looked_up("geo", hits=1, misses=1)
    now = totals(tmp_path)
    assert now.value(table.REQUESTS, "click", "302") == 2
    assert now.value(table.SERVING_GENERATION) == 6
    assert now.value(table.SPOOL_BYTES) == 2000
    assert [now.value(table.SPOOL_FRAMES, result) for result in ("written", "shed")] == [14, 2]
    assert [now.value(table.CACHE_LOOKUPS, "geo", result) for result in ("hit", "miss")] == [101, 4]


def test_a_file_that_is_still_empty_counts_for_nothing(tmp_path):
    Tally(Metrics(tmp_path, "worker-1")).request("/r", 302)
    (tmp_path / "metrics-worker-2.bin").touch()
    assert totals(tmp_path).value(table.REQUESTS, "click", "302") == 1


def test_an_empty_folder_is_all_zeros(tmp_path):
    now = totals(tmp_path)
    assert not any(counters(now))
    assert now.value(table.SERVING_GENERATION) == 0
    assert now.quantile_ns(table.DECISION_SECONDS, 0.5) is None


# -- reading


def totals_with(family: Family, counts: list[int]) -> Totals:
    slots = [0] * TABLE.slots
    slots[family.start : family.start + len(counts)] = counts
    return Totals({"worker-1": slots})


@given(
    values=st.lists(st.integers(1, 60_000_000), min_size=1, max_size=200),
    share=st.floats(0.01, 1.0),
)
def test_a_quantile_lies_in_the_bucket_of_the_true_one(values, share):
    family = table.DECISION_SECONDS
    bounds = [0, *family.bounds]
    counts = [
        sum(low < value <= high for value in values) for low, high in itertools.pairwise(bounds)
    ]
    counts.append(sum(value > bounds[-1] for value in values))
    estimate = totals_with(family, counts).quantile_ns(family, share)
    true = sorted(values)[min(len(values) - 1, max(0, -(-share * len(values) // 1) - 1).__int__())]
    if true > bounds[-1]:
        assert estimate == bounds[-1]
    else:
        low, high = next((low, high) for low, high in itertools.pairwise(bounds) if true <= high)
        assert low <= estimate <= high


def test_quantiles_of_an_even_bucket_are_even():
    counts = [0, 0, 100]  # all between 15 and 20 us
    now = totals_with(table.DECISION_SECONDS, counts)
    assert [now.quantile_ns(table.DECISION_SECONDS, share) for share in (0.2, 0.5, 1.0)] == [
        16_000,
        17_500,
        20_000,
    ]


PROCESSES = ("worker-1", "loader", "agent", "main", "forwarder", "intake", "counter", "control")


def take_histogram(found, family, slots):
    counts = slots[family.start : family.end - 1]
    for number, bound in enumerate(family.bounds):
        key = (f"{family.name}_bucket", (("le", repr(bound / 1e9)),))
        assert found.pop(key) == len(PROCESSES) * sum(counts[: number + 1])
    assert found.pop((f"{family.name}_bucket", (("le", "+Inf"),))) == len(PROCESSES) * sum(counts)
    assert found.pop((f"{family.name}_count", ())) == len(PROCESSES) * sum(counts)
    assert found.pop((f"{family.name}_sum", ())) == pytest.approx(
        len(PROCESSES) * slots[family.end - 1] / 1e9
    )


@given(st.lists(COUNTS, min_size=TABLE.slots, max_size=TABLE.slots), st.data())
def test_what_is_exposed_is_what_was_counted(slots, data):
    now = Totals(dict.fromkeys(PROCESSES, slots))
    text, content_type = expose(now, data.draw(st.sampled_from(["", "*/*", "text/html"])))
    assert content_type.startswith("application/openmetrics-text; version=1.0.0")
    assert text.endswith(b"# EOF\n")
    found = samples_of(text, openmetrics.text_string_to_metric_families)
    for family in TABLE.families:
        for values in family.combinations():
            labels = tuple(sorted(zip(family.labels, values, strict=True)))
            if family.kind == "counter":
                value = found.pop((f"{family.name}_total", labels))
                assert value == len(PROCESSES) * slots[family.slot(*values)]
            elif family.kind == "gauge":
                assert found.pop((family.name, ())) == slots[family.start]
            else:
                take_histogram(found, family, slots)
    assert [name for name, _ in found] == ["adcore_build_info"]


@pytest.mark.parametrize(
    ("accept", "old"),
    [
        (
            "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.3,*/*;q=0.1",
            False,
        ),
        ("application/openmetrics-text; version=zzz", False),
        ("text/plain;version=0.0.4;q=0.5,*/*;q=0.1", True),
    ],
)
def test_the_older_format_is_for_those_who_know_no_other(tmp_path, accept, old):
    Tally(Metrics(tmp_path, "worker-1")).request("/r", 302)
    text, content_type = expose(totals(tmp_path), accept)
    assert content_type.startswith("text/plain; version=0.0.4") == old
    parse = (parser if old else openmetrics).text_string_to_metric_families
    key = ("adcore_requests_total", (("route", "click"), ("status", "302")))
    assert samples_of(text, parse)[key] == 1
