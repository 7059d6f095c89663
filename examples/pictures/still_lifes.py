"""The scenes within reach of a hand: one function an advertiser.

Each fills a 600 x 400 view box. What matters sits in the middle 350 x 270, because `creatives.py`
cuts the scene to the ad's shape.
"""

from examples.pictures.shapes import box, dot, dots, line, path, sky


def pebblo() -> str:
    """Draw two payment cards and a handful of pebbles."""
    front = (
        box("#10312b", 0, 0, (236, 148), 18)
        + box("#f4d58d", 24, 30, (40, 30), 6)
        + line("#3c6a60", 5, "M24 100h96M24 120h60")
        + line(
            "#7fdcb9", 5, "M178 34a22 22 0 0 1 0 24M190 26a36 36 0 0 1 0 40M202 18a50 50 0 0 1 0 56"
        )
        + '<ellipse cx="196" cy="116" rx="20" ry="11" fill="#7fdcb9"/>'
    )
    return (
        sky("#c9f2df", "#7fdcb9")
        + dot("#a5e8cd", 500, 60, 120)
        + '<g transform="translate(214 76) rotate(11)">'
        + box("#ff8f70", 0, 0, (236, 148), 18)
        + box("#ffb59f", 0, 28, (236, 26))
        + "</g>"
        + f'<g transform="translate(156 158) rotate(-9)">{front}</g>'
        + '<ellipse cx="196" cy="352" rx="44" ry="20" fill="#5ec29e"/>'
        + '<ellipse cx="268" cy="366" rx="30" ry="14" fill="#48ab88"/>'
        + '<ellipse cx="410" cy="346" rx="54" ry="24" fill="#5ec29e"/>'
    )


def fennel_rye() -> str:
    """Draw a bowl from above with what grows this week."""
    leaf = "M0 0c14-34 48-44 82-30-10 34-44 48-82 30z"
    leaves = "".join(
        f'<g transform="translate(300 206) rotate({angle}) translate(34 0)">'
        + path(colour, leaf)
        + "</g>"
        for angle, colour in ((0, "#5f9e4a"), (70, "#88bf5c"), (150, "#4b8a43"), (235, "#78b356"))
    )
    tomatoes = ((250, 166, 27), (352, 250, 31), (300, 286, 22))
    return (
        sky("#fff6e3", "#f8e2b8")
        + dot("#f3cf8a", 90, 70, 74)
        + dot("#fbe8bd", 90, 70, 60)
        + path("#e8a23a", "M462 292a52 52 0 1 0 104 0 52 52 0 1 0-104 0")
        + path("#ffd981", "M470 292a44 44 0 1 0 88 0 44 44 0 1 0-88 0")
        + line("#fff3cf", 4, "M514 250v84M472 292h84M484 262l60 60M484 322l60-60")
        + dot("#d9c3a0", 304, 218, 146)
        + dot("#fffdf7", 300, 208, 144)
        + dot("#efe3cd", 300, 208, 118)
        + leaves
        + "".join(
            dot("#d6472f", x, y, r) + dot("#ef7a5c", x - r / 3, y - r / 3, r / 4)
            for x, y, r in tomatoes
        )
        + dots("#b65c8d", [(330, 158), (218, 236), (276, 222)], 13)
        + dots("#f6dbe9", [(330, 158), (218, 236), (276, 222)], 7)
        + line("#5f9e4a", 6, "M44 366c30-70 60-96 112-120M60 330l-22-30M84 300l-20-38")
    )


def kontor_neun() -> str:
    """Draw a flat white from above, beans around it."""
    bean = path("#4a2716", "M-22 0a22 14 0 1 0 44 0 22 14 0 1 0-44 0") + line(
        "#7a4a2c", 2.5, "M-18 0C-8-6 8 6 18 0"
    )
    places = (
        (92, 84, 20), (128, 300, 70), (508, 120, 110), (474, 328, 35), (70, 210, 140),
        (540, 236, 60), (180, 44, 95), (420, 52, 10), (210, 366, 5), (380, 374, 150),
    )  # fmt: skip
    beans = "".join(
        f'<g transform="translate({x} {y}) rotate({turn})">{bean}</g>' for x, y, turn in places
    )
    return (
        sky("#e9d3b4", "#c99a66")
        + beans
        + dot("#000", 308, 214, 138, 'opacity=".14"')
        + dot("#fdf6ea", 300, 204, 136)
        + dot("#e6d8c3", 300, 204, 112)
        + path("#fdf6ea", "M390 190c40-16 84-20 96 2s-26 42-84 44z")
        + dot("#fdf6ea", 300, 204, 96)
        + dot("#8a4f27", 300, 204, 84)
        + dot("#a86a3a", 300, 204, 74)
        + path(
            "#fbeedb",
            "M300 270c-54-34-62-74-40-92 16-12 34-4 40 12 6-16 24-24 40-12 22 18 14 58-40 92z",
        )
        + path(
            "#c58d5c",
            "M300 244c-32-22-38-46-24-56 10-6 20 0 24 10 4-10 14-16 24-10 14 10 8 34-24 56z",
        )
    )


