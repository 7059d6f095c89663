"""House rules that a machine can check: sizes, import arrows, owners, words."""

import ast
import re
from pathlib import Path

import pytest

pytestmark = pytest.mark.plain

ROOT = Path(__file__).parent.parent
LINES_MAX = 400
TEST_LINES_MAX = 500  # one module's claims stay in one file
FUNCTION_LINES_MAX = 70
COLUMNS_MAX = 100

SOURCES = sorted(
    path
    for folder in ("adcore", "server", "benchmarks", "tests", "examples")
    for ending in ("*.py", "*.pyx", "*.pxd", "*.pyi", "*.c", "*.lua")
    for path in (ROOT / folder).rglob(ending)
)
PYTHON = [path for path in SOURCES if path.suffix == ".py"]

# Who may import whom, by package; a package may always import itself.
SHARED = {
    "server.clock", "server.config", "server.errors", "server.families", "server.logs",
    "server.metrics", "server.terminal",
}  # fmt: skip
# What a command that is a process of its own is made of.
PROCESS = {"server.kept_process", "server.lifeline", "server.ops", "server.run_folder"}
ARROWS = {
    "adcore": set(),
    "server.store": {"adcore", "server.events", *SHARED},
    "server.catalog": {"adcore", "server.store", *SHARED},
    "server.events": SHARED,
    "server.delivery": {
        "adcore",
        "server.store",
        "server.catalog",
        "server.events",
        "server.pacing.accounts",  # what must be leased stands in the bundle
        *SHARED,
    },
    "server.ledger": {
        "adcore",
        "server.store",
        "server.catalog",
        "server.events",
        "server.pacing.accounts",  # what is charged is limited by the same budgets
        *SHARED,
        *PROCESS,
    },
    "server.pacing": {
        "adcore",
        "server.store",
        "server.catalog",
        "server.events",
        *SHARED,
        *PROCESS,
    },
    "server.console": SHARED,
}


def ids(paths: list[Path]) -> list[str]:
    return [str(path.relative_to(ROOT)) for path in paths]


def sources_below(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*.p*") if path.suffix in (".py", ".pyx", ".pxd")]


def modules_imported(path: Path) -> set[str]:
    if path.suffix != ".py":  # Cython's syntax, which ast can't read
        lines = re.findall(r"^(?:from|c?import) ([\w.]+)", path.read_text(), re.MULTILINE)
        return {line for line in lines if line not in ("cython", "*")}
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("path", SOURCES, ids=ids(SOURCES))
def test_a_file_can_be_read_in_one_sitting(path):
    lines = path.read_text().splitlines()
    assert len(lines) <= (TEST_LINES_MAX if "tests" in path.parts else LINES_MAX)
    wide = [number for number, line in enumerate(lines, 1) if len(line) > COLUMNS_MAX]
    assert not wide


@pytest.mark.parametrize("path", PYTHON, ids=ids(PYTHON))
def test_a_function_fits_on_a_screen(path):
    long = [
        f"{node.name}: {node.end_lineno - node.lineno + 1} lines"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno - node.lineno + 1 > FUNCTION_LINES_MAX
    ]
    assert not long


@pytest.mark.parametrize("package", ARROWS)
def test_imports_point_one_way(package):
    allowed = (package, *ARROWS[package])
    wrong = {
        f"{path.relative_to(ROOT)} imports {name}"
        for path in sources_below(ROOT / package.replace(".", "/"))
        for name in modules_imported(path)
        if name.split(".")[0] in ("adcore", "server")
        and not any(name == arrow or name.startswith(arrow + ".") for arrow in allowed)
    }
    assert not wrong


def test_redis_and_the_clock_have_one_importer_each():
    for path in sources_below(ROOT / "server"):
        names = {name.split(".")[0] for name in modules_imported(path)}
        where = path.relative_to(ROOT / "server").as_posix()
        assert not names & {"redis", "hiredis"} or where.startswith("store/"), where
        assert not names & {"time"} or where in ("clock.py",), where
    for path in sources_below(ROOT / "adcore"):
        assert not re.search(
            r"^\s*(c?import|from) (time|random|os|socket)\b", path.read_text(), re.M
        ), path


@pytest.mark.parametrize("path", SOURCES, ids=ids(SOURCES))
def test_nothing_is_left_undone(path):
    if path.name != Path(__file__).name:
        assert not re.search(r"\b(TODO|FIXME|XXX|NotImplemented\b)", path.read_text())
