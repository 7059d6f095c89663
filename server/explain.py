"""`adcore explain`: why each line item won or lost, for a request in a file.

It decides in its own process, from the published catalog or a file: no server is asked, so it can
be tried at will. With the decision id of an answer it decides as that answer was decided.
"""

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from adcore import compile as compile_index
from adcore.reasons import Explanation
from server import config as settings
from server.catalog.cli import catalog_named
from server.clock import now_s
from server.delivery import kevel
from server.delivery.asking import is_personal, to_request
from server.delivery.context import ContextReader
from server.delivery.core import API
from server.delivery.dice import draw_of
from server.delivery.http import Ask, GivenHeaders
from server.delivery.waterfall import shown, waterfall
from server.errors import AdcoreError

LINES_PRINTED_MAX: Final = 40  # of a placement: more than a screen is not read

_MEANINGS: Final = {
    "won": "won",
    "paused": "it, or its campaign, is paused",
    "flight": "its flight has not begun, or is over",
    "daypart": "it does not run at this hour of the week",
    "targeting": "its targeting is not met",
    "creative": "no creative of an asked ad type that is not blocked",
    "floor": "its eCPM is below the placement's floor",
    "label": "a winner has the same label",
    "outranked": "the placement was full before its turn",
    "draw": "an equal won the draw for the last place",
}


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    command = commands.add_parser("explain", help="say why line items won or lost a request")
    command.add_argument("request", help="a file with the JSON of POST /api/v2; - is stdin")
    command.add_argument("--catalog", help="a generation or a file; default: what is published")
    command.add_argument("--line-item", type=int, metavar="ID", help="this one alone")
    command.add_argument(
        "--header", action="append", default=[], metavar="'NAME: VALUE'", help="of the request"
    )
    command.add_argument("--time", type=int, metavar="UTC_SECONDS", help="default: now")
    command.add_argument("--decision-id", metavar="HEX", help="of the answer to explain")
    command.add_argument("--json", action="store_true", help="print the waterfall as JSON")
    command.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    asked = _asked(args.request)
    catalog = catalog_named(args.catalog)
    index = compile_index(catalog)
    # What geo and country header a server reads with is in its settings, and so in ours.
    contexts = ContextReader(settings.load(os.environ))
    ask = _ask(args.header)
    personal = is_personal(asked, ask.headers)
    request = to_request(asked, contexts.read(ask, asked.ip), personal)
    live = index.live(now_s() if args.time is None else args.time)
    explanations = index.explain(request, live, _draw(args.decision_id))
    names = {line_item.id: line_item.name for line_item in catalog.line_items}
    placements = [placement.div_name for placement in asked.placements]
    if args.line_item is not None:
        return _print_one(args.line_item, placements, explanations, names)
    told = waterfall(placements, explanations, names.get)
    if args.json:
        print(json.dumps(told, indent=2, ensure_ascii=False))
    else:
        for placement, explanation in told.items():
            _print_placement(placement, explanation)
    return 0


def _asked(name: str) -> kevel.Asked:
    try:
        body = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
        return kevel.parse(body)
    except OSError as error:
        raise AdcoreError(f"{name}: {error.strerror}") from None
    except kevel.Unreadable as error:
        raise AdcoreError(f"{name}: {error}") from None


def _ask(headers: Sequence[str]) -> Ask:
    return Ask("POST", API, "", GivenHeaders(map(_pair, headers)), "")


def _pair(header: str) -> tuple[str, str]:
    name, colon, value = header.partition(":")
    if not colon:
        raise AdcoreError(f"--header {header!r}: not NAME: VALUE")
    return name.strip(), value.strip()


def _draw(decision_id: str | None) -> int:
    try:
        return 0 if decision_id is None else draw_of(bytes.fromhex(decision_id))
    except ValueError:
        raise AdcoreError(f"--decision-id {decision_id}: not an answer's decisionId") from None


# -- printing --------------------------------------------------------------------------------------


def _print_one(
    line_item_id: int,
    placements: Sequence[str],
    explanations: Sequence[Explanation],
    names: Mapping[int, str],
) -> int:
    for placement, explanation in zip(placements, explanations, strict=True):
        verdict = explanation.of(line_item_id)
        if verdict is None:
            raise AdcoreError(f"the catalog has no line item {line_item_id}")
        print(f"{placement}: {_reason(shown(verdict, names.get), names)}")
    return 0


def _print_placement(placement: str, told: dict[str, Any]) -> None:
    counts = ", ".join(f"{count} {reason}" for reason, count in told["counts"].items())
    print(f"{placement}: {counts or 'no line items'}")
    if told["dimensions"]:
        failed = ", ".join(f"{count} {name}" for name, count in told["dimensions"].items())
        print(f"  targeting failed on: {failed}")
    by_id = {line_item["lineItemId"]: line_item["name"] for line_item in told["lineItems"]}
    # Who came nearest stands first: what the targeting kept out is seldom what one looks for.
    listed = sorted(told["lineItems"], key=lambda it: it["reason"] == "targeting")
    for line_item in listed[:LINES_PRINTED_MAX]:
        print(
            f"  {line_item['lineItemId']:>10}  {line_item['name'][:32]:<32}"
            f"  {line_item['priority']:>3}  {line_item['eCPM']:>9.2f}  {_reason(line_item, by_id)}"
        )
    more = len(listed) - LINES_PRINTED_MAX + told["more"]
    if more > 0:
        print(f"  and {more} more")
    print()


def _reason(line_item: Mapping[str, Any], names: Mapping[int, str]) -> str:
    reason = line_item["reason"]
    text = f"{reason}: {_MEANINGS[reason]}" if reason != "won" else "won"
    if reason == "targeting":
        text += f", on {line_item['dimension']}" if "dimension" in line_item else " by any request"
    if "by" in line_item:
        text += f"; {line_item['by']} won: {names.get(line_item['by'], '')}"
    return text
