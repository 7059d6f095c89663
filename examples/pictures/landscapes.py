"""The scenes with a sky: one function an advertiser.

Each fills a 600 x 400 view box. What matters sits in the middle 350 x 270, because `creatives.py`
cuts the scene to the ad's shape.
"""

from examples.pictures.shapes import box, cloud, dot, dots, line, path, sky


def skerry_air() -> str:
    """Draw a plane climbing out over an archipelago at sunrise."""
    plane = (
        path("#fff", "M0 30C60 8 150 2 214 8c22 2 38 10 40 18s-20 14-46 15C140 44 50 44 0 30z")
        + path("#0d4a6b", "M6 29L-22-22l22-4 46 40z")
        + path("#dfe9ee", "M104 26L58 96l24 2 82-70z")
        + path("#c9d7de", "M120 8L96-34l16-1 50 42z")
        + path("#0d4a6b", "M226 12c12 2 18 6 21 11l-28 1-4-12z")
        + dots("#0d4a6b", [(x, 21) for x in range(70, 206, 15)], 3)
    )
    return (
        sky("#1c6e97", "#ffd9a8", "#8ec7d2")
        + dot("#fff3d6", 410, 262, 58)
        + cloud(30, 90, 1.1, 0.5)
        + cloud(430, 60, 1.3, 0.75)
        + cloud(120, 250, 1.6, 0.6)
        + path("#5b93a5", "M0 312c60-30 90-26 140-10s120 12 180-14 150-20 280 16v96H0z")
        + path("#2c6c86", "M0 348c90-26 150-14 220-2s180-30 380-4v58H0z")
        + path("#174f6b", "M0 380c120-20 240-2 360-10s160-12 240-6v36H0z")
        + f'<g transform="translate(176 196) rotate(-14)">{plane}</g>'
    )


def zephyra() -> str:
    """Draw a paper plane on its loop."""
    return (
        sky("#ff7a59", "#ffb347")
        + dot("#ff9a6b", 480, 70, 150, 'opacity=".55"')
        + dot("#ffc98a", 120, 380, 170, 'opacity=".5"')
        + line(
            "#fff",
            5,
            "M40 330c110 40 190-20 180-84s-90-50-84 6 120 60 190 6",
            'stroke-dasharray="2 15" opacity=".9"',
        )
        + path("#fff", "M306 236L474 116 398 306l-42-46z")
        + path("#ffe3d3", "M474 116L356 260l-50-24z")
        + path("#e85a3c", "M356 260l118-144-92 170-8-6z")
        + path("#ffcfb5", "M356 260l4 54 22-28z")
    )


def ternbank() -> str:
    """Draw a tern in flight before rising columns."""
    columns = "".join(
        box("#1f4f7d", 130 + 62 * n, 330 - height, (40, height + 70), 5)
        for n, height in enumerate((60, 104, 92, 150, 196, 244))
    )
    return (
        sky("#0b2545", "#174a7c")
        + dot("#f3c969", 392, 128, 64)
        + columns
        + line("#f3c969", 4, "M150 262l62-44 62 10 62-58 62-46 62-50", 'opacity=".85"')
        + path(
            "#fff",
            "M184 148c64-30 102-8 124 30 16-46 58-84 148-92-60 24-92 62-104 116 22 2 40 10 62 26"
            "-38-8-68-4-96 6-32-36-70-66-134-86z",
        )
        + path("#d8e3ee", "M308 178c16-46 58-84 148-92-60 24-92 62-104 116z")
        + path("#e5533d", "M414 228l30 8-34 0z")
    )


def veyra() -> str:
    """Draw a low electric coupe in a dark studio, drawn by its light line."""
    wheel = dot("#05070d", 0, 0, 38) + dot("#1b2233", 0, 0, 29) + dot("#7cf0e0", 0, 0, 6)
    spokes = line("#5c6a86", 4, "M0-25V25M-25 0H25M-18-18L18 18M-18 18L18-18")
    return (
        sky("#070a14", "#1a2140", "#0e1326")
        + box("#7cf0e0", 60, 84, (480, 3), 1.5, 'opacity=".8"')
        + box("#7cf0e0", 120, 64, (360, 2), 1, 'opacity=".35"')
        + '<ellipse cx="300" cy="312" rx="262" ry="24" fill="#000" opacity=".55"/>'
        + path(
            "#2a3558",
            "M58 272c2-34 30-50 86-58 40-34 92-52 158-52 70 0 118 24 156 54 52 4 82 20 86 48l2 26"
            "c-1 8-6 12-16 12H76c-12 0-18-10-18-30z",
        )
        + path("#0a0e1c", "M178 214c32-24 72-36 122-38v38zM314 176c48 2 84 16 112 38H314z")
        + line("#7cf0e0", 4, "M64 256c90-24 360-28 474-4")
        + path("#fff", "M64 250c20-8 40-10 58-8l-12 14z")
        + path("#ff4d6d", "M536 244c-18-6-34-6-50-4l10 14 42 2z")
        + f'<g transform="translate(158 300)">{wheel}{spokes}</g>'
        + f'<g transform="translate(448 300)">{wheel}{spokes}</g>'
        + line("#7cf0e0", 2, "M90 352h420", 'opacity=".35"')
    )


