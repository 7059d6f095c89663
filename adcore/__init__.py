"""adcore: a compiled ad decision engine, usable as a plain library.

`compile(catalog)` gives an immutable `Index`; `index.live(now_s)` says which rows may serve at that
second; `index.select(request, live, draw)` gives the winners. No I/O, no clock, no dice: the same
index, request, time and draw give the same answer. Nothing in this package imports anything else of
ours.
"""

from adcore.catalog import Catalog
from adcore.index import Index
from adcore.layout import compile
from adcore.live import Live
from adcore.plan import Plan
from adcore.request import Placement, Request
from adcore.win import Win

__all__ = ["Catalog", "Index", "Live", "Placement", "Plan", "Request", "Win", "compile"]
