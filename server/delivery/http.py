"""A request and an answer as the core sees them, free of Granian's and ASGI's own objects."""

from typing import NamedTuple, Protocol

Headers = tuple[tuple[str, str], ...]


class HeaderMap(Protocol):
    """Lower-case names. `get` gives the first value, `get_all` every one in order of arrival."""

    def get(self, name: str) -> str | None: ...
    def get_all(self, name: str) -> list[str]: ...
    def __len__(self) -> int: ...


class Ask(NamedTuple):
    method: str
    path: str  # as sent, percent-encoding untouched
    query: str  # without the question mark
    headers: HeaderMap
    peer: str  # the socket's address: an IP, or "" on a unix socket


class Answer(NamedTuple):
    status: int
    headers: Headers
    body: bytes
