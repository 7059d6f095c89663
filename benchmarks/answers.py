"""Whether the server under test answers what it should, and a checksum of what that is.

An answer carries its decision id, which holds the draw. So the decisions can be replayed: the same
catalog compiled here, the same request, the same draw must give the same line items and creatives,
in the same places. That shows that the process that was timed decided, and decided right as far as
the engine does; the engine itself is held against its oracle elsewhere. The checksum is over
decisions with fixed draws at a fixed time: a faster build that picks other ads shows by it.
"""

import hashlib
import http.client
from collections.abc import Sequence
from contextlib import closing

import msgspec

from adcore import Index, Win
from benchmarks.bodies import API, Call
from server.clock import now_s
from server.config import Config
from server.delivery import kevel
from server.delivery.asking import to_request
from server.delivery.context import ContextReader
from server.delivery.dice import draw_of
from server.delivery.http import Ask, GivenHeaders

Picks = list[tuple[str, int, int]]
"""Div name, line item, creative; in the order of the answer."""


class Replayer:
    """The engine in this process, asked as the server's core asks it."""

    def __init__(self, index: Index, config: Config) -> None:
        self._index = index
        self._contexts = ContextReader(config)

    def picks(self, call: Call, at_s: int, draw: int) -> tuple[Picks, list[list[Win]]]:
        asked = kevel.parse(call.body)
        ask = Ask("POST", API, "", GivenHeaders(call.headers), "127.0.0.1")
        request = to_request(asked, self._contexts.read(ask, asked.ip))
        wins = self._index.select(request, self._index.live(at_s), draw)
        picks = [
            (placement.div_name, win.line_item_id, win.creative_id)
            for placement, placed in zip(asked.placements, wins, strict=True)
            for win in placed
        ]
        return picks, wins

    def checksum(self, calls: Sequence[Call], at_s: int) -> str:
        """SHA-256 over the decisions at `at_s`, with the request's number as the draw."""
        digest = hashlib.sha256()
        for number, call in enumerate(calls):
            picks, wins = self.picks(call, at_s, number)
            prices = [win.clear_price_micros for placed in wins for win in placed]
            digest.update(repr((picks, prices)).encode())
        return digest.hexdigest()

    def verify(self, port: int, calls: Sequence[Call]) -> int:
        """Ask the server; raise unless the engine gives the same. Return the ads served."""
        served = 0
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
            for number, call in enumerate(calls):
                first_s = now_s()
                connection.request("POST", API, call.body, dict(call.headers))
                answer = connection.getresponse()
                body = answer.read()
                if answer.status != 200:
                    raise ValueError(f"request {number}: {answer.status} {body[:200]!r}")
                told = msgspec.json.decode(body)
                draw = draw_of(bytes.fromhex(told["decisionId"]))
                picks = _picks(told)
                # It decided in one of these seconds, and a flight may begin between them.
                if not any(picks == self.picks(call, at_s, draw)[0] for at_s in {first_s, now_s()}):
                    raise ValueError(f"request {number}: the engine decides otherwise than {picks}")
                served += len(picks)
        return served


def _picks(told: dict[str, object]) -> Picks:
    picks: Picks = []
    decisions = told["decisions"]
    assert isinstance(decisions, dict)
    for name, decision in decisions.items():
        ads = decision if isinstance(decision, list) else [decision] if decision else []
        picks += ((name, ad["flightId"], ad["creativeId"]) for ad in ads)
    return picks