def rundholt() -> str:
    """Draw a boxy estate car on a hill road, luggage on the roof."""
    wheel = dot("#2b2320", 0, 0, 27) + dot("#efe6d6", 0, 0, 14) + dot("#2b2320", 0, 0, 5)
    return (
        sky("#f7e3c0", "#f2b880")
        + dot("#e8743b", 454, 118, 52)
        + path("#b5a26a", "M0 250c110-80 190-70 300-10s200 10 300-44v204H0z")
        + path("#7e8f5a", "M0 300c140-60 260-30 380-8s160-10 220-30v138H0z")
        + path("#4c6a4d", "M0 336c160-40 420-30 600-8v72H0z")
        + box("#6d4b35", 226, 136, (70, 30), 4)
        + box("#a5693f", 302, 144, (52, 22), 4)
        + line("#2b2320", 4, "M212 170h170")
        + path(
            "#2f5d73",
            "M148 306v-46c0-10 8-16 24-20l26-56c3-7 9-10 18-10h176c12 0 20 5 22 16l8 66c16 4 28"
            " 12 28"
            " 26v24z",
        )
        + path("#dbeaec", "M204 238l20-46c2-4 5-6 10-6h50v52zM296 186h78c8 0 12 3 13 10l6 42h-97z")
        + box("#f4d58d", 432, 264, (18, 14), 3)
        + box("#efe6d6", 148, 282, (302, 8))
        + f'<g transform="translate(212 308)">{wheel}</g>'
        + f'<g transform="translate(390 308)">{wheel}</g>'
    )


def tidewatt() -> str:
    """Draw the tide, and the turbine it turns."""
    blade = path("#fff", "M0 0c10-24 12-66 0-104-12 38-10 80 0 104z")
    blades = "".join(f'<g transform="rotate({angle})">{blade}</g>' for angle in (20, 140, 260))
    return (
        sky("#d4f5ee", "#57c5c0")
        + dot("#fff7cf", 420, 110, 46)
        + path("#eafaf7", "M292 190l-10 210h36l-10-210z")
        + f'<g transform="translate(300 182)">{blades}{dot("#0d6b73", 0, 0, 11)}</g>'
        + path("#2aa3a3", "M0 290c50-34 100-34 150 0s100 34 150 0 100-34 150 0 100 34 150 0v110H0z")
        + path("#148089", "M0 324c50 30 100 30 150 0s100-30 150 0 100 30 150 0 100-30 150 0v76H0z")
        + path("#0a5c68", "M0 364c50-24 100-24 150 0s100 24 150 0 100-24 150 0 100 24 150 0v36H0z")
        + path("#ffd84d", "M156 100l-36 62h26l-12 46 46-66h-28l18-42z")
    )


def moss_gale() -> str:
    """Draw a lit tent under northern mountains."""
    stars = ((80, 50), (160, 90), (240, 40), (330, 74), (540, 60), (500, 120), (40, 130), (410, 34))
    return (
        sky("#12302f", "#7da58c", "#2f5d55")
        + dots("#f4efd9", stars, 2.4)
        + dot("#f4efd9", 446, 84, 30)
        + dot("#21463f", 434, 76, 27)
        + path("#3f6f63", "M0 270l90-96 70 66 110-136 100 122 70-70 160 130v114H0z")
        + path("#cfe0d2", "M270 104l-36 45 24-6 14 14 16-18 22 12z")
        + path("#24514a", "M0 316l120-64 90 40 120-70 130 78 140-40v140H0z")
        + path("#173a35", "M0 350c160-40 420-40 600-6v56H0z")
        + path("#f0a44b", "M220 346l82-120 96 120z")
        + path("#ffd591", "M278 346l24-120 30 120z")
        + path("#c97a2c", "M302 226l96 120h-20z")
        + "".join(
            path("#0e2926", f"M{x} 352l{w}-{h} {w} {h}z")
            for x, w, h in (
                (60, 22, 96),
                (98, 18, 70),
                (470, 24, 110),
                (516, 18, 76),
                (150, 14, 54),
            )
        )
    )


