"""Windows close once, in order, and never while one of their impressions may still be billed."""

from hypothesis import given
from hypothesis import strategies as st

from server.events.leases import (
    SETTLE_GRACE_S,
    WINDOW_S,
    closed_window,
    closes_s,
    used_until_s,
    window_of,
    window_start_s,
)
from server.events.records import IMPRESSION_WINDOW_S

MOMENTS = st.integers(0, 1 << 40)


@given(MOMENTS)
def test_a_moment_lies_in_its_window(now_s):
    start_s = window_start_s(window_of(now_s))
    assert start_s <= now_s < start_s + WINDOW_S


@given(MOMENTS)
def test_the_last_closed_window_is_the_last_that_closes_by_then(now_s):
    last = closed_window(now_s)
    assert closes_s(last) <= now_s < closes_s(last + 1)


@given(MOMENTS)
def test_what_is_granted_now_is_used_for_ten_to_twenty_seconds_and_closes_after_all_is_billed(
    now_s,
):
    window = window_of(now_s)
    assert 10 < used_until_s(window) - now_s <= 20
    last_billed_s = used_until_s(window) - 1 + IMPRESSION_WINDOW_S
    assert closes_s(window) > last_billed_s + SETTLE_GRACE_S
