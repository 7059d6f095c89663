"""Requests whose body has not arrived, so that none waits for ever."""

cimport cython

import asyncio

from server.clock import monotonic_s


@cython.final
cdef class Waiting:
    """Who waits and since when; one timer cancels whatever is overdue.

    A timeout object a request would cost more than reading the body. A task waits inside of
    `with waiting:`. Any thread may add and remove: each does one operation on a dictionary of
    objects that compare by identity, which the GIL makes whole.
    """

    def __init__(self, double timeout_s):
        self.timeout_s = timeout_s
        # In order of arrival, which is the order in which they become overdue.
        self.since_s = {}

    cpdef add(self, waiter):
        self.since_s[waiter] = monotonic_s()

    cpdef bint remove(self, waiter):
        """Whether it was waiting: of several that remove it at once, one alone is told so."""
        return self.since_s.pop(waiter, None) is not None

    def __contains__(self, waiter):
        return waiter in self.since_s

    def __enter__(self):
        task = asyncio.current_task()
        if task is not None:
            self.add(task)

    def __exit__(self, *error):
        task = asyncio.current_task()
        if task is not None:
            self.remove(task)

    def cancel_overdue(self):
        latest_s = monotonic_s() - self.timeout_s
        # A copy is made whole, while a list of the items might see a thread change them.
        for waiter, since_s in self.since_s.copy().items():
            if since_s > latest_s:
                break
            waiter.cancel()
