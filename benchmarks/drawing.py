"""What the pictures have in common: ink, axes, and files that are the same for the same result."""

from pathlib import Path
from typing import Any

INK, GRID = "#1f2933", "#e4e7eb"
OURS, OTHER = "#0b6bcb", "#9aa5b1"


def pyplot() -> Any:
    """matplotlib's, set up for SVG; imported late, as only drawing needs it."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams.update(
        {"font.size": 9, "font.family": "sans-serif", "text.color": INK, "axes.edgecolor": GRID,
         "axes.labelcolor": INK, "xtick.color": INK, "ytick.color": INK, "svg.hashsalt": "adcore"}
    )  # fmt: skip
    from matplotlib import pyplot

    return pyplot


def clean(axis: Any) -> None:
    axis.grid(axis="y", color=GRID, linewidth=0.8)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)


def save(figure: Any, image: Path) -> None:
    """On white, not on nothing: the ink must show on a dark page too."""
    image.parent.mkdir(parents=True, exist_ok=True)
    # No date inside: the same result gives the same bytes.
    metadata = {"Date": None} if image.suffix == ".svg" else None
    figure.savefig(image, metadata=metadata, facecolor="white")
    pyplot().close(figure)
