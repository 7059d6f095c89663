"""When a lease may be used, and when what it billed is known: both sides of it read this.

    granted in window w ── used ──► (w + 2) windows ── its impressions are on their way ──► closed
                        10 to 20 s                      IMPRESSION_WINDOW_S, SETTLE_GRACE_S

A window is 10 s of Redis's clock, numbered since 1970. A lease is known by its window's number,
which stands in the token and in the beacon; 0 is no lease. The ledger goes by its log's time: once
that has closed a window, no impression of it is billed any more, so its sum is final.
"""

from typing import Final

from server.events.records import IMPRESSION_WINDOW_S

WINDOW_S: Final = 10
WINDOWS_USED: Final = 2  # its own and the next: a server need not stop while it asks again
# From the last moment at which an impression may be billed to its place in the log: a forwarder's
# pause, a restart of the aggregator, clocks that differ.
SETTLE_GRACE_S: Final = 20
NO_LEASE: Final = 0


def window_of(now_s: int) -> int:
    return now_s // WINDOW_S


def window_start_s(window: int) -> int:
    return window * WINDOW_S


def used_until_s(window: int) -> int:
    """Give the moment from which on a lease of this window may not be used."""
    return (window + WINDOWS_USED) * WINDOW_S


def closes_s(window: int) -> int:
    """Give the log's time from which on no impression of this window is billed."""
    return used_until_s(window) + IMPRESSION_WINDOW_S + SETTLE_GRACE_S


def closed_window(now_s: int) -> int:
    """Give the last window that a log with this time has closed."""
    return (now_s - IMPRESSION_WINDOW_S - SETTLE_GRACE_S) // WINDOW_S - WINDOWS_USED
