"""Each guard of the leases, taken out of a copy of its module, is missed by somebody.

The modules are compiled, so a copy is compiled too: seconds each.
"""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from tests import test_filling, test_leasing

pytestmark = pytest.mark.process

ROOT = Path(__file__).parent.parent
BUILD = """
import sys
from Cython.Build import cythonize
from setuptools import Extension, setup
name, root = sys.argv.pop(), sys.argv.pop()
setup(ext_modules=cythonize(
    [Extension(name, [name + ".pyx"], extra_compile_args=["-O1"])],
    include_path=[root],
    compiler_directives={"language_level": 3, "cdivision": True, "wraparound": False},
    quiet=True,
))
"""


def changed(folder: Path, monkeypatch, module: str, old: str, new: str):
    """The module of that name in server/delivery, but for one change, under another name."""
    name = f"changed_{module}_{folder.name.replace('-', '_')}"
    source = (ROOT / f"server/delivery/{module}.pyx").read_text()
    assert source.count(old) == 1, f"{module} has {source.count(old)} of {old!r}"
    (folder / f"{name}.pyx").write_text(source.replace(old, new))
    (folder / f"{name}.pxd").write_text((ROOT / f"server/delivery/{module}.pxd").read_text())
    subprocess.run(
        [sys.executable, "-c", BUILD, "-q", "build_ext", "--inplace", str(ROOT), name],
        cwd=folder,
        check=True,
        timeout=120,
    )
    monkeypatch.syspath_prepend(str(folder))
    return importlib.import_module(name)


def hammered(table):
    """Until it shows, ten times at most: whether processes meet is the scheduler's to say."""
    for _ in range(10):
        slot = test_leasing.filled(table, 0)
        put, taken = test_leasing.hammer(table, slot, 300, type(table).__module__)
        assert taken == {window: units for window, units in put.items() if units}


@pytest.mark.parametrize(
    ("old", "new", "test"),
    [
        pytest.param(
            "if AT_CHANGE_64(&entry.word, &word, word - 1):",
            "if True:\n            entry.word = word - 1",
            hammered,
            id="take without compare-and-swap",
        ),
        pytest.param(
            "while word >> 32 == window and (word & UNITS) < UNITS:",
            "while (word & UNITS) < UNITS:",
            test_leasing.test_a_unit_is_given_back_to_its_own_lease_only,
            id="give back to any lease",
        ),
        pytest.param(
            "return word & UNITS and window < (word >> 32) + WINDOWS_USED",
            "return word & UNITS",
            test_leasing.test_a_lease_serves_in_its_window_and_the_next_and_not_a_moment_longer,
            id="use what has ended",
        ),
        pytest.param(
            "    if AT_LOAD_64(&entry.id) != line_item_id:\n        return 0\n",
            "",
            test_leasing.test_an_entry_is_its_line_item_s_alone,
            id="take from whoever has the slot",
        ),
    ],
)
def test_the_table_without(tmp_path, monkeypatch, old, new, test):
    module = changed(tmp_path, monkeypatch, "leasing", old, new)
    with pytest.raises(AssertionError):
        test(module.LeaseTable(tmp_path / "leases.bin", create=True))


@pytest.mark.parametrize(
    ("old", "new", "test"),
    [
        pytest.param(
            "            wins = snapshot.index.select(request, live, draw)\n",
            "            return wins\n",
            test_filling.test_a_winner_has_a_unit_and_who_needs_none_has_none,
            id="select again",
        ),
        pytest.param(
            "            _give_back(wins, leased)\n",
            "",
            test_filling.test_what_a_round_took_is_given_back_when_another_winner_is_refused,
            id="give back",
        ),
        pytest.param(
            "            _drop(wins, leased)\n",
            "            pass\n",
            test_filling.test_rounds_are_bounded_and_then_a_place_stays_empty,
            id="drop",
        ),
    ],
)
def test_the_filler_without(tmp_path, monkeypatch, old, new, test):
    module = changed(tmp_path, monkeypatch, "filling", old, new)
    monkeypatch.setattr(test_filling, "Filler", module.Filler)
    folder = tmp_path / "run"
    folder.mkdir()
    made = folder
    if "worker" in test.__code__.co_varnames[: test.__code__.co_argcount]:
        made = test_filling.Worker(folder, test_filling.with_goal(1000, house=True))
    with pytest.raises(AssertionError):
        test(made)