def fc_maresund() -> str:
    """Draw the ball on the spot, floodlit."""
    stripes = "".join(
        path("#2c8a55", f"M{x} 400l{60 - x // 8}-180h60l{x // 12} 180z")
        for x in (-40, 140, 320, 500)
    )
    pentagon = "M0-24l23 17-9 27h-28l-9-27z"
    return (
        sky("#0a1d4e", "#2a58b8")
        + path("#fff", "M110 0L40 240h150zM490 0l70 240H410z", 'opacity=".13"')
        + path("#fff", "M300-40L210 240h180z", 'opacity=".1"')
        + box("#217347", 0, 220, (600, 180))
        + stripes
        + line("#fff", 4, "M0 236h600M150 236v54h300v-54", 'opacity=".75"')
        + '<ellipse cx="306" cy="318" rx="92" ry="16" fill="#0d3b24" opacity=".6"/>'
        + dot("#fff", 300, 226, 92)
        + f'<g fill="#0a1d4e"><g transform="translate(300 222)"><path d="{pentagon}"/></g>'
        + '<path d="M220 184l30-34 12 22-18 30zM384 190l-32-38-12 20 20 30z'
        'M228 280l34 0 12 24-20 6zM372 280l-34 0-12 24 20 6zM286 136l28 0-2 10-24 0z"/></g>'
        + line(
            "#0a1d4e", 3, "M300 198v-34M277 215l-32-14M323 215l36-14M286 242l-24 40M314 242l24 40"
        )
    )


def ankerplatz() -> str:
    """Draw a house that rides at anchor under an umbrella."""
    return (
        sky("#dcecf5", "#a9cfe4")
        + line("#7fb1cc", 3, "M90 40l-16 40M190 24l-16 40M470 34l-16 40M540 90l-16 40M120 150"
                "l-16 40")
        + path("#c8372d", "M150 190a150 130 0 0 1 300 0c-16-16-44-16-60 0-16-16-44-16-60"
                " 0-16-16-44-16-60 0"
                "-16-16-44-16-60 0-16-16-44-16-60 0z")
        + path("#e2574c", "M270 190c0-60 14-104 30-128 16 24 30 68 30 128-16-16-44-16-60 0z")
        + line("#5a3a2e", 7, "M300 62v-16M300 186v40")
        + path("#fff", "M232 266l68-54 68 54v66H232z")
        + path("#23425c", "M220 268l80-64 80 64-10 10-70-54-70 54z")
        + box("#f3c969", 252, 276, (30, 26), 2)
        + box("#23425c", 312, 276, (32, 56), 2)
        + path("#3f86ad", "M0 328c50-16 100-16 150 0s100 16 150 0 100-16 150 0 100 16 150 0v72H0z")
        + path("#2a6a90", "M0 360c50 14 100 14 150 0s100-14 150 0 100 14 150 0 100-14 150 0v40H0z")
    )  # fmt: skip


def ledger() -> str:
    """Draw our own mark, the lighthouse over the harbour."""
    return (
        sky("#0f3d4c", "#e9a178", "#5b8f95")
        + path("#ffe9b8", "M306 106L600 20v150zM294 106L0 30v130z", 'opacity=".32"')
        + path("#27596a", "M0 292c70-30 130-24 190-6s110-8 170-20 150-4 240 24v110H0z")
        + path("#f7f3ea", "M276 126h48l20 206h-88z")
        + path("#b5462f", "M271 180h58l4 40h-66zM263 262h74l4 40h-82z")
        + box("#123744", 268, 112, (64, 12), 2)
        + box("#ffe9b8", 282, 86, (36, 26), 2)
        + path("#123744", "M276 86l24-24 24 24z")
        + path("#123744", "M180 346c30-26 80-30 120-28s90 4 124 30z")
        + path("#123f4e", "M0 344c50-14 100-14 150 0s100 14 150 0 100-14 150 0 100 14 150 0v56H0z")
        + path("#0b2c38", "M0 372c50 12 100 12 150 0s100-12 150 0 100 12 150 0 100-12 150 0v28H0z")
        + path("#f7f3ea", "M452 330l34-70v70zM492 330v-56l26 56z")
        + path("#b5462f", "M440 334h88l-14 16h-58z")
    )
