"""Cython's plugin for coverage.py, told where our generated C lies: it looks beside the sources."""

from pathlib import Path

from coverage.plugin_support import Plugins
from Cython.Coverage import Plugin

_ROOT = Path(__file__).resolve().parents[1]
_GENERATED = _ROOT / "build" / "c-coverage"


class GeneratedElsewhere(Plugin):
    def _find_source_files(self, filename: str) -> tuple[str | None, str | None]:
        path = Path(filename)
        if path.suffix in (".pyx", ".pxd") and path.is_relative_to(_ROOT):
            generated = (_GENERATED / path.relative_to(_ROOT)).with_suffix(".c")
            if generated.exists():
                return str(generated), None
            # A .pxd with code and no .pyx beside it is compiled into whoever cimports it.
            self._find_c_source_files(str(generated.parent), filename)
            if filename in (self._c_files_map or {}):
                return self._c_files_map[filename][0], None
        found: tuple[str | None, str | None] = super()._find_source_files(filename)
        return found


def coverage_init(registry: Plugins, _: dict[str, str]) -> None:
    registry.add_file_tracer(GeneratedElsewhere())
