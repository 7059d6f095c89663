"""How line items stand, as a table, one line item's page, or JSON."""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any, Final, NamedTuple

import msgspec

from server.pacing.standing import GROUPS, REASONS, Group, Limit, Standing, View
from server.terminal import (
    BOLD,
    CYAN,
    DIM,
    GREEN,
    RED,
    YELLOW,
    bar,
    cells,
    columns_of,
    cut,
    padded,
    painted,
    sparkline,
)

NAME_CELLS: Final = (14, 34)  # of a table's names: the least, and the most
BAR_CELLS, CHART_LINES = 12, 6
GAP: Final = "  "
_MARKS: Final[dict[Group, tuple[str, str, str]]] = {
    "blocked": ("■", RED, "without a lease"),
    "behind": ("▼", RED, "behind"),
    "learning": ("◔", YELLOW, "learning"),
    "ahead": ("▲", CYAN, "ahead"),
    "on_plan": ("●", GREEN, "on plan"),
    "done": ("✓", GREEN, "spent"),
    "idle": ("◌", DIM, "not running"),
}
_SHORT: Final = {"impressions": "imps", "clicks": "clicks", "conversions": "conv."}

_COLOUR: Final = re.compile(r"\x1b\[\d+m")

Paint = Callable[[str, str], str]


def _plain(text: str, _: str) -> str:
    return text


# -- amounts ---------------------------------------------------------------------------------------


def amount_text(amount: int | None, limit: Limit) -> str:
    """Write units with thousands' commas, money with two decimals; a dash for what is unknown."""
    if amount is None:
        return "-"
    if limit.unit == "micros":
        exact = Decimal(amount).scaleb(-6)
        return f"{exact.quantize(Decimal('0.01'), ROUND_HALF_EVEN):,}"
    return f"{amount:,}"


def percent_text(part: int | None, whole: int) -> str:
    """Round down: what is not all there is not 100 %."""
    return "" if part is None else f"{min(part * 100 // whole, 999)}%"


def rate_text(rate_ppm: int | None) -> str:
    if rate_ppm is None:
        return "-"
    if 0 < rate_ppm < 100:
        return "<0.01%"
    if 0 < rate_ppm < 10_000:
        return f"{rate_ppm / 10_000:.2f}%"
    return f"{rate_ppm / 10_000:.0f}%"


def _unit_text(limit: Limit, currency: str) -> str:
    unit = _SHORT.get(limit.unit, currency)
    return f"{unit}{'/day' if limit.is_daily else ''}{'*' if limit.is_campaign else ''}"


def age_text(seconds: int) -> str:
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length} {unit}"
    return f"{max(seconds, 0)} s"


def clock_text(moment_s: int) -> str:
    return datetime.fromtimestamp(moment_s, UTC).strftime("%H:%M:%S")


# -- the table -------------------------------------------------------------------------------------


class _Column(NamedTuple):
    name: str
    title: str
    text: Callable[[Standing], str]
    is_left: bool = False
    paint: Callable[[Standing], str] = lambda _: ""
    draw: Callable[[Standing, Paint], str] | None = None  # where one colour is not enough


DROPPED: Final = ("expected", "forecast", "hours", "bar", "percent", "forecast_percent", "rate")
"""What goes when there is no room, the least needed first."""


def to_table(view: View, *, colour: bool, width: int | None = None, rows: int | None = None) -> str:
    """Align, in as many cells as there are (None: as it needs), and rows (None: all)."""
    paint: Paint = painted if colour else _plain
    shown = view.standings[:rows]
    lines = [header(view, paint, width), ""]
    if shown:
        lines += _table(view, shown, paint, width)
    else:
        lines.append("No line item has a goal or a budget.")
    lines += ["", *_footer(view, len(view.standings) - len(shown), paint)]
    return "\n".join(lines) + "\n"


def _table(view: View, shown: tuple[Standing, ...], paint: Paint, width: int | None) -> list[str]:
    columns = _columns(view)
    widths = {c.name: max(cells(c.title), *(cells(c.text(s)) for s in shown)) for c in columns}
    dropped: set[str] = set()
    for name in ("", *DROPPED):
        dropped.add(name)
        kept = [column for column in columns if column.name not in dropped]
        if name == "forecast":
            widths["forecast_percent"] = max(widths["forecast_percent"], len("forecast"))
        spare = (width or 1 << 20) - sum(widths[c.name] + len(GAP) for c in kept) + len(GAP)
        if spare + widths["name"] >= NAME_CELLS[0]:
            break
    widths["name"] = max(min(widths["name"], NAME_CELLS[1], widths["name"] + spare), NAME_CELLS[0])

    def line(standing: Standing | None) -> str:
        parts = []
        for column in kept:
            if standing is None:
                text, painted_text = column.title, paint(column.title, DIM)
                if column.name == "forecast_percent" and "forecast" in dropped:
                    text, painted_text = "forecast", paint("forecast", DIM)
            else:
                text = column.text(standing)
                if column.name == "name":
                    text = cut(text, widths["name"])
                painted_text = paint(text, column.paint(standing))
                if column.draw is not None:
                    painted_text = column.draw(standing, paint)
            blank = " " * (widths[column.name] - cells(text))
            if not text:
                painted_text = ""
            parts.append(painted_text + blank if column.is_left else blank + painted_text)
        return GAP.join(parts).rstrip()

    return [line(None), *map(line, shown)]


