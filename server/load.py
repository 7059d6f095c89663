"""`adcore load`: the loader's process, started by `adcore serve` and not by people."""

import argparse
import gc
import os
from pathlib import Path

from server import config as settings
from server import logs
from server.delivery.loader import Loader
from server.lifeline import die_with
from server.metrics import Metrics
from server.store import connect
from server.store.catalogs import CatalogStore
from server.store.keyspace import Keyspace

PROCESS = "loader"
NICENESS = 19  # the last: a weight of 15 beside the 1024 of others


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    # No help text: the command does not show in `adcore --help`.
    parser = commands.add_parser("load")
    parser.add_argument("--run-dir", type=Path, required=True)
    parser.add_argument("--parent", type=int, default=0, help="end when this process does")
    parser.set_defaults(run=load)


def load(args: argparse.Namespace) -> int:
    if args.parent:
        die_with(args.parent)
    config = settings.load(os.environ)
    logs.configure(PROCESS, config.log_level)
    store = CatalogStore(connect(config.redis_url), Keyspace(config.redis_prefix))
    # Records form no cycles, and looking for them in a catalog of 100,000 line items costs a third
    # of the time that loading takes.
    gc.disable()
    loader = Loader(store, args.run_dir, config.base_url, Metrics(args.run_dir, PROCESS))
    loader.run(when_serving=_step_back)
    return 0


def _step_back() -> None:
    """Leave the processor to whoever answers: a build must not make an answer late.

    Not before the first snapshot serves: until then everybody waits for this process. Not by
    SCHED_IDLE, though it promises even less: the scheduler takes a core that runs such a process
    for an idle one and wakes the answering threads there. Beside a mere loop under it, their p99
    was 3 to 5 ms, and 0.5 to 0.8 beside the same loop at this niceness (two cores, Linux 6.18).
    """
    os.nice(NICENESS)
