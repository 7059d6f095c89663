"""Draws docs/images/engine.svg: what a select and a full match take as the catalog grows."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from msgspec import Struct

from benchmarks.drawing import GRID, INK, OURS, clean, pyplot, save
from benchmarks.engine_figures import Case, Latency, Run

WINNERS = 10
LABEL_POINTS = 10  # a line of a name, at 8 points
MATCHED = "ADS-A"
_COLOURS = {
    "ADS-A": OURS,
    "ADS-B": "#0f8a5f",
    "by score": "#c2410c",
    "adcore": OURS,
    "CRoaring": "#c2410c",
    "NumPy": "#7c3aed",
    "adcore's scan": "#616e7c",
}


class Curve(Struct, frozen=True):
    name: str  # in _COLOURS
    label: str
    points: list[tuple[int, Latency]]  # line items, and what a call takes


def draw(run: Run, image: Path) -> None:
    plot = pyplot()
    figure, (selecting, matching) = plot.subplots(1, 2, figsize=(10, 4.2))
    _draw(selecting, list(selects(run)), f"the best {WINNERS}")
    _draw(matching, list(matches(run)), f"all that match, {MATCHED}")
    selecting.set_ylabel("one call, µs")
    for style, label in (("-", "median"), ("--", "99th percentile")):
        selecting.plot([], [], style, color=INK, linewidth=1.6, label=label)
    machine = run.machine
    figure.suptitle(
        f"the engine as the catalog grows ({machine['cpu']}, one core, logarithmic scales)",
        fontsize=10,
    )
    handles, labels = selecting.get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=len(labels), frameon=False)
    figure.tight_layout(rect=(0, 0.06, 1, 1))
    save(figure, image)


def selects(run: Run) -> Iterator[Curve]:
    """Of the workloads measured at every size, and by score where that was measured."""
    sizes = {case.line_items for case in run.cases}
    for name in dict.fromkeys(case.workload for case in run.cases):
        cases = [case for case in run.cases if case.workload == name]
        if {case.line_items for case in cases} == sizes and name in _COLOURS:
            yield Curve(name, name, [(case.line_items, _select(case)) for case in cases])
        scored = [(case.line_items, it.latency) for case in cases if (it := case.by_score)]
        if scored:
            yield Curve("by score", f"{name} by score,\nbids x 0.5 to 1.5", scored)


def _select(case: Case) -> Latency:
    [selected] = [it for it in case.select if it.winners == WINNERS]
    return selected.latency


def matches(run: Run) -> Iterator[Curve]:
    cases = [case for case in run.cases if case.workload == MATCHED]
    for place, it in enumerate(cases[0].match):
        points = [(case.line_items, case.match[place].latency) for case in cases]
        yield Curve(it.engine, it.engine, points)


def _draw(axis: Any, curves: list[Curve], title: str) -> None:
    from matplotlib.ticker import LogLocator

    axis.set_xscale("log")
    axis.set_yscale("log")
    for curve in curves:
        colour = _COLOURS[curve.name]
        sizes = [size for size, _ in curve.points]
        p50 = [latency.p50_us.median for _, latency in curve.points]
        p99 = [latency.p99_us.median for _, latency in curve.points]
        axis.plot(sizes, p99, "--", color=colour, marker="o", markersize=3, linewidth=1.1)
        axis.plot(sizes, p50, "-", color=colour, marker="o", markersize=3, linewidth=1.6)
    _label(axis, curves)
    axis.set_xticks(sizes, [f"{size:,}" for size in sizes])
    low, high = axis.get_ylim()
    if high < 1000 * low:  # powers of ten alone would be two ticks
        axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.minorticks_off()
    axis.set_xlabel("line items")
    axis.yaxis.set_major_formatter("{x:,g}")
    axis.set_title(title, fontsize=9)
    axis.grid(axis="x", color=GRID, linewidth=0.8)
    clean(axis)


def _label(axis: Any, curves: list[Curve]) -> None:
    """Name each curve beside its last point, or as near above as the name below leaves room."""
    left, right = axis.get_xlim()
    axis.set_xlim(left, right * 5)  # room for the names
    points_a_pixel = 72 / axis.figure.dpi
    free_from = 0.0
    for curve in sorted(curves, key=lambda it: it.points[-1][1].p50_us.median):
        size, latency = curve.points[-1]
        place = (size, latency.p50_us.median)
        half = LABEL_POINTS * (1 + curve.label.count("\n")) / 2
        middle = axis.transData.transform(place)[1] * points_a_pixel
        raised = max(0.0, free_from + half - middle)
        free_from = middle + raised + half
        axis.annotate(
            curve.label,
            place,
            xytext=(6, raised),
            textcoords="offset points",
            va="center",
            fontsize=8,
            color=_COLOURS[curve.name],
        )