def _columns(view: View) -> list[_Column]:
    def mark(s: Standing) -> str:
        return _MARKS[s.group][0]

    def colour(s: Standing) -> str:
        return _MARKS[s.group][1]

    def quiet(s: Standing) -> str:
        return DIM if s.group == "idle" else ""

    def of(name: str) -> Callable[[Standing], str]:
        return lambda s: amount_text(getattr(s.limit, name), s.limit)

    return [
        _Column("mark", " ", mark, True, colour),
        _Column("id", "id", lambda s: str(s.id), False, quiet),
        _Column("name", "line item", lambda s: s.name, True, quiet),
        _Column("goal", "goal", of("limit"), False, quiet),
        _Column("unit", "", lambda s: _unit_text(s.limit, view.currency), True, lambda _: DIM),
        _Column("billed", "delivered", of("billed"), False, quiet),
        _Column("percent", "", lambda s: percent_text(s.limit.billed, s.limit.limit), False, quiet),
        _Column("bar", "", lambda s: progress(s.limit), True, colour, _painted_bar),
        _Column("expected", "expected", of("planned"), False, lambda _: DIM),
        _Column("rate", "rate", lambda s: rate_text(s.rate_ppm), False, quiet),
        _Column("forecast", "forecast", of("forecast"), False, quiet),
        _Column(
            "forecast_percent",
            "",
            lambda s: percent_text(s.limit.forecast, s.limit.limit),
            False,
            lambda s: RED if s.limit.is_short and s.group == "behind" else DIM,
        ),
        _Column("hours", "last 24 h", lambda s: sparkline(s.hours), True, colour),
        _Column("reason", "", lambda s: REASONS[s.reason].text, True, colour),
    ]


