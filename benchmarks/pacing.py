"""A simulated day of pacing, ours beside what others do: overspend, delivery, pace.

python -m benchmarks.pacing                    three seeds of 24 h, about 25 minutes of a core
python -m benchmarks.pacing --quick            one seed of 3 h and 60 items, a minute
python -m benchmarks.pacing --write [RESULT]   tables and figure of a result into the documents
"""

import argparse
import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import pacing_figures as figures
from benchmarks.drawing import INK, OTHER, OURS, clean, pyplot, save
from benchmarks.machine import machine, versions
from benchmarks.pacing_sim import RULES, run
from benchmarks.pacing_world import make
from benchmarks.plot import IMAGES, RESULTS, insert, newest
from server.pacing import pace
from server.pacing.goals import HOURS, IMPRESSION, PPM, Goals, Seen, Supply

MARKERS = ("<!-- pacing:begin -->", "<!-- pacing:end -->")
PAGE = IMAGES.parent / "pacing.md"
README = Path(__file__).with_name("README.md")


def step_times(lines: int = 100_000, rounds: int = 9) -> dict[str, Any]:
    """CPU time of one step for so many line items, each with an account and a campaign's."""
    draw = np.random.default_rng(1)
    campaigns, start = lines // 20, 1_796_169_600.0
    place, campaign = np.arange(lines), np.sort(draw.integers(0, lines // 20, lines))
    accounts = lines + campaigns
    flags, none = np.ones(lines, np.bool_), np.zeros(lines, np.int64)
    goals = Goals(
        ids=place + 1, priority=none + 6, guaranteed=flags, start_s=np.full(lines, start),
        end_s=np.full(lines, start + 7 * 86_400), active=flags, event=none + IMPRESSION,
        booked_ppm=none + PPM, keys=tuple(map(str, range(accounts))),
        limit=draw.integers(50, 10**6, accounts).astype(float),
        begin_s=np.full(accounts, start), close_s=np.full(accounts, start + 7 * 86_400),
        pacing=np.zeros(accounts, np.int64), curve=np.full(accounts, -1),
        use_line=np.r_[place, place], use_account=np.r_[place, lines + campaign],
        use_event=np.zeros(2 * lines, np.int64), use_price=np.ones(2 * lines),
        curves=np.zeros((0, HOURS)), until_s=np.inf,
    )  # fmt: skip
    supply = Supply(
        shapes=draw.random((2000, HOURS)), shape=draw.integers(0, 2000, lines),
        scale=10 ** draw.uniform(-1, 3, lines), strength=np.full(lines, 25.0),
        ceiling=np.full(lines, 1e4),
    )  # fmt: skip
    state = pace.State.fresh(goals)
    billed, took = none.copy(), []
    for number in range(rounds):
        now_s = start + 86_400 + number * pace.STEP_S
        billed = billed + draw.poisson(1, lines)
        spent = np.r_[billed, np.bincount(campaign, billed, campaigns)].astype(float)
        before = time.process_time()
        pace.observe(goals, state, supply, Seen(now_s, billed, none, none, spent, ~flags), now_s)
        middle = time.process_time()
        pace.apply(state, pace.rates(goals, state, supply, now_s), now_s)
        took.append((middle - before, time.process_time() - middle))
    observe_ms, rates_ms = 1000 * np.median(np.array(took[1:]), axis=0)
    return {"lines": lines, "observe_ms": float(observe_ms), "rates_ms": float(rates_ms)}


def measure(seeds: list[int], rules: list[str], path: Path, **world: Any) -> dict[str, Any]:
    """Run all, and write what there is after each."""
    result: dict[str, Any] = {"machine": machine(), "versions": versions(), "world": world,
                              "step": step_times(), "runs": []}  # fmt: skip
    for seed in seeds:
        made = make(seed, **world)
        for rule in rules:
            began = time.process_time()
            found = figures.figures(made, run(made, rule), time.process_time() - began)
            result["runs"].append(found)
            path.write_text(json.dumps(result, indent=1) + "\n")
            print({key: value for key, value in found.items() if key not in ("band", "short")})
    return result


def draw(result: dict[str, Any], image: Path) -> None:
    """Left: how far from plan, the middle 95 % of items. Right: what was spent over budgets."""
    figure, axes = pyplot().subplots(1, 3, figsize=(12, 3.7), width_ratios=(2, 1, 1))
    first = min(run["seed"] for run in result["runs"])
    colours = {"ours": OURS, "linkedin": OTHER, "share": "#d9822b", "naive": "#c23030"}
    runs = {run["rule"]: run for run in result["runs"] if run["seed"] == first}
    for rule in ("linkedin", "ours"):
        if rule in runs:
            band = runs[rule]["band"]
            low, middle, high = (100 * np.array(band[name]) for name in ("low", "middle", "high"))
            axes[0].fill_between(band["hours"], low, high, color=colours[rule], alpha=0.35)
            axes[0].plot(band["hours"], middle, color=colours[rule], label=figures.NAMES[rule])
    axes[0].set_xlabel("hour of the simulated day")
    axes[0].set_ylabel("spent less planned, % of budget")
    axes[0].set_ylim(-6, 6)
    axes[0].set_title("middle 95 % of even line items, cut at ±6 %", fontsize=9)
    axes[0].legend(frameon=False, fontsize=8)
    for axis, name, title in (
        (axes[1], "overspent_worst", "worst line item's overspend, %"),
        (axes[2], "pace_rms_apt", "distance from plan, RMS, %, where apt"),
    ):
        shown = [rule for rule in RULES if rule in runs]
        values = [100 * runs[rule][name] for rule in shown]
        bars = axis.bar(range(len(shown)), values, 0.6, color=[colours[rule] for rule in shown])
        axis.bar_label(bars, [f"{value:,.2g}" if value < 100 else f"{value:,.0f}"
                              for value in values], padding=2, fontsize=8, color=INK)  # fmt: skip
        axis.set_yscale("symlog", linthresh=0.1)
        names = {"ours": "adcore", "naive": "delayed", "linkedin": "±10 %", "share": "share"}
        axis.set_xticks(range(len(shown)), [names[rule] for rule in shown], fontsize=8)
        axis.set_title(title, fontsize=9)
        axis.set_ylim(0, max(values) * 4)
    for axis in axes:
        clean(axis)
    figure.tight_layout()
    save(figure, image)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seeds", type=int, nargs="*", default=[1, 2, 3])
    parser.add_argument("--rules", nargs="*", default=list(RULES), choices=RULES)
    parser.add_argument("--output", type=Path, help="instead of one in benchmarks/results")
    parser.add_argument("--write", nargs="?", const="", metavar="RESULT")
    asked = parser.parse_args()
    if asked.write is not None:
        result = json.loads((Path(asked.write) if asked.write else newest("pacing")).read_text())
        insert(README, figures.tables(result), MARKERS)
        insert(PAGE, figures.bars(result), MARKERS)
        draw(result, IMAGES / "pacing.svg")
        return
    size = {"items": 60, "seconds": 10_800} if asked.quick else {"items": 200, "seconds": 86_400}
    kind = "quick" if asked.quick else "full"
    path = asked.output or RESULTS / f"pacing-{kind}-{datetime.now(UTC):%Y-%m-%d}.json"
    result = measure(asked.seeds[:1] if asked.quick else asked.seeds, asked.rules, path, **size)
    print(figures.tables(result))


if __name__ == "__main__":
    main()
