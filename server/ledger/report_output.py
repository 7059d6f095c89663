"""A report as a table for people, and as CSV, JSON or Parquet for programs.

CSV, JSON and Parquet are exact: money is decimal text, an integer of its smallest unit, or a
decimal128. A table rounds: money to hundredths, half to even, and ratios to four digits.
"""

import csv
import io
from collections.abc import Iterator
from datetime import date
from decimal import ROUND_HALF_EVEN, Decimal, localcontext
from typing import Any, Final
from unicodedata import normalize

import msgspec

from server.errors import AdcoreError
from server.ledger.report import (
    NONE,
    PLACES,
    UNKNOWN,
    Column,
    Report,
    Sums,
    columns,
    local,
)
from server.terminal import BOLD, DIM, cells, cut, padded, painted

NAME_CELLS_MAX: Final = 36  # of a table's name: two columns of them, and the numbers, on a screen
_DIGITS: Final = {"nanos": 9, "micros": 6}
_ALWAYS: Final = {"impressions", "clicks", "ctr", "revenue"}
_TITLES: Final = {"ctr": "CTR", "conversion_value": "value", "over_delivery": "free"}


def decimal_text(amount: int, digits: int) -> str:
    """Write an amount of 10^-digits exactly, with two decimals or as many as it has."""
    sign = "-" if amount < 0 else ""
    whole, rest = divmod(abs(amount), 10**digits)
    return f"{sign}{whole}.{f'{rest:0{digits}d}'.rstrip('0').ljust(2, '0')}"


# -- what identifies a row -------------------------------------------------------------------------


def _named(report: Report, dimension: str, value: int) -> str:
    if value == NONE:
        return "(no site)" if dimension == "site" else "(no ad)"
    if value == UNKNOWN:
        return "(unknown)"
    return report.names.of[dimension].get(value, "")


def _moment(report: Report, dimension: str, value: int) -> str:
    if dimension == "day":
        return date.fromordinal(value).isoformat()
    return local(value, report.query.zone).isoformat(timespec="minutes")


def _identity(report: Report, key: tuple[int, ...]) -> dict[str, int | str | None]:
    """Give an id and a name for each place, and ISO text for a time."""
    cells: dict[str, int | str | None] = {}
    for dimension, value in zip(report.query.by, key, strict=True):
        if dimension in PLACES:
            cells[f"{dimension}_id"] = None if value == UNKNOWN else value
            cells[dimension] = _named(report, dimension, value)
        else:
            cells[dimension] = _moment(report, dimension, value)
    return cells


def _identity_names(report: Report) -> list[str]:
    return list(_identity(report, (NONE + 1,) * len(report.query.by)))


# -- CSV -------------------------------------------------------------------------------------------


