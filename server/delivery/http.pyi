from collections.abc import Iterable
from typing import Protocol, TypeAlias, final

Headers: TypeAlias = tuple[tuple[str, str], ...]

class HeaderMap(Protocol):
    """Lower-case names. `get` gives the first value, `get_all` every one in order of arrival."""

    def get(self, name: str) -> str | None: ...
    def get_all(self, name: str) -> list[str]: ...
    def __len__(self) -> int: ...

class GivenHeaders:
    """Headers as pairs, of whoever asks without a connection."""

    def __init__(self, pairs: Iterable[tuple[str, str]]) -> None: ...
    def get(self, name: str) -> str | None: ...
    def get_all(self, name: str) -> list[str]: ...
    def __len__(self) -> int: ...

@final
class Ask:
    method: str
    path: str
    query: str
    headers: HeaderMap
    peer: str
    def __init__(
        self, method: str, path: str, query: str, headers: HeaderMap, peer: str
    ) -> None: ...

@final
class Answer:
    status: int
    headers: Headers
    body: bytes
    def __init__(self, status: int, headers: Headers, body: bytes) -> None: ...
