"""The only reader of the time. Everything below takes it as an argument."""

import time


def now_s() -> int:
    """UTC seconds since the epoch."""
    return int(time.time())


def now_ms() -> int:
    """UTC milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


monotonic_s = time.monotonic
monotonic_ns = time.monotonic_ns
perf_ns = time.perf_counter_ns
pause = time.sleep
