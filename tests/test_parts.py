"""What each process imports: the image of a front pod has no numpy, and a start no time to lose."""

import subprocess
import sys

import pytest

from server.cli import COMMANDS
from tests.serving import ROOT

NEED_NUMPY = {"control", "pace"}


def python(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )


def imported(module: str) -> set[str]:
    done = python(f"import sys, {module}; print(*sys.modules)")
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_a_server_s_parent_starts_without_redis_py():
    assert not {"redis", "numpy", "yaml"} & imported("server.serve")


@pytest.mark.parametrize("module", sorted({"server.worker", *COMMANDS.values()}))
def test_numpy_is_imported_by_pacing_alone(module):
    needs = any(COMMANDS[command] == module for command in NEED_NUMPY)
    assert ("numpy" in imported(module)) == needs


WITHOUT_NUMPY = "import sys; sys.modules['numpy'] = None; from server.cli import main; "


@pytest.mark.parametrize("command", sorted(NEED_NUMPY))
def test_without_numpy_a_command_says_what_it_needs(command):
    done = python(f"{WITHOUT_NUMPY} sys.exit(main([{command!r}]))")
    assert done.returncode == 1
    assert done.stderr == f"adcore: {command} needs numpy: pip install 'adcore[control]'\n"


def test_without_numpy_all_other_commands_are_there():
    done = python(f"{WITHOUT_NUMPY} main(['--help'])")
    assert done.returncode == 0, done.stderr
    assert "serve" in done.stdout
    assert not any(f"\n    {command} " in done.stdout for command in NEED_NUMPY)
