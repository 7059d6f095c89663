"""Takes a guard out of the running code, and says what a test must then see."""

import inspect
import textwrap
from collections.abc import Callable
from pathlib import Path
from types import FunctionType, SimpleNamespace

import pytest

from server.events.frames import BODY, PREFIX, RECORD_BYTES_MAX
from tests.sim.world import run, small_limits

SEEDS = 400  # that at most are tried until one of them fails
STORE = Path(__file__).parent.parent / "server/store"

Removal = Callable[[pytest.MonkeyPatch], None]


def without(function: object, *changes: tuple[str, str]) -> Removal:
    """Change the source of a function or property, for all who have imported it already."""
    function = function.fget if isinstance(function, property) else function
    assert isinstance(function, FunctionType)
    source = textwrap.dedent(inspect.getsource(function))
    for old, new in changes:
        assert source.count(old) == 1, f"{function.__qualname__} has {source.count(old)} of {old!r}"
        source = source.replace(old, new)
    scope = dict(function.__globals__)
    exec(compile(source, inspect.getfile(function), "exec"), scope)
    changed = scope[function.__name__]
    changed = changed.fget if isinstance(changed, property) else changed
    return lambda patch: patch.setattr(function, "__code__", changed.__code__)


class _Changed:
    """A folder of the package, or a file in it, one of which reads otherwise."""

    def __init__(self, path: Path, name: str, old: str, new: str) -> None:
        self._path, self._name, self._old, self._new = path, name, old, new

    def __truediv__(self, part: str) -> "_Changed":
        return _Changed(self._path / part, self._name, self._old, self._new)

    def read_text(self, encoding: str) -> str:
        text = self._path.read_text(encoding)
        if self._path.name != self._name:
            return text
        assert text.count(self._old) == 1, f"{self._name} has {text.count(self._old)}"
        return text.replace(self._old, self._new)


def without_frame_crc(patch: pytest.MonkeyPatch) -> None:
    """Have the sender take a frame for whole when its length can be; its own scan is compiled."""

    def scan(content: bytes, start: int, size_min: int) -> list[tuple[int, bytes, int]]:
        found: list[tuple[int, bytes, int]] = []
        first, head = start, PREFIX.size + BODY.size
        while len(content) - start >= head and start - first < size_min:
            end = start + PREFIX.size + PREFIX.unpack_from(content, start)[0]
            if not start + head <= end <= min(len(content), start + head + RECORD_BYTES_MAX):
                break
            sequence = BODY.unpack_from(content, start + PREFIX.size)[1]
            found.append((sequence, content[start + head : end], end))
            start = end
        return found

    patch.setattr("server.ledger.sender.scan", scan)


def without_in_script(name: str, old: str, new: str, module: str = "counts") -> Removal:
    """Change one of the scripts that a module of `server.store` loads."""
    folder = SimpleNamespace(files=lambda package: _Changed(STORE, name, old, new))
    return lambda patch: patch.setattr(f"server.store.{module}.resources", folder)


def simulate(patch: pytest.MonkeyPatch) -> None:
    """Run seeds until one fails."""
    small_limits(patch)
    for seed in range(SEEDS):
        run(seed)
