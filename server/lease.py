"""`adcore lease`: the lease agent's process, started by `adcore serve` and not by people.

It also fetches the plan, which it writes to a file for the workers.
"""

import argparse
import logging
import os
import secrets
from pathlib import Path
from socket import gethostname
from typing import Final

from server import config as settings
from server import logs
from server.clock import monotonic_s, pause
from server.delivery import planning
from server.delivery.agent import STEP_S, Agent
from server.delivery.leasing import LeaseTable
from server.errors import SnapshotError, StoreError
from server.families import AGENT
from server.lifeline import die_with
from server.metrics import Metrics
from server.run_folder import LEASES
from server.store import connect
from server.store.budgets import BudgetStore, Granter
from server.store.keyspace import Keyspace
from server.store.plans import PlanStore

BACK_OFF_S_MAX: Final = 8.0  # leases are gone by then; more would only delay their return

log = logging.getLogger(__name__)


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    # No help text: the command does not show in `adcore --help`.
    parser = commands.add_parser("lease")
    parser.add_argument("--run-dir", type=Path, required=True)
    parser.add_argument("--parent", type=int, default=0, help="end when this process does")
    parser.set_defaults(run=lease)


def lease(args: argparse.Namespace) -> int:
    if args.parent:
        die_with(args.parent)
    config = settings.load(os.environ)
    logs.configure(AGENT, config.log_level)
    keys = Keyspace(config.redis_prefix)
    store = BudgetStore(connect(config.redis_url), keys, config.redis_replicas)
    # One life of one server: a dead predecessor's calls are not ours.
    granter = Granter(store, f"{gethostname()}.{secrets.token_hex(8)}")
    table = LeaseTable(args.run_dir / LEASES, create=True)
    agent = Agent(granter, table, args.run_dir, Metrics(args.run_dir, AGENT))
    plans = Plans(PlanStore(connect(config.redis_url), keys), args.run_dir)
    run(agent, plans)
    return 0


def run(agent: Agent, plans: "Plans") -> None:
    """Step each second, for ever; more rarely while Redis is away."""
    pause_s = STEP_S
    while True:
        started_s = monotonic_s()
        answered = agent.step() and plans.step()
        pause_s = STEP_S if answered else min(2 * pause_s, BACK_OFF_S_MAX)
        pause(max(0.0, started_s + pause_s - monotonic_s()))


class Plans:
    """Follows the plan in Redis; `step` is one look."""

    def __init__(self, store: PlanStore, run_dir: Path) -> None:
        self._store = store
        self._run_dir = run_dir
        self._version = 0

    def step(self) -> bool:
        """Write the plan down if it is another one; False when Redis did not answer."""
        try:
            version = self._store.version()
            if version != self._version:
                self._write(version)
        except StoreError as error:
            log.warning("no plan", extra={"detail": str(error)})
            return False
        return True

    def _write(self, version: int) -> None:
        # One that is no good is refused once: the next one has another version.
        self._version = version
        try:
            plan = self._store.read()
            if plan is None:
                return
            # A newer one may be there already: then the next look reads it once more.
            self._version = plan.version
            columns = (plan.ids, plan.rates_ppm, plan.probabilities_ppm, plan.multipliers_ppm)
            planning.write(self._run_dir, plan.version, plan.made_at_s, *columns)
        except (SnapshotError, OSError) as error:
            log.error("plan refused", extra={"version": version, "reason": str(error)})
