"""A request and an answer as the core sees them, free of Granian's and ASGI's own objects.

Compiled, as everything is that each request passes: a field is read in a nanosecond.
"""

cimport cython

from typing import Protocol

Headers = tuple[tuple[str, str], ...]


class HeaderMap(Protocol):
    """Lower-case names. `get` gives the first value, `get_all` every one in order of arrival."""

    def get(self, name): ...
    def get_all(self, name): ...
    def __len__(self): ...


class GivenHeaders:
    """Headers as pairs, of whoever asks without a connection."""

    def __init__(self, pairs):
        self._values = {}
        for name, value in pairs:
            self._values.setdefault(name.lower(), []).append(value)

    def get(self, name):
        values = self._values.get(name)
        return values[0] if values else None

    def get_all(self, name):
        return self._values.get(name, [])

    def __len__(self):
        return sum(map(len, self._values.values()))


@cython.final
@cython.freelist(64)
cdef class Ask:
    """One request, without its body.

    The path is as sent, percent-encoding untouched; the query has no question mark; the peer is the
    socket's address, an IP, or "" on a unix socket.
    """

    def __init__(
        self, str method not None, str path not None, str query not None, headers not None,
        str peer not None,
    ):
        self.method = method
        self.path = path
        self.query = query
        self.headers = headers
        self.peer = peer


@cython.final
@cython.freelist(64)
cdef class Answer:

    def __init__(self, int status, tuple headers not None, bytes body not None):
        self.status = status
        self.headers = headers
        self.body = body

    def __repr__(self):
        return f"Answer({self.status}, {self.headers!r}, {self.body!r})"