def progress(limit: Limit) -> str:
    """Draw what is delivered of a limit; a cross stands where the plan is."""
    signs = list(bar(limit.billed / limit.limit, BAR_CELLS))
    if limit.planned is not None:
        at = min(limit.planned * BAR_CELLS // limit.limit, BAR_CELLS - 1)
        signs[at] = "╋" if signs[at] == "━" else "┼"
    return "".join(signs)


def _painted_bar(standing: Standing, paint: Paint) -> str:
    signs = progress(standing.limit)
    filled = len(signs.rstrip("─┼"))
    colour = _MARKS[standing.group][1]
    parts = (signs[:filled], colour), (signs[filled:], DIM)
    return "".join(paint(part, shade) for part, shade in parts if part)


def header(view: View, paint: Paint, width: int | None = None) -> str:
    """Say of when it is, and how old each part of it; on two lines if it must."""
    moment = datetime.fromtimestamp(view.now_s, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    parts = [paint(moment, BOLD)]
    if not view.plan_version:
        parts.append(paint("no plan", RED))
    elif not view.has_plan:
        parts.append(paint(f"plan aged out, {age_text(view.plan_age_s)} old", RED))
    else:
        parts.append(f"plan {age_text(view.plan_age_s)} old")
    if view.counted_s is None:
        parts.append(paint("counts not whole", RED))
    else:
        parts.append(f"counted up to {clock_text(view.counted_s)}")
    if view.settled_s is None:
        parts.append(paint("nothing settled", RED))
    else:
        parts.append(f"settled up to {clock_text(view.settled_s)}")
    parts.append(f"led by {cut(view.leader, 40)}" if view.leader else paint("nobody leads", RED))
    lines = [""]
    for part in parts:
        joined = f"{lines[-1]} · {part}" if lines[-1] else part
        if width is not None and lines[-1] and _seen_cells(joined) > width:
            lines.append(part)
        else:
            lines[-1] = joined
    return "\n".join(lines)


def _seen_cells(text: str) -> int:
    return cells(_COLOUR.sub("", text))


def _footer(view: View, left_out: int, paint: Paint) -> list[str]:
    counts = dict.fromkeys(GROUPS, 0)
    for standing in view.standings:
        counts[standing.group] += 1
    said = [
        f"{paint(_MARKS[group][0], _MARKS[group][1])} {count:,} {_MARKS[group][2]}"
        for group, count in counts.items()
        if count
    ]
    lines = [GAP.join(said)] if said else []
    if left_out:
        lines.append(paint(f"{left_out:,} more do not fit", DIM))
    if any(standing.limit.is_campaign for standing in view.standings):
        lines.append(paint("* its campaign's, shared with that one's other line items", DIM))
    if view.unlimited and view.standings:
        have = "line item has" if view.unlimited == 1 else "line items have"
        lines.append(
            paint(f"{view.unlimited:,} {have} no goal or budget: always at full rate", DIM)
        )
    return [*lines, *(paint(note, YELLOW) for note in view.notes)]


# -- one line item ---------------------------------------------------------------------------------


def to_page(view: View, standing: Standing, *, colour: bool) -> str:
    """Say all that is known of one line item."""
    paint: Paint = painted if colour else _plain
    mark, mark_colour, _ = _MARKS[standing.group]
    reason = REASONS[standing.reason]
    whose = f"{cut(standing.advertiser, 40)} / {cut(standing.campaign, 40)}"
    lines = [
        header(view, paint),
        "",
        paint(f"{standing.id} {cut(standing.name, 60)}", BOLD)
        + paint(f"   {whose}, priority {standing.priority}", DIM),
        f"{paint(f'{mark} {reason.text}', mark_colour)}: {reason.meaning}",
        *([f"  {standing.hint}"] if standing.hint else []),
        "",
        f"rate in force: {rate_text(standing.rate_ppm)} of its requests",
        "",
        *_limits(view, standing, paint),
        "",
        *_chart(view, standing, paint, mark_colour),
    ]
    return "\n".join([*lines, *(paint(note, YELLOW) for note in view.notes)]) + "\n"


def _limits(view: View, standing: Standing, paint: Paint) -> list[str]:
    head = ["limit", "", "", "delivered", "in leases", "expected", "forecast", ""]
    rows = [head]
    for number, limit in enumerate(standing.limits):
        rows.append(
            [
                amount_text(limit.limit, limit),
                _unit_text(limit, view.currency),
                _whose(standing, number),
                f"{amount_text(limit.billed, limit)} {percent_text(limit.billed, limit.limit):>4}",
                amount_text(limit.leased, limit),
                amount_text(limit.planned, limit),
                amount_text(limit.forecast, limit),
                f"by {_end_text(limit.ends_s)}",
            ]
        )
    widths = [max(cells(row[place]) for row in rows) for place in range(len(head))]
    left = (1, 2, 7)
    return [
        paint(
            GAP.join(
                padded(text, width) if place in left else text.rjust(width)
                for place, (text, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip(),
            DIM if row is head else "",
        )
        for row in rows
    ]


def _whose(standing: Standing, number: int) -> str:
    whose = "its campaign's" if standing.limits[number].is_campaign else "its own"
    is_told = number == standing.binding and len(standing.limits) > 1
    return f"{whose}, the tightest" if is_told else whose


def _end_text(moment_s: int) -> str:
    return datetime.fromtimestamp(moment_s, UTC).strftime("%Y-%m-%d %H:%M UTC")


def _chart(view: View, standing: Standing, paint: Paint, colour: str) -> list[str]:
    most = max(standing.hours, default=0)
    unit = standing.limit.unit if standing.limit.unit != "micros" else view.currency
    if not most:
        return [paint(f"no {unit} in the last {len(standing.hours)} hours", DIM)]
    # Two cells an hour: a chart one can read a time from.
    drawn = ["".join(sign * 2 for sign in line) for line in columns_of(standing.hours, CHART_LINES)]
    top = amount_text(most, standing.limit)
    margin = len(top)
    lines = [
        f"{paint((top if number == 0 else '').rjust(margin), DIM)} {paint(line, colour)}".rstrip()
        for number, line in enumerate(drawn)
    ]
    now_hour = view.now_s // 3600
    ticks = [
        f"{(now_hour - back) % 24:02d}h".ljust(2 * 6)
        for back in range(len(standing.hours) - 1, -1, -6)
    ]
    axis = f"{'0'.rjust(margin)} {'▔' * 2 * len(standing.hours)}"
    return [
        paint(f"{unit} an hour, UTC", DIM),
        *lines,
        paint(axis, DIM),
        paint(" " * (margin + 1) + "".join(ticks).rstrip(), DIM),
    ]


# -- JSON ------------------------------------------------------------------------------------------


def to_json(view: View, *, one_line: bool = False) -> str:
    """Write one object; money is integer micros under a name that says so."""
    document: dict[str, Any] = {
        "time_s": view.now_s,
        "currency": view.currency or None,
        "leader": view.leader or None,
        "plan": {"version": view.plan_version, "age_s": view.plan_age_s, "used": view.has_plan}
        if view.plan_version
        else None,
        "counted_s": view.counted_s,
        "settled_s": view.settled_s,
        "without_limit": view.unlimited,
        "notes": view.notes,
        "line_items": [_object(standing) for standing in view.standings],
    }
    encoded = msgspec.json.encode(document)
    return (encoded if one_line else msgspec.json.format(encoded)).decode() + "\n"


def _object(standing: Standing) -> dict[str, Any]:
    return {
        "id": standing.id,
        "name": standing.name,
        "campaign": standing.campaign,
        "advertiser": standing.advertiser,
        "priority": standing.priority,
        "rate_ppm": standing.rate_ppm,
        "state": standing.group,
        "reason": standing.reason,
        "reason_text": REASONS[standing.reason].text,
        "hint": standing.hint or None,
        "tightest": standing.limit.key,
        "limits": [msgspec.to_builtins(limit) for limit in standing.limits],
        "hours": standing.hours,
    }
