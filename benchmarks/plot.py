"""Draws docs/images/load.svg and engine.svg from results; writes load's tables into the documents.

    python -m benchmarks.plot [RESULT] [--engine RESULT]    of the last full runs unless named

The engine's tables are written by `python -m benchmarks.engine --write`, which measures them.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import engine_figures, engine_plot, figures
from benchmarks.drawing import INK, OTHER, OURS, clean, pyplot, save
from benchmarks.figures import Run, Served, Size
from benchmarks.tables import tables

RESULTS = Path(__file__).with_name("results")
_ROOT = Path(__file__).resolve().parents[1]
IMAGES = _ROOT / "docs" / "images"
DOCUMENTS = (_ROOT / "README.md", _ROOT / "benchmarks" / "README.md")
BEGIN, END = "<!-- load:begin -->", "<!-- load:end -->"

COLOURS = {"ours": OURS, "floor": OTHER}
NAMES = {"ours": "adcore, real decisions", "floor": "floor: empty app"}
_STYLES = {"p50_ms": ("-", "p50"), "p99_ms": ("--", "p99"), "p99_9_ms": (":", "p99.9")}


def newest(benchmark: str) -> Path:
    """The last full run's result: parts and quick runs have other names."""
    found = sorted(RESULTS.glob(f"{benchmark}-full-2*.json"))
    if not found:
        raise SystemExit(f"no result yet: run `python -m benchmarks.{benchmark}` first")
    return found[-1]


def larger() -> Run | None:
    """The last full run that swapped more line items than all runs do, if there is one."""
    found = sorted(RESULTS.glob("load-full-swap-*-2*.json"), key=lambda path: path.name[-15:])
    return figures.read(found[-1]) if found else None


def draw(run: Run, image: Path) -> None:
    """One figure: latency over rate for each size of request, and the highest rates."""
    sizes = run.throughput
    if not sizes:
        raise SystemExit("this result has no throughput part to draw")
    figure, axes = pyplot().subplots(1, len(sizes) + 1, figsize=(4 * (len(sizes) + 1), 3.9))
    for size, axis in zip(sizes, axes[:-1], strict=True):
        axis.sharey(axes[0])
        _latencies(axis, size)
    _maxima(axes[-1], sizes)
    machine = run.machine
    figure.suptitle(
        f"{run.line_items:,} line items, one worker on one core "
        f"({machine['cpu']}, {machine['cores']} cores)",
        fontsize=10,
    )
    handles, labels = axes[-1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=len(labels), frameon=False)
    figure.tight_layout(rect=(0, 0.06, 1, 1))
    save(figure, image)


def _latencies(axis: Any, size: Size) -> None:
    from matplotlib.ticker import LogLocator, MaxNLocator

    for who in ("floor", "ours"):
        served: Served = getattr(size, who)
        rates = [point.rate for point in served.open_loop]
        for field, (style, label) in _STYLES.items():
            values = [getattr(point, field).median for point in served.open_loop]
            axis.plot(
                rates, values, style, color=COLOURS[who], marker="o", markersize=3, linewidth=1.6
            )
            axis.annotate(
                label,
                (rates[-1], values[-1]),
                xytext=(5, 0),
                textcoords="offset points",
                va="center",
                fontsize=8,
                color=COLOURS[who],
            )
    axis.set_yscale("log")
    axis.set_ylabel("latency from the intended send time, ms")
    axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.yaxis.set_major_formatter("{x:g}")
    axis.minorticks_off()
    axis.set_xlim(left=0, right=axis.get_xlim()[1] * 1.12)
    axis.set_xlabel("requests a second")
    axis.xaxis.set_major_locator(MaxNLocator(5))
    axis.xaxis.set_major_formatter("{x:,.0f}")
    axis.set_title(f"open loop, {size.name} a request", fontsize=9)
    clean(axis)


def _maxima(axis: Any, sizes: Sequence[Size]) -> None:
    for offset, who in enumerate(("ours", "floor")):
        spreads = [getattr(size, who).max_rate for size in sizes]
        medians = [spread.median for spread in spreads]
        places = [place + 0.38 * (offset - 0.5) for place in range(len(sizes))]
        errors = [
            [spread.median - spread.low for spread in spreads],
            [spread.high - spread.median for spread in spreads],
        ]
        bars = axis.bar(
            places, medians, 0.36, yerr=errors, color=COLOURS[who], ecolor=INK, label=NAMES[who]
        )
        axis.bar_label(bars, [f"{median:,.0f}" for median in medians], padding=3, fontsize=8)
    axis.set_xticks(range(len(sizes)), [f"{size.name} a request" for size in sizes])
    axis.set_ylabel("requests a second")
    axis.yaxis.set_major_formatter("{x:,.0f}")
    axis.set_ylim(top=axis.get_ylim()[1] * 1.1)
    axis.set_title("closed loop: the highest rate on one core", fontsize=9)
    clean(axis)


def insert(document: Path, text: str, markers: tuple[str, str] = (BEGIN, END)) -> bool:
    """Replace what stands between the markers; False when the document has none."""
    whole = document.read_text()
    head, begin, rest = whole.partition(markers[0])
    _, end, tail = rest.partition(markers[1])
    if not (begin and end):
        return False
    document.write_text(f"{head}{begin}\n{text.strip()}\n{end}{tail}")
    return True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("result", type=Path, nargs="?", help="of benchmarks.load")
    parser.add_argument("--engine", type=Path, help="a result of benchmarks.engine")
    asked = parser.parse_args()
    path = asked.result or newest("load")
    run = figures.read(path)
    draw(run, IMAGES / "load.svg")
    engine_plot.draw(engine_figures.read(asked.engine or newest("engine")), IMAGES / "engine.svg")
    for document in DOCUMENTS:
        if document.exists() and insert(document, tables(run, larger())):
            print(f"wrote the tables of {path.name} into {document.relative_to(_ROOT)}")
    print(f"drew load.svg and engine.svg in {IMAGES.relative_to(_ROOT)}")


if __name__ == "__main__":
    main()