def philharmonic() -> str:
    """Draw a cello between sound waves."""
    waves = "".join(
        line("#e7b75f", 2, f"M0 {y}c100-{60 - n * 8} 200-{60 - n * 8} 300 0s200 {60 - n * 8} 300 0")
        for n, y in enumerate((120, 146, 172, 198, 224, 250, 276))
    )
    return (
        sky("#3b0d20", "#7a1d35")
        + f'<g opacity=".55">{waves}</g>'
        + '<g transform="translate(300 204) rotate(16)">'
        + path(
            "#c4682b",
            "M0-92c40-6 66 18 62 50-2 20-20 26-20 42s30 26 32 62c2 44-30 74-74 74s-76-30-74-74c2-36"
            " 32-46 32-62s-18-22-20-42c-4-32 22-56 62-50z",
        )
        + line("#3b0d20", 4, "M-34 20c10 10-6 34 4 46M34 20c-10 10 6 34-4 46")
        + box("#2a0a12", -7, -180, (14, 190), 4)
        + line("#f6dfb0", 1.5, "M-4-176V96M0-176V96M4-176V96")
        + box("#2a0a12", -16, 60, (32, 6), 2)
        + box("#2a0a12", -12, 92, (24, 30), 6)
        + path("#2a0a12", "M-12-176c0-26 24-26 24 0z")
        + "</g>"
        + line("#f6dfb0", 5, "M120 330L470 150")
    )


def sayable() -> str:
    """Draw four greetings at once."""

    def bubble(x: float, y: float, width: float, look: tuple[str, str, str]) -> str:
        fill, ink, word = look
        return (
            f'<g transform="translate({x} {y})">{box(fill, 0, 0, (width, 74), 24)}'
            + path(fill, "M30 66l-6 34 36-28z")
            + f'<text x="{width / 2}" y="49" text-anchor="middle" font-size="36" font-weight="700" '
            f'font-family="Helvetica Neue,Helvetica,Arial,sans-serif" fill="{ink}">{word}</text>'
            "</g>"
        )

    return (
        sky("#6a5cff", "#a58bff")
        + dot("#7d70ff", 80, 90, 130)
        + dot("#b9a5ff", 540, 360, 130)
        + bubble(148, 70, 130, ("#fff", "#4a3bd6", "Hej!"))
        + bubble(310, 110, 148, ("#ffd84d", "#40310a", "Ciao!"))
        + bubble(140, 196, 142, ("#31d0aa", "#053b30", "Olá!"))
        + bubble(300, 232, 176, ("#ff6f91", "#470818", "Salut!"))
    )


def brisk_fibre() -> str:
    """Draw light leaving a bundle of glass."""
    hues = ("#ff5fa2", "#ff8a5c", "#ffd166", "#5ce1e6", "#8f7bff", "#d36bff", "#7cf5b0")
    rays = ""
    for n, hue in enumerate(hues, -3):
        x, y = 300 + n * 84, 110 + abs(n) * 22
        rays += line(hue, 5, f"M300 400C{300 + n * 10} 270 {300 + n * 46} 240 {x} {y}")
        rays += dot(hue, x, y, 13) + dot("#fff", x, y, 5)
    return (
        sky("#1b0b3b", "#47157a")
        + dot("#6c2bb8", 300, 390, 220, 'opacity=".35"')
        + dot("#8f3fe0", 300, 400, 120, 'opacity=".35"')
        + rays
    )


def otter_oak() -> str:
    """Draw an armchair, a lamp, a plant: a corner to read in."""
    return (
        sky("#e5b25d", "#dd9f45")
        + dot("#f0c987", 392, 150, 104)
        + box("#8a5a33", 0, 328, (600, 72))
        + box("#9c6a40", 0, 328, (600, 8))
        + '<ellipse cx="298" cy="352" rx="190" ry="18" fill="#f4e3c4"/>'
        + line("#3a2b22", 5, "M414 344V130M392 346h44")
        + path("#fff1d2", "M374 132l20-56h42l20 56z")
        + path("#1f5a57", "M214 190c0-30 20-44 46-44h54c26 0 46 14 46 44v80H214z")
        + path("#2b716d", "M190 230c0-22 36-22 36 0v46h122v-46c0-22 36-22 36 0v86c0 8-4 12-12"
                " 12H202c-8 0-12-4-12-12z")
        + box("#3a8a84", 226, 254, (122, 30), 10)
        + line("#3a2b22", 7, "M208 328l-6 24M366 328l6 24")
        + path("#c96f4a", "M116 300h58l-8 52h-42z")
        + path("#3f7d4f", "M146 302c-10-50-40-66-56-66 6 34 20 56 52 66zM146 302c-4-66 8-96"
                " 22-112 12 36 4 80-16 112zM148 302c16-44 40-52 54-50-6 28-24 46-50 52z")
        + box("#7a3f2a", 80, 92, (84, 64), 3)
        + path("#f4e3c4", "M88 148V100h68v48l-20-26-18 18-12-10z")
    )  # fmt: skip
