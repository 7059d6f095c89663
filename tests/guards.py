"""Takes a guard out of the running code, and says what a test must then see."""

import inspect
import textwrap
from collections.abc import Callable
from pathlib import Path
from types import FunctionType, SimpleNamespace

import pytest

from tests.sim.world import run, small_limits

SEEDS = 200  # that at most are tried until one of them fails
SCRIPTS = Path(__file__).parent.parent / "server/store/scripts"

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


def without_in_script(folder: Path, name: str, old: str, new: str) -> Removal:
    """Change one of the scripts that `server.store.counts` loads."""

    def remove(patch: pytest.MonkeyPatch) -> None:
        scripts = folder / "scripts"
        scripts.mkdir()
        for path in SCRIPTS.glob("*_counts.lua"):
            text = path.read_text()
            if path.name == name:
                assert text.count(old) == 1
                text = text.replace(old, new)
            (scripts / path.name).write_text(text)
        patch.setattr(
            "server.store.counts.resources", SimpleNamespace(files=lambda package: folder)
        )

    return remove


def simulate(patch: pytest.MonkeyPatch) -> None:
    """Run seeds until one fails."""
    small_limits(patch)
    for seed in range(SEEDS):
        run(seed)
