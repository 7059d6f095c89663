"""`adcore pace`: how each line item with a goal or budget stands, and why one is behind."""

import argparse
import os
import shutil
import sys
from contextlib import closing
from typing import Final

import msgspec
import numpy as np

from adcore.catalog import Catalog
from server import config as settings
from server.clock import now_s, pause
from server.errors import AdcoreError, StoreError
from server.events.leases import WINDOW_S
from server.pacing import pace
from server.pacing.booked import QUARTER_S, Booked, booked
from server.pacing.counted import Billed, Counted
from server.pacing.forecast import Forecast
from server.pacing.goals import Supply
from server.pacing.solving import seen_of, supply_of
from server.pacing.standing import HOURS_SHOWN, PLAN_AGE_MAX_S, View, in_order
from server.pacing.standing_output import to_json, to_page, to_table
from server.pacing.state import State
from server.pacing.viewing import Known, standings, unlimited
from server.store import Keyspace, connect
from server.store.budgets import BudgetStore
from server.store.catalogs import CatalogStore
from server.store.client import Client
from server.store.counts import CountsStore, shards
from server.store.leaders import LeaderStore
from server.store.learned import LearnedStore
from server.store.plans import Plan, PlanStore
from server.terminal import has_colour

WATCH_S: Final = 2.0
_HOME_AND_CLEAR_BELOW: Final = "\x1b[H\x1b[J"
_OTHER_SCREEN, _OWN_SCREEN = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    command = commands.add_parser(
        "pace", help="print how line items with a goal or budget stand, and why one is behind"
    )
    command.add_argument("--line-item", type=int, metavar="ID", help="all about this one")
    command.add_argument("--json", action="store_true", help="one object; with --watch one a line")
    command.add_argument("--watch", action="store_true", help=f"again every {WATCH_S:g} s")
    command.set_defaults(run=run_pace)


def run_pace(args: argparse.Namespace) -> int:
    config = settings.load(os.environ)
    client = connect(config.redis_url)
    with closing(client):
        looking = Looking(client, Keyspace(config.redis_prefix))
        if not args.watch:
            print(_content(looking.look(now_s()), args), end="")
            return 0
        return _watch(looking, args)


def _watch(looking: "Looking", args: argparse.Namespace) -> int:
    """Show it again and again, until interrupted; a Redis that is away is told and waited for."""
    on_screen = sys.stdout.isatty() and not args.json
    try:
        if on_screen:
            print(_OTHER_SCREEN, end="")
        while True:
            try:
                content = _content(looking.look(now_s()), args)
            except StoreError as error:
                content = "" if args.json else f"{error}\n"
                if args.json:
                    print(f"adcore: {error}", file=sys.stderr)
            print(f"{_HOME_AND_CLEAR_BELOW}{content}" if on_screen else content, end="", flush=True)
            pause(WATCH_S)
    except KeyboardInterrupt:
        return 0
    finally:
        if on_screen:
            print(_OWN_SCREEN, end="", flush=True)


def _content(view: View, args: argparse.Namespace) -> str:
    colour = has_colour(sys.stdout)
    if args.line_item is not None:
        chosen = [each for each in view.standings if each.id == args.line_item]
        if not chosen:
            raise AdcoreError(_absent(args.line_item))
        if args.json:
            view = msgspec.structs.replace(view, standings=tuple(chosen))
            return to_json(view, one_line=args.watch)
        return to_page(view, chosen[0], colour=colour)
    if args.json:
        return to_json(view, one_line=args.watch)
    if not sys.stdout.isatty():
        return to_table(view, colour=False)
    size = shutil.get_terminal_size()
    # Of a watched table what fits; else all, and the terminal scrolls.
    rows = max(size.lines - 8, 3) if args.watch else None
    return to_table(view, colour=colour, width=size.columns, rows=rows)


def _absent(number: int) -> str:
    return f"line item {number} is not in the catalog, or has no goal and no budget"


