"""`adcore`: one command for each process and each chore.

Exit codes: 0 done; 1 refused or failed, with the reason on stderr (`check` prints faults to
stdout); 2 wrong usage; 130 interrupted. Settings come from ADCORE_* variables, see `config.py`.
"""

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from typing import Final

from server.errors import AdcoreError

COMMANDS: Final = {
    "check": "server.catalog.cli",
    "schema": "server.catalog.cli",
    "publish": "server.catalog.cli",
    "catalog": "server.catalog.cli",
    "explain": "server.explain",
    "serve": "server.serve",
    "drain": "server.drain",
    "load": "server.load",
    "lease": "server.lease",
    "forward": "server.ledger.forward",
    "lines": "server.ledger.lines",
    "aggregate": "server.ledger.aggregate",
    "count": "server.ledger.count",
    "control": "server.pacing.control",
    "pace": "server.pacing.cli",
    "report": "server.ledger.cli",
    "reconcile": "server.ledger.cli",
    "archive": "server.ledger.cli",
    "demo": "server.demo",
}
"""Each command's module. It is imported when its command is asked for: a server's parts take their
time, and `check` needs none of them. `register(commands)` in it adds a parser whose `run` takes the
arguments and returns the exit code."""

EXTRAS: Final = {"numpy": "control"}
"""Packages without which only some commands work, and the extra that brings each."""


def main(arguments: Sequence[str] | None = None) -> int:
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        args = _parser(arguments[0] if arguments else "").parse_args(arguments)
        code: int = args.run(args)
        sys.stdout.flush()
        return code
    except AdcoreError as error:
        print(f"adcore: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader has seen enough, as in `| head`. Python would complain when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _parser(command: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="adcore", description="A self-hosted ad server.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    modules = [COMMANDS[command]] if command in COMMANDS else dict.fromkeys(COMMANDS.values())
    for module in modules:
        try:
            importlib.import_module(module).register(commands)
        except ModuleNotFoundError as error:
            if error.name not in EXTRAS:
                raise
            # The others work without it, and their help must show.
            if command in COMMANDS:
                extra = EXTRAS[error.name]
                needs = f"{command} needs {error.name}: pip install 'adcore[{extra}]'"
                raise AdcoreError(needs) from None
    return parser
