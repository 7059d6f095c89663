"""The example's ad pictures: `python -m examples.creatives` draws them anew.

One row of `BRANDS` is one advertiser's look, so its ads agree in every size. Letters are drawn with
the viewer's own fonts; `_fitted` leaves room for the widest of them.
"""

from html import escape
from pathlib import Path
from typing import NamedTuple

from examples.pictures.brands import BRANDS, Brand

FOLDER = Path(__file__).resolve().parent.parent / "server/console/static/creatives"
SANS = "Helvetica Neue,Helvetica,Arial,sans-serif"
SERIF = "Georgia,Times New Roman,serif"
NATIVE = (600, 400)
ICON = (96, 96)
_NARROW, _WIDE = frozenset("ijlI.,:;'|!-()ft r"), frozenset("mwMW@%€")


class Box(NamedTuple):
    x: float
    y: float
    width: float
    height: float


def _em(text: str, *, bold: bool, serif: bool) -> float:
    """Measure the text in ems, a little generously: fonts differ by a tenth between systems."""
    width = 0.0
    for letter in text:
        if letter in _NARROW:
            width += 0.33
        elif letter in _WIDE:
            width += 0.88
        else:
            width += 0.72 if letter.isupper() else 0.56
    return width * (1.06 if bold else 1.0) * (1.04 if serif else 1.0)


def _fitted(text: str, width: float, size_max: float, *, bold: bool, serif: bool) -> float:
    return min(size_max, round(width / _em(text, bold=bold, serif=serif), 1))


def _text(x: float, y: float, size: float, text: str, look: str) -> str:
    return f'<text x="{x:g}" y="{y:g}" font-size="{size:g}" {look}>{escape(text)}</text>'


def _scene(brand: Brand, box: Box) -> str:
    return (
        f'<svg x="{box.x:g}" y="{box.y:g}" width="{box.width:g}" height="{box.height:g}" '
        f'viewBox="0 0 600 400" preserveAspectRatio="xMidYMid slice">{brand.art()}</svg>'
    )


def _logo(brand: Brand, x: float, y: float, size: float) -> str:
    """Draw the mark and the wordmark, `size` pixels high, top left at x, y."""
    scale = size / 24
    word = size * 0.74
    face = SERIF if brand.serif else SANS
    return f'<g transform="translate({x:g} {y:g}) scale({scale:.3g})">{brand.mark}</g>' + _text(
        x + size * 1.32,
        y + size * 0.77,
        word,
        brand.name,
        f'font-family="{face}" font-weight="700" fill="{brand.ink}" '
        f'letter-spacing="{brand.tracking:g}"',
    )


def _headline(brand: Brand, lines: tuple[str, ...], box: Box, size_max: float) -> tuple[str, float]:
    """Draw the headline from the top of the box; also say where it ends."""
    face = SERIF if brand.serif else SANS
    size = min(_fitted(line, box.width, size_max, bold=True, serif=brand.serif) for line in lines)
    look = f'font-family="{face}" font-weight="700" fill="{brand.ink}"'
    drawn = "".join(
        _text(box.x, round(box.y + size * (0.82 + 1.14 * n), 1), size, line, look)
        for n, line in enumerate(lines)
    )
    return drawn, box.y + size * (0.82 + 1.14 * (len(lines) - 1) + 0.3)


def _sub(brand: Brand, x: float, y: float, width: float, size_max: float) -> str:
    size = _fitted(brand.sub, width, size_max, bold=False, serif=False)
    return _text(
        x, y, size, brand.sub, f'font-family="{SANS}" fill="{brand.ink}" fill-opacity=".86"'
    )


def _button(brand: Brand, box: Box) -> str:
    size = _fitted(brand.cta, box.width - 24, box.height * 0.43, bold=True, serif=False)
    return (
        f'<rect x="{box.x:g}" y="{box.y:g}" width="{box.width:g}" height="{box.height:g}" '
        f'rx="{min(brand.round, box.height / 2):g}" fill="{brand.accent}"/>'
        + _text(
            box.x + box.width / 2,
            round(box.y + box.height / 2 + size * 0.35, 1),
            size,
            brand.cta,
            f'text-anchor="middle" font-family="{SANS}" font-weight="700" '
            f'fill="{brand.accent_ink}"',
        )
    )


