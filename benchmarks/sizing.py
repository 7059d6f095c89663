"""How many pods and nodes a rate needs, and what they cost, from what the benchmarks measured.

    python -m benchmarks.sizing            print docs/runbook.md's tables
    python -m benchmarks.sizing --write    write them, and the figures that terraform starts from
    python -m benchmarks.sizing --rate 90000 --node-usd 0.15    for another world

Only open-loop points count: a closed loop waits for its own answers, so its maximum is a rate at
which requests of the world would already stand in line. And CPU is no straight line over the rate:
at half of the maximum it stands at 0.88 of a core, at 0.85 of it still below 1. So two rates are
told apart: `held`, the highest with p99 below 10 ms in every round, and `target`, at which the
autoscaler's 60 % of a core is reached. Pods are counted by the lower one, as the autoscaler does.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from math import ceil
from pathlib import Path
from typing import NamedTuple

from benchmarks import figures
from benchmarks.figures import OpenLoop, Run, Size
from benchmarks.plot import RESULTS, newest
from benchmarks.tables import P99_MAX_MS, table

ROOT = Path(__file__).resolve().parents[1]
RUNBOOK = ROOT / "docs" / "runbook.md"
TERRAFORM = ROOT / "k8s" / "terraform" / "sizing.auto.tfvars.json"
BEGIN, END = "<!-- sizing:begin -->", "<!-- sizing:end -->"

TARGET_CPU = 0.60  # of the api container's request, one core: the HPA's target
RATE = 30_000.0  # requests a second that the field's reference deployment is sized for


class Plan(NamedTuple):
    """What is decided and not measured; k8s/ and terraform hold the same numbers (a test says so).

    The price is an input. It has no bearing on any decision here: give your own, with its date.
    """

    rate: float = RATE
    pod_cpu_m: int = 1400  # requests: api 1000, envoy 300, forwarder 100
    node_cpu_m: int = 7910  # allocatable of 8 vCPU
    daemons_cpu_m: int = 400  # kube-proxy, CNI, node-local DNS, the metrics agent
    disruption_percent: int = 25  # the PodDisruptionBudget's maxUnavailable
    node_usd_an_hour: float = 0.34
    price_of: str = "c6i.2xlarge, on demand, us-east-1, from memory of 2024's list: not looked up"


class Capacity(NamedTuple):
    """What one pod of one worker on one core does with one kind of request, requests a second."""

    name: str
    held: float
    held_p99_ms: float
    target: float


class Fleet(NamedTuple):
    pods: int
    pods_a_node: int
    nodes: int
    pods_min: int  # below, the disruption budget lets a spot node's pods go one after the other
    usd_a_million: float


def held(points: Sequence[OpenLoop]) -> OpenLoop:
    """Find the highest rate that kept p99 below the bar in every round, with no fault."""
    good = [p for p in points if p.p99_ms.high < P99_MAX_MS and p.faults == 0]
    if not good:
        raise SystemExit("no open-loop point keeps p99 below the bar: nothing to size by")
    return max(good, key=lambda point: point.rate)


def rate_at_cpu(points: Sequence[OpenLoop], cores: float) -> float:
    """Give the rate at which the server takes so many cores, between measured points in a line.

    Below the lowest point the line ends at nothing. CPU bends downwards over the rate, so the truth
    there is somewhat less than this says.
    """
    rate_before = cores_before = 0.0
    for point in sorted(points, key=lambda point: point.rate):
        cores_here = point.rate * point.cpu_us.median / 1e6
        if cores_here >= cores:
            share = (cores - cores_before) / (cores_here - cores_before)
            return rate_before + share * (point.rate - rate_before)
        rate_before, cores_before = point.rate, cores_here
    return rate_before  # never reached: what was measured is all that may be promised


def capacities(run: Run, capped_ratio: float) -> Iterator[Capacity]:
    """Give each size of request, and the small one with frequency caps read for every user."""
    for size in run.throughput or ():
        yield _capacity(size, 1.0, size.name)
        if size.body_bytes < 1000:
            yield _capacity(size, capped_ratio, f"{size.name}, capped")


def _capacity(size: Size, ratio: float, name: str) -> Capacity:
    # Whole hundreds, downwards: more digits would claim more than three rounds on one machine say.
    points = size.ours.open_loop
    best = held(points)
    return Capacity(
        name,
        _hundreds(best.rate * ratio),
        best.p99_ms.high,
        min(_hundreds(rate_at_cpu(points, TARGET_CPU) * ratio), _hundreds(best.rate * ratio)),
    )


def _hundreds(rate: float) -> float:
    return rate // 100 * 100.0


def fleet(plan: Plan, capacity: Capacity) -> Fleet:
    pods_a_node = (plan.node_cpu_m - plan.daemons_cpu_m) // plan.pod_cpu_m
    # floor(percent of pods) evictions at once must cover a node: the spot notice is 120 s for all.
    pods_min = ceil(pods_a_node * 100 / plan.disruption_percent)
    pods = ceil(plan.rate / capacity.target)
    nodes = ceil(max(pods, pods_min) / pods_a_node)
    hourly = nodes * plan.node_usd_an_hour
    return Fleet(pods, pods_a_node, nodes, pods_min, hourly / (plan.rate * 3600) * 1e6)


def report(plan: Plan, run: Run, capped_ratio: float) -> str:
    found = list(capacities(run, capped_ratio))
    return "\n\n".join((_table(plan, found), _signal(run), _inputs(plan, run, found[0])))


def _table(plan: Plan, found: Sequence[Capacity]) -> str:
    head = ("request", f"held by a pod at p99 < {P99_MAX_MS:g} ms", "its p99, worst round",
            f"at {TARGET_CPU:.0%} CPU", f"pods for {plan.rate:,.0f}/s", "nodes with the minimum",
            "USD a million requests")  # fmt: skip
    rows = []
    for each in found:
        it = fleet(plan, each)
        rows.append(
            (
                each.name,
                f"{each.held:,.0f}/s",
                f"{each.held_p99_ms:.1f} ms" if "capped" not in each.name else "not measured",
                f"**{each.target:,.0f}/s**",
                f"{it.pods}",
                f"{it.nodes} ({max(it.pods, it.pods_min)} pods)",
                f"{it.usd_a_million:.4f}",
            )
        )
    return table(head, rows)


def _signal(run: Run) -> str:
    head = ("600 B, share of the maximum", "rate", "cores", "p99",
            f"pods the HPA asks for, of one, at {TARGET_CPU:.0%}")  # fmt: skip
    rows = []
    for point in (run.throughput or ())[0].ours.open_loop:
        cores = point.rate * point.cpu_us.median / 1e6
        rows.append(
            (
                f"{point.share:.0%}",
                f"{point.rate:,.0f}/s",
                f"{cores:.2f}",
                f"{point.p99_ms.median:.2f} ms",
                f"{cores / TARGET_CPU:.2f}",
            )
        )
    return table(head, rows)


def _inputs(plan: Plan, run: Run, first: Capacity) -> str:
    it = fleet(plan, first)
    return (
        f"Of `{newest('load').name}` ({run.machine['cpu']}, one worker on one core, "
        f"{run.line_items:,} line items) and `{_caps().name}`. "
        f"Pods: rate / rate at {TARGET_CPU:.0%} CPU, rounded up. A node: "
        f"({plan.node_cpu_m} - {plan.daemons_cpu_m}) / {plan.pod_cpu_m} m = "
        f"{it.pods_a_node} pods. The minimum: {plan.disruption_percent} % of it must be a node's "
        f"pods, so {it.pods_min}. Cost: nodes x price / (rate x 3,600) x 1,000,000, "
        f"at {plan.node_usd_an_hour:g} USD an hour ({plan.price_of})."
    )


def variables(plan: Plan, run: Run, capped_ratio: float) -> dict[str, dict[str, int]]:
    """What terraform's sizing starts from: the capped request, the dearest of the usual ones."""
    small = next(each for each in capacities(run, capped_ratio) if "capped" in each.name)
    return {
        "sizing": {
            "rate": int(plan.rate),
            "pod_rate_held": int(small.held),
            "pod_rate_target": int(small.target),
            "pod_cpu_m": plan.pod_cpu_m,
            "node_cpu_m": plan.node_cpu_m,
            "daemons_cpu_m": plan.daemons_cpu_m,
            "disruption_percent": plan.disruption_percent,
        }
    }


def _caps() -> Path:
    return sorted(RESULTS.glob("caps-throughput-2*.json"))[-1]


def measured() -> tuple[Run, float]:
    """The last full run, and what is left of its rate when each user's counts are read."""
    ratio: float = json.loads(_caps().read_text())["throughput"]["ratio"]
    return figures.read(newest("load")), ratio


def spliced(document: str, text: str) -> str:
    before, rest = document.split(BEGIN)
    return f"{before}{BEGIN}\n{text}\n{END}{rest.split(END)[1]}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rate", type=float, default=RATE, help="requests a second")
    parser.add_argument("--node-usd", type=float, help="price of a node, an hour")
    parser.add_argument("--write", action="store_true", help="into docs/runbook.md and terraform")
    args = parser.parse_args()
    plan = Plan(rate=args.rate)
    if args.node_usd is not None:
        plan = plan._replace(node_usd_an_hour=args.node_usd, price_of="as given")
    run, ratio = measured()
    text = report(plan, run, ratio)
    if not args.write:
        print(text)
        return
    RUNBOOK.write_text(spliced(RUNBOOK.read_text(), text))
    TERRAFORM.write_text(json.dumps(variables(plan, run, ratio), indent=2) + "\n")


if __name__ == "__main__":
    main()
