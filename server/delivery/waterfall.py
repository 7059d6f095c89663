"""An explanation as people read it: the waterfall of a request, placement by placement.

The same for the answer to `X-Adcore-Explain` and for `adcore explain`, which prints it.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias

import msgspec
from msgspec import Struct

from adcore.reasons import Explanation, Reason, Verdict
from server.delivery.kevel import Asked
from server.delivery.snapshot import Snapshot

LINES_SHOWN_MAX: Final = 500  # of a placement, best rank first: an answer of some 100 kB

Names: TypeAlias = Callable[[int], str | None]
"""A line item's name by its id."""


def waterfall(
    placements: Sequence[str], explanations: Sequence[Explanation], name_of: Names
) -> dict[str, Any]:
    """By placement: how many line items each reason kept out, on what, and which ones."""
    return {
        placement: {
            "counts": {r.name.lower(): n for r, n in explanation.counts().items() if n},
            "dimensions": _dimensions(explanation),
            "lineItems": [shown(explanation[rank], name_of) for rank in _ranks(explanation)],
            "more": max(0, len(explanation) - LINES_SHOWN_MAX),
        }
        for placement, explanation in zip(placements, explanations, strict=True)
    }


def explained(
    answer: bytes, asked: Asked, explanations: Sequence[Explanation], snapshot: Snapshot
) -> bytes:
    """The answer, a JSON object, with the waterfall as one more member."""
    names = msgspec.json.decode(snapshot.names, type=_Known).line_items
    told = waterfall(
        [placement.div_name for placement in asked.placements],
        explanations,
        lambda line_item_id: names[line_item_id].name if line_item_id in names else None,
    )
    return answer[:-1] + b',"explain":' + msgspec.json.encode(told) + b"}"


class _Named(Struct):
    name: str


class _Known(Struct):
    """Of the snapshot's names, what an explanation needs."""

    line_items: dict[int, _Named]


def shown(verdict: Verdict, name_of: Names) -> dict[str, Any]:
    """One line item; what does not apply is left out."""
    told = {
        "lineItemId": verdict.line_item_id,
        "name": name_of(verdict.line_item_id),
        "priority": verdict.priority,
        "eCPM": verdict.ecpm_micros / 1_000_000,
        "reason": verdict.reason.name.lower(),
        "dimension": verdict.dimension,
        "by": verdict.by,
        "lossCode": verdict.loss_code,
    }
    return {key: value for key, value in told.items() if value is not None}


def _ranks(explanation: Explanation) -> range:
    return range(min(len(explanation), LINES_SHOWN_MAX))


def _dimensions(explanation: Explanation) -> dict[str, int]:
    """How many of the shown line items failed on which dimension, most first."""
    verdicts = map(explanation.__getitem__, _ranks(explanation))
    failed = Counter(it.dimension or "never" for it in verdicts if it.reason is Reason.TARGETING)
    return dict(failed.most_common())