def _button_width(brand: Brand, height: float) -> float:
    return round(_em(brand.cta, bold=True, serif=False) * height * 0.43 + height * 0.95)


def _panel(brand: Brand, seam: str) -> str:
    """Draw the coloured ground that text stands on; `seam` is its outline in the brand's cut."""
    return f'<path d="{seam}" fill="{brand.ground}"/>'


def _fade(brand: Brand, box: Box) -> str:
    """Let the picture sink into the ground towards the right, where the button is."""
    ground = f'stop-color="{brand.ground}"'
    return (
        f'<defs><linearGradient id="fade"><stop offset=".5" {ground} stop-opacity="0"/>'
        f'<stop offset=".95" {ground}/></linearGradient></defs>'
        f'<rect x="{box.x:g}" y="{box.y:g}" width="{box.width:g}" height="{box.height:g}" '
        'fill="url(#fade)"/>'
    )


def _across(brand: Brand, height: float, seam: float) -> str:
    """Outline the ground left of x = seam, with the brand's edge."""
    if brand.edge == "wave":
        bulge = height * 0.18
        return (
            f"M0 0H{seam:g}C{seam + bulge:g} {height * 0.3:g} {seam - bulge:g} {height * 0.7:g} "
            f"{seam:g} {height:g}H0z"
        )
    if brand.edge == "slant":
        return f"M0 0H{seam + height * 0.14:g}L{seam - height * 0.14:g} {height:g}H0z"
    if brand.edge == "arc":
        side = seam - height * 0.1
        return f"M0 0H{side:g}Q{seam + height * 0.16:g} {height / 2:g} {side:g} {height:g}H0z"
    return f"M0 0H{seam:g}V{height:g}H0z"


def _below(brand: Brand, width: float, height: float, seam: float) -> str:
    """Outline the ground under y = seam, with the brand's edge."""
    rise = width * 0.06
    if brand.edge == "wave":
        bends = f"{width * 0.3:g} {seam - 2 * rise:g} {width * 0.7:g} {seam + rise:g}"
        top = f"M0 {seam:g}C{bends} {width:g} {seam - rise / 2:g}"
    elif brand.edge == "slant":
        top = f"M0 {seam:g}L{width:g} {seam - 1.6 * rise:g}"
    elif brand.edge == "arc":
        top = f"M0 {seam:g}Q{width / 2:g} {seam - 2 * rise:g} {width:g} {seam:g}"
    else:
        top = f"M0 {seam:g}H{width:g}"
    return f"{top}V{height:g}H0z"


def billboard(brand: Brand) -> str:
    headline, end = _headline(brand, brand.lines, Box(48, 66, 400, 0), 38)
    width = _button_width(brand, 38)
    return (
        _scene(brand, Box(420, 0, 550, 250))
        + _panel(brand, _across(brand, 250, 500))
        + _logo(brand, 48, 28, 26)
        + headline
        + _sub(brand, 48, end + 17, 390, 16)
        + _button(brand, Box(48, 190, width, 38))
    )


def leaderboard(brand: Brand) -> str:
    width = _button_width(brand, 36)
    right = 728 - 20 - width
    room = right - 188 - 96
    _, height = _headline(brand, (brand.short,), Box(188, 0, room, 0), 25)
    headline, end = _headline(brand, (brand.short,), Box(188, 39 - height / 2, room, 0), 25)
    name = _fitted(brand.name, 116, 17, bold=True, serif=brand.serif)
    picture = Box(right - 140, 0, 200, 90)
    return (
        f'<rect width="728" height="90" fill="{brand.ground}"/>'
        + _scene(brand, picture)
        + _fade(brand, picture)
        + _panel(brand, _across(brand, 90, right - 70))
        + _logo(brand, 18, 45 - name / 0.74 / 2, name / 0.74)
        + f'<rect x="170" y="24" width="1" height="42" fill="{brand.ink}" fill-opacity=".3"/>'
        + headline
        + _sub(brand, 188, end + 12, room, 13)
        + _button(brand, Box(right, 27, width, 36))
    )


