"""The invented advertisers' looks: colours, a mark in a 24 x 24 box, and what their ads say.

`edge` is the seam between picture and text ground: straight, slant, wave or arc.
"""

from collections.abc import Callable
from typing import NamedTuple

from examples.pictures import landscapes, still_lifes


class Brand(NamedTuple):
    slug: str
    art: Callable[[], str]
    name: str
    lines: tuple[str, ...]
    short: str
    sub: str
    cta: str
    ground: str
    ink: str
    accent: str
    accent_ink: str
    mark: str
    sizes: tuple[str, ...]
    edge: str = "straight"
    serif: bool = False
    round: float = 20
    tracking: float = 0
    focus: int = 50  # which part of the picture a flat crop keeps: 0 the top, 100 the bottom


B, L, M, H, S, X = "970x250", "728x90", "300x250", "300x600", "320x50", "320x100"
N = ("native", "icon")

BRANDS = (
    Brand(
        "skerry-air", landscapes.skerry_air, "Skerry Air",
        ("Islands you can", "reach by lunch."), "Islands you can reach by lunch.",
        "Maresund to Bergen from €59 one way", "Find a flight",
        "#0d4a6b", "#ffffff", "#ffc46b", "#3a2503",
        '<path fill="#ffc46b" d="M2 15L22 3l-6 18-5-7z"/>'
        '<path fill="#fff" d="M2 15L22 3l-11 11z"/>',
        (B, L, M, H, S, *N), edge="wave",
    ),
    Brand(
        "zephyra", landscapes.zephyra, "zephyra",
        ("Go where the", "weekend is."), "Go where the weekend is.",
        "Fares from €24. Hand luggage included.", "Grab a seat",
        "#c93f22", "#ffffff", "#ffffff", "#a9321a",
        '<path fill="#ffd9a8" d="M3 5h17L9 17h12v3H3L14 8H3z"/>',
        (L, M, S, X, *N), edge="slant", tracking=0.4, focus=40,
    ),
    Brand(
        "ternbank", landscapes.ternbank, "Ternbank",
        ("Your savings,", "on the wing."), "Your savings, on the wing.",
        "3.1 % a year on instant access", "Open an account",
        "#0b2545", "#ffffff", "#f3c969", "#2c2205",
        '<path fill="#f3c969" d="M1 9c6-4 9-1 11 3 1-5 5-9 11-10-4 3-7 7-7 12 3 0 5 1 7 '
        '3-5-1-8-1-12 1C9 14 6 11 1 9z"/>',
        (B, L, M, H, S, *N), edge="slant", serif=True, round=4, focus=20,
    ),
    Brand(
        "pebblo", still_lifes.pebblo, "pebblo",
        ("Split the bill,", "not the friends."), "Split the bill, not the friends.",
        "The account for under-30s. Free, for good.", "Get the card",
        "#10312b", "#eafff6", "#7fdcb9", "#08231d",
        '<ellipse cx="9" cy="15" rx="8" ry="6" fill="#7fdcb9"/>'
        '<ellipse cx="17" cy="9" rx="6" ry="4.5" fill="#ff8f70"/>',
        (L, M, S, X, *N), edge="arc", tracking=0.2, focus=40,
    ),
    Brand(
        "veyra", landscapes.veyra, "VEYRA",
        ("612 kilometres", "of quiet."), "612 kilometres of quiet.",
        "The all-electric Veyra Una. Now at dealers.", "Book a test drive",
        "#0a0f1f", "#f2f6ff", "#7cf0e0", "#04231f",
        '<path fill="none" stroke="#7cf0e0" stroke-width="3" d="M2 5l10 15L22 5M7 5l5 8 5-8"/>',
        (B, L, M, H, X, *N), edge="slant", round=3, tracking=2.4, focus=85,
    ),
    Brand(
        "rundholt", landscapes.rundholt, "Rundholt",
        ("Room for all", "of Sunday."), "Room for all of Sunday.",
        "The Rundholt Kombi, 720 litres of boot", "Configure yours",
        "#2f3d2c", "#fbf3e2", "#e8743b", "#2b1104",
        '<circle cx="12" cy="12" r="10" fill="none" stroke="#f2b880" stroke-width="3"/>'
        '<path fill="#f2b880" d="M7 6h7a4 4 0 0 1 1 8l3 5h-4l-3-5v5H7z"/>',
        (B, L, M, S, *N), edge="wave", serif=True, round=5, focus=72,
    ),
    Brand(
        "fennel-rye", still_lifes.fennel_rye, "Fennel & Rye",
        ("Tonight\u2019s dinner,", "at your door by 6."), "Dinner at your door by 6.",
        "Farm boxes from 40 local growers", "Fill a box",
        "#fff9ec", "#27401f", "#d6472f", "#ffffff",
        '<path fill="#5f9e4a" d="M12 22C4 18 4 8 12 2c8 6 8 16 0 20z"/>'
        '<path stroke="#fff9ec" stroke-width="1.6" fill="none" d="M12 22V8m0 5l4-4m-4 8l-4-4"/>',
        (L, M, H, S, *N), edge="arc", serif=True,
    ),
    Brand(
        "tidewatt", landscapes.tidewatt, "tidewatt",
        ("Power from the bay,", "billed by the hour."), "Power from the bay, by the hour.",
        "Switch in four minutes", "Check my price",
        "#0a5c68", "#ffffff", "#ffd84d", "#332800",
        '<path fill="#ffd84d" d="M14 1L4 14h6l-2 9 11-14h-6z"/>',
        (B, L, M, *N), edge="wave", focus=30,
    ),
    Brand(
        "moss-gale", landscapes.moss_gale, "Moss & Gale",
        ("Dry is a", "state of mind."), "Dry is a state of mind.",
        "Shells and tents, mended for life", "See the range",
        "#123531", "#f4efd9", "#f0a44b", "#2e1a02",
        '<path fill="#f0a44b" d="M12 3l11 18H1z"/><path fill="#123531" d="M12 10l5 11H7z"/>',
        (B, L, M, H, *N), edge="slant", round=4, focus=100,
    ),
    Brand(
        "kontor-neun", still_lifes.kontor_neun, "Kontor Neun",
        ("Roasted on Monday.", "Yours on Tuesday."), "Roasted Monday. Yours Tuesday.",
        "First bag free with a subscription", "Start with a bag",
        "#3a1f12", "#fbeedb", "#f2b672", "#2f1605",
        '<ellipse cx="12" cy="12" rx="7" ry="10" fill="#c58d5c" transform="rotate(25 12 12)"/>'
        '<path stroke="#3a1f12" stroke-width="2" fill="none" d="M16 3c-5 5-1 9-8 18"/>',
        (B, L, M, H, S, *N), edge="arc", serif=True,
    ),
    Brand(
        "philharmonic", still_lifes.philharmonic, "Philharmonic",
        ("Elgar, in the", "old shipyard."), "Elgar, in the old shipyard.",
        "Six evenings. Seats from €18.", "Choose seats",
        "#3b0d20", "#fbe9cf", "#e7b75f", "#33210a",
        '<path fill="#e7b75f" d="M9 3l12-2v15a4 3 0 1 1-2-3V6l-8 1v11a4 3 0 1 1-2-3z"/>',
        (B, L, M, H, *N), edge="wave", serif=True, round=3,
    ),
    Brand(
        "fc-maresund", landscapes.fc_maresund, "FC Maresund",
        ("Saturday, 15:30.", "Bring your voice."), "Saturday 15:30. Bring your voice.",
        "Derby tickets from €16, children free", "Buy tickets",
        "#0a1d4e", "#ffffff", "#ffd23f", "#2b2000",
        '<path fill="#ffd23f" d="M12 1l9 3v8c0 6-4 9-9 11-5-2-9-5-9-11V4z"/>'
        '<path fill="#0a1d4e" d="M8 5h3v15l-3-2zM13 5h3v13l-3 2z"/>',
        (B, L, M, H, S, X), edge="slant", round=4, focus=64,
    ),
    Brand(
        "sayable", still_lifes.sayable, "sayable",
        ("Say it before", "you land."), "Say it before you land.",
        "Ten minutes a day. Thirty-one languages.", "Try it free",
        "#3a2cb8", "#ffffff", "#ffd84d", "#352a00",
        '<path fill="#fff" d="M3 3h18v13H12l-6 6v-6H3z"/>'
        '<path stroke="#3a2cb8" stroke-width="2" d="M7 8h10M7 12h6"/>',
        (M, S, X, *N), edge="arc", tracking=0.2,
    ),
    Brand(
        "ankerplatz", landscapes.ankerplatz, "Ankerplatz",
        ("Whatever the", "forecast says."), "Whatever the forecast says.",
        "Home and contents from €9 a month", "Get a quote",
        "#173a54", "#ffffff", "#e2574c", "#ffffff",
        '<path fill="none" stroke="#e2574c" stroke-width="2.6" d="M12 7v15M4 14c1 6 4 8 8 '
        '8s7-2 8-8M8 11h8"/>'
        '<circle cx="12" cy="4.5" r="2.6" fill="none" stroke="#e2574c" stroke-width="2.4"/>',
        (L, M, X, *N), edge="straight", round=5, focus=36,
    ),
    Brand(
        "brisk-fibre", still_lifes.brisk_fibre, "Brisk Fibre",
        ("Ten gigabits. One", "jealous neighbour."), "Ten gigabits. One jealous neighbour.",
        "Now in Maresund Old Town", "Check my street",
        "#1b0b3b", "#ffffff", "#5ce1e6", "#04282b",
        '<path fill="none" stroke="#5ce1e6" stroke-width="2.6" d="M3 20C9 20 8 5 21 4"/>'
        '<path fill="none" stroke="#ff5fa2" stroke-width="2.6" d="M3 15C8 15 9 12 21 12M3 22c8 '
        '0 9-3 18-2"/>',
        (B, M, S, X), edge="slant",
    ),
    Brand(
        "otter-oak", still_lifes.otter_oak, "Otter & Oak",
        ("A chair to miss", "your tram for."), "A chair to miss your tram for.",
        "Solid oak, made two streets away", "Visit the workshop",
        "#4a2f1d", "#fdf0d9", "#2b9a92", "#ffffff",
        '<path fill="#e5b25d" d="M5 2h3v9h8V2h3v20h-3v-7H8v7H5z"/>',
        (B, M, H, *N), edge="straight", serif=True, round=2,
    ),
    Brand(
        "ledger-subscribe", landscapes.ledger, "The Harbour Ledger",
        ("The port, the council,", "the truth."), "The port, the council, the truth.",
        "Three months of everything for €3", "Subscribe",
        "#fbf7ee", "#142b36", "#b5462f", "#ffffff",
        '<path fill="#b5462f" d="M9 8h6l2 14H7z"/><path fill="#142b36" d="M8 8V4l4-3 4 3v4z"/>',
        (B, L, M, H, S, X), edge="straight", serif=True, round=3,
    ),
    Brand(
        "ledger-newsletter", landscapes.ledger, "The Harbour Ledger",
        ("First Tide, our", "6 a.m. letter."), "First Tide: the bay by 6 a.m.",
        "Five minutes, free, no noise", "Send it to me",
        "#123744", "#fbf7ee", "#ffd591", "#3a2503",
        '<path fill="#ffd591" d="M9 8h6l2 14H7z"/><path fill="#fff" d="M8 8V4l4-3 4 3v4z"/>',
        (M, L, *N), edge="wave", serif=True, round=3,
    ),
    Brand(
        "ledger-app", landscapes.ledger, "The Harbour Ledger",
        ("Ferries, fog and", "front page in one."), "Ferries, fog and the front page.",
        "The Ledger app, free", "Get the app",
        "#b5462f", "#fff8ec", "#fff8ec", "#7d2817",
        '<path fill="#fff8ec" d="M9 8h6l2 14H7z"/><path fill="#ffd591" d="M8 8V4l4-3 4 3v4z"/>',
        (M, H, S, X), edge="arc", serif=True,
    ),
)  # fmt: skip