def to_csv(report: Report) -> str:
    """Write one line a row and no total; every text is quoted, and none can be a formula."""
    chosen = columns(report.query)
    out = io.StringIO()
    writer = csv.writer(out, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\r\n")
    writer.writerow([*_identity_names(report), *(column.name for column in chosen)])
    for key, sums in report.rows:
        cells: list[Any] = [
            _inert(cell) if isinstance(cell, str) else cell
            for cell in _identity(report, key).values()
        ]
        writer.writerow([*cells, *(_exact(column, sums) for column in chosen)])
    return out.getvalue()


def _inert(text: str) -> str:
    """Keep a spreadsheet from calculating: it may drop blanks and narrow wide signs first."""
    return f"'{text}" if normalize("NFKC", text).strip()[:1] in {*"=+-@|"} else text


def _exact(column: Column, sums: Sums) -> int | float | Decimal | None:
    value = column.of(sums)
    if column.kind in _DIGITS and isinstance(value, int):
        return Decimal(decimal_text(value, _DIGITS[column.kind]))
    return value


# -- JSON ------------------------------------------------------------------------------------------


def to_json(report: Report) -> bytes:
    """Write one object; money is there as an integer of its unit and as decimal text."""
    query = report.query
    chosen = columns(query)
    document = {
        "from": local(query.from_hour, query.zone).isoformat(),
        "to": local(query.to_hour, query.zone).isoformat(),
        "time_zone": query.zone.key,
        "currency": report.names.currency or None,
        "by": query.by,
        "only": {dimension: sorted(ids) for dimension, ids in query.only.items()},
        "estimated": [column.name for column in chosen if _is_estimated(report, column)],
        "decision_logs": report.asked.get(b"decision_logs", 0),
        "rows": [_identity(report, key) | _numbers(chosen, sums) for key, sums in report.rows],
        "total": _numbers(chosen, report.total),
    }
    return msgspec.json.format(msgspec.json.encode(document)) + b"\n"


def _numbers(chosen: list[Column], sums: Sums) -> dict[str, Any]:
    numbers: dict[str, Any] = {}
    for column in chosen:
        value = column.of(sums)
        if column.kind in _DIGITS and isinstance(value, int):
            numbers[f"{column.name}_{column.kind}"] = value
            numbers[column.name] = decimal_text(value, _DIGITS[column.kind])
        else:
            numbers[column.name] = value
    return numbers


def _is_estimated(report: Report, column: Column) -> bool:
    return column.is_sampled and report.is_estimated


# -- Parquet ---------------------------------------------------------------------------------------


def to_parquet(report: Report) -> bytes:
    """Write the columns of the CSV, typed; what is estimated is in the file's metadata."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ModuleNotFoundError:
        raise AdcoreError("Parquet needs pyarrow: pip install 'adcore[parquet]'") from None
    chosen = columns(report.query)
    kinds = {
        "count": pyarrow.int64(),
        "ratio": pyarrow.float64(),
        "nanos": pyarrow.decimal128(38, _DIGITS["nanos"]),
        "micros": pyarrow.decimal128(38, _DIGITS["micros"]),
    }
    fields = [
        (name, pyarrow.int64() if name.endswith("_id") else pyarrow.string())
        for name in _identity_names(report)
    ]
    fields += [(column.name, kinds[column.kind]) for column in chosen]
    rows = [
        [*_identity(report, key).values(), *(_exact(column, sums) for column in chosen)]
        for key, sums in report.rows
    ]
    by_column = zip(*rows, strict=True) if rows else [()] * len(fields)
    arrays = [
        pyarrow.array(values, type_) for values, (_, type_) in zip(by_column, fields, strict=True)
    ]
    told = {
        "currency": report.names.currency,
        "time_zone": report.query.zone.key,
        "estimated": " ".join(column.name for column in chosen if _is_estimated(report, column)),
    }
    table = pyarrow.table(arrays, schema=pyarrow.schema(fields, metadata=told))
    out = io.BytesIO()
    parquet.write_table(table, out, compression="zstd")
    return out.getvalue()


# -- a table ---------------------------------------------------------------------------------------


def to_table(report: Report, *, colour: bool) -> str:
    """Align for a terminal, and leave out columns of zeros but for those always looked for."""
    shown = [
        column
        for column in columns(report.query)
        if column.name in _ALWAYS or column.of(report.total)
    ]
    lines = [
        _head(report, shown),
        *((_labels(report, key), _figures(shown, sums)) for key, sums in report.rows),
        (["total"] + [""] * (len(report.query.by) - 1), _figures(shown, report.total)),
    ]
    label_widths = [max(map(cells, of)) for of in zip(*(line[0] for line in lines), strict=True)]
    widths = [max(map(len, of)) for of in zip(*(line[1] for line in lines), strict=True)]
    printed = [
        "  ".join(
            [padded(text, width) for text, width in zip(labels, label_widths, strict=True)]
            + [figure.rjust(width) for figure, width in zip(figures, widths, strict=True)]
        ).rstrip()
        for labels, figures in lines
    ]
    if colour:
        printed[0] = painted(printed[0], BOLD)
        printed[-1] = painted(printed[-1], BOLD)
    notes = [painted(note, DIM) if colour else note for note in notes_of(report)]
    return "\n".join([span_text(report), "", *printed, *(["", *notes] if notes else []), ""])


def span_text(report: Report) -> str:
    """Say which hours, in whose time and money."""
    query = report.query
    start, end = (
        local(hour, query.zone).strftime("%Y-%m-%d %H:%M")
        for hour in (query.from_hour, query.to_hour)
    )
    money = f", {report.names.currency}" if report.names.currency else ""
    return f"{start} to {end} {query.zone.key}{money}"


def notes_of(report: Report) -> Iterator[str]:
    """Say what a reader would otherwise take for more than it is."""
    query = report.query
    if report.is_estimated:
        logs, requests = (report.asked.get(name, 0) for name in (b"decision_logs", b"requests"))
        yield f"~ estimated: {logs:,} decision logs were kept for {requests:,} requests"
    yield from report.notes
    if "day" in query.by and any(
        local(hour, query.zone).minute for hour in (query.from_hour, query.to_hour)
    ):
        yield f"{query.zone.key} is no whole hours from UTC: an hour counts where it begins"


def _head(report: Report, shown: list[Column]) -> tuple[list[str], list[str]]:
    labels = [dimension.replace("_", " ") for dimension in report.query.by]
    marks = ["~" if _is_estimated(report, column) else "" for column in shown]
    titles = [_TITLES.get(column.name, column.name.replace("_", " ")) for column in shown]
    return labels, [mark + title for mark, title in zip(marks, titles, strict=True)]


def _labels(report: Report, key: tuple[int, ...]) -> list[str]:
    labels = []
    for dimension, value in zip(report.query.by, key, strict=True):
        if dimension in PLACES:
            name = cut(_named(report, dimension, value), NAME_CELLS_MAX)
            labels.append(name if value in (NONE, UNKNOWN) else f"{value} {name}".rstrip())
        else:
            labels.append(_moment(report, dimension, value))
    return labels


def _figures(shown: list[Column], sums: Sums) -> list[str]:
    return [_figure(column, column.of(sums)) for column in shown]


def _figure(column: Column, value: int | float | None) -> str:
    if value is None:
        return "-"
    if column.kind == "ratio":
        return f"{100 * value:.2f}%"
    if column.kind in _DIGITS:
        with localcontext(prec=60):
            exact = Decimal(value).scaleb(-_DIGITS[column.kind])
            return f"{exact.quantize(Decimal('0.01'), ROUND_HALF_EVEN):,}"
    return f"{value:,}"