def rectangle(brand: Brand) -> str:
    headline, end = _headline(brand, brand.lines, Box(18, 132, 264, 0), 24)
    width = _button_width(brand, 30)
    return (
        _scene(brand, Box(0, -0.68 * brand.focus, 300, 200))
        + _panel(brand, _below(brand, 300, 250, 128))
        + headline
        + _sub(brand, 18, end + 11, 264, 12.5)
        + _button(brand, Box(284 - width, 209, width, 29))
        + _logo(brand, 18, 213, _logo_height(brand, 266 - width - 12, 20))
    )


def half_page(brand: Brand) -> str:
    headline, end = _headline(brand, brand.lines, Box(26, 400, 248, 0), 36)
    return (
        _scene(brand, Box(0, 0, 300, 396))
        + _panel(brand, _below(brand, 300, 600, 372))
        + headline
        + _sub(brand, 26, end + 16, 248, 15)
        + _button(brand, Box(26, 506, 248, 42))
        + _logo(brand, 26, 563, _logo_height(brand, 248, 22))
    )


def mobile_banner(brand: Brand) -> str:
    width = _button_width(brand, 28)
    right = 320 - 8 - width
    headline, _ = _headline(brand, brand.lines, Box(44, 8, right - 52, 0), 15)
    return (
        f'<rect width="320" height="50" fill="{brand.ground}"/>'
        + f'<g transform="translate(10 13)">{brand.mark}</g>'
        + headline
        + _button(brand, Box(right, 11, width, 28))
    )


def mobile_large(brand: Brand) -> str:
    headline, _ = _headline(brand, brand.lines, Box(14, 38, 176, 0), 19)
    width = _button_width(brand, 26)
    return (
        _scene(brand, Box(170, 0, 150, 100))
        + _panel(brand, _across(brand, 100, 204))
        + _logo(brand, 14, 12, _logo_height(brand, 170, 17))
        + headline
        + _button(brand, Box(310 - width, 66, width, 26))
    )


def _logo_height(brand: Brand, width: float, height_max: float) -> float:
    em = _em(brand.name, bold=True, serif=brand.serif) * 0.74 + 1.32
    return min(height_max, round((width - brand.tracking * len(brand.name)) / em, 1))


def native(brand: Brand) -> str:
    return _scene(brand, Box(0, 0, *NATIVE))


def icon(brand: Brand) -> str:
    return (
        f'<rect width="96" height="96" rx="22" fill="{brand.ground}"/>'
        f'<g transform="translate(18 18) scale(2.5)">{brand.mark}</g>'
    )


SIZES = {
    "970x250": (970, 250, billboard),
    "728x90": (728, 90, leaderboard),
    "300x250": (300, 250, rectangle),
    "300x600": (300, 600, half_page),
    "320x50": (320, 50, mobile_banner),
    "320x100": (320, 100, mobile_large),
    "native": (*NATIVE, native),
    "icon": (*ICON, icon),
}


def pictures() -> dict[str, str]:
    """Draw every picture, by file name."""
    return {
        f"{brand.slug}-{size}.svg": (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
            f'viewBox="0 0 {width} {height}"><title>{escape(brand.name)}</title>'
            f"{draw(brand)}</svg>\n"
        )
        for brand in BRANDS
        for size in brand.sizes
        for width, height, draw in [SIZES[size]]
    }


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    drawn = pictures()
    for stale in FOLDER.glob("*.svg"):
        if stale.name not in drawn:
            stale.unlink()
    for name, markup in drawn.items():
        (FOLDER / name).write_text(markup, encoding="utf-8")


if __name__ == "__main__":
    main()
