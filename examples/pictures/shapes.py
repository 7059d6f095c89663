"""The few SVG shapes that the scenes are made of, as text."""

from collections.abc import Iterable

Point = tuple[float, float]


def sky(top: str, bottom: str, middle: str | None = None) -> str:
    between = f'<stop offset=".55" stop-color="{middle}"/>' if middle else ""
    return (
        f'<defs><linearGradient id="sky" x2="0" y2="1"><stop stop-color="{top}"/>{between}'
        f'<stop offset="1" stop-color="{bottom}"/></linearGradient></defs>'
        '<rect width="600" height="400" fill="url(#sky)"/>'
    )


def path(fill: str, d: str, more: str = "") -> str:
    return f'<path fill="{fill}" d="{d}" {more}/>'


def line(stroke: str, width: float, d: str, more: str = "") -> str:
    return (
        f'<path fill="none" stroke="{stroke}" stroke-width="{width}" stroke-linecap="round" '
        f'stroke-linejoin="round" d="{d}" {more}/>'
    )


def dot(fill: str, x: float, y: float, r: float, more: str = "") -> str:
    return f'<circle fill="{fill}" cx="{x}" cy="{y}" r="{r}" {more}/>'


def box(fill: str, x: float, y: float, size: Point, rx: float = 0, more: str = "") -> str:
    width, height = size
    return (
        f'<rect fill="{fill}" x="{x}" y="{y}" width="{width}" height="{height}" rx="{rx}" {more}/>'
    )


def dots(fill: str, points: Iterable[Point], r: float, more: str = "") -> str:
    return "".join(dot(fill, x, y, r, more) for x, y in points)


def cloud(x: float, y: float, scale: float, opacity: float) -> str:
    return (
        f'<g transform="translate({x} {y}) scale({scale})" fill="#fff" opacity="{opacity}">'
        '<ellipse cx="60" cy="30" rx="60" ry="14"/><circle cx="44" cy="20" r="20"/>'
        '<circle cx="76" cy="16" r="26"/><circle cx="100" cy="26" r="14"/></g>'
    )
