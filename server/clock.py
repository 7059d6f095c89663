"""The only reader of the time. Everything below takes it as an argument."""

import time


def now_s() -> int:
    """UTC seconds since the epoch."""
    return int(time.time())


monotonic_s = time.monotonic
perf_ns = time.perf_counter_ns