class Looking:
    """Reads all that is known, again and again; what can't have changed is kept."""

    def __init__(self, client: Client, keys: Keyspace) -> None:
        self._client, self._keys = client, keys
        self._catalogs = CatalogStore(client, keys)
        self._plans = PlanStore(client, keys)
        self._budgets = BudgetStore(client, keys)
        self._leaders = LeaderStore(client, keys)
        self._learned = LearnedStore(client, keys)
        self._generation = 0
        self._catalog: Catalog | None = None
        self._booked: Booked | None = None
        self._counted: Counted | None = None
        self._shards: list[int] = []

    def look(self, now: int) -> View:
        catalog, goals_of = self._follow(now)
        counted = self._follow_shards()
        plan = self._plans.read()
        billed = counted.look(goals_of) if self._shards else None
        first = (now // 3600 - HOURS_SHOWN + 1) * 3600 // QUARTER_S
        quarters = counted.quarters(range(first, now // QUARTER_S + 1)) if self._shards else {}
        settled_s, accounts, ghosts, notes = self._accounts(goals_of)
        state, supply = self._knowledge(goals_of, billed, now)
        known = Known(
            catalog=catalog,
            booked=goals_of,
            state=state,
            supply=supply,
            billed=billed,
            rates_ppm=_rates(plan) if plan and now - plan.made_at_s <= PLAN_AGE_MAX_S else None,
            accounts=accounts,
            ghosts=ghosts,
            quarters=quarters or {},
            now_s=now,
        )
        return View(
            now_s=now,
            currency=catalog.account.currency,
            leader=self._leaders.leader(),
            plan_version=plan.version if plan else 0,
            plan_age_s=now - plan.made_at_s if plan else 0,
            counted_s=billed.time_s if billed else None,
            settled_s=settled_s,
            standings=in_order(standings(known)),
            unlimited=unlimited(catalog, goals_of),
            notes=tuple(notes),
        )

    def _follow(self, now: int) -> tuple[Catalog, Booked]:
        generation = self._catalogs.current()
        if generation is None:
            raise AdcoreError("nothing is published")
        if self._catalog is None or generation != self._generation:
            self._catalog, self._generation = self._catalogs.load(generation), generation
            self._booked = None
        if self._booked is None or now >= self._booked.goals.until_s:
            self._booked = booked(self._catalog, now)
        return self._catalog, self._booked

    def _follow_shards(self) -> Counted:
        numbers = shards(self._client, self._keys)
        if self._counted is None or numbers != self._shards:
            self._shards = numbers
            stores = [CountsStore(self._client, self._keys, number) for number in numbers]
            self._counted = Counted(stores, len(stores))
        return self._counted

    def _knowledge(
        self, goals_of: Booked, billed: Billed | None, now: int
    ) -> tuple[State, Supply | None]:
        """Give what the leader knows, on a copy that is some seconds old, taken on to now."""
        goals = goals_of.goals
        state, supply = State.fresh(goals), None
        learned = self._learned.load()
        if learned is not None:
            try:
                state = State.restored(learned.state, goals)
                supply = supply_of(Forecast.restored(learned.forecast), goals_of, now)
            except ValueError:
                supply = None  # of another adcore: shown without what it would tell
        if supply is not None and billed is not None and state.time_s < billed.time_s:
            pace.observe(goals, state, supply, seen_of(goals_of, billed), now)
        return state, supply

    def _accounts(
        self, goals_of: Booked
    ) -> tuple[int | None, dict[str, tuple[int, int]], int, list[str]]:
        """Give the end of the last settled window, and each account's base and what is out."""
        state = self._budgets.state()
        if state is None:
            return (
                None,
                {},
                0,
                ["Redis has no accounts: nothing is granted until control makes them"],
            )
        out = self._budgets.out()
        found: dict[str, tuple[int, int]] = {}
        for period in {limited.period for limited in goals_of.limits}:
            for name, base in self._budgets.opened(period).items():
                key = f"{period}/{name}"
                found[key] = base, out.get(key, 0)
        notes = []
        if state.is_lost:
            notes.append("Redis has lost accounts: nothing is granted until control resets them")
        ghosts = len(self._budgets.ghosts())
        if ghosts:
            notes.append(
                f"{ghosts} lease windows may be lost: what they may have granted is held back"
            )
        return (state.settled + 1) * WINDOW_S, found, ghosts, notes


def _rates(plan: Plan) -> dict[int, int]:
    ids, rates_ppm = (
        np.frombuffer(column, "<i8").tolist() for column in (plan.ids, plan.rates_ppm)
    )
    return dict(zip(ids, rates_ppm, strict=True))
