"""What control does, as far as a test of leases needs it; and a catalog with little to spend."""

from msgspec.structs import replace

from adcore.catalog import Catalog, Goal
from server.events.leases import WINDOW_S
from server.pacing.accounts import EVER, accounts_of
from server.store import Keyspace, connect
from server.store.budgets import BudgetStore
from tests import catalogs

LEASED = 40  # the line item of the smallest catalog that gets a goal
BODY = b'{"placements":[{"divName":"top","siteId":10,"adTypes":[1]}]}'


def with_goal(total: int | None, house: bool = False) -> Catalog:
    """The smallest catalog, whose sponsor has a goal for all time; `house` stands behind it."""
    catalog = catalogs.minimal()
    sponsor, filler = catalog.line_items
    goal = Goal(unit="impressions", total=total) if total else None
    items = [replace(sponsor, goal=goal), replace(filler, goal=None, budget=None)]
    if house:
        items.append(replace(sponsor, id=42, name="House", priority=16, goal=None))
    return replace(catalog, line_items=tuple(items))


def open_accounts(redis_url: str, catalog: Catalog) -> BudgetStore:
    """Open all accounts with nothing spent, and nothing in doubt: grants may begin at once."""
    store = BudgetStore(connect(redis_url), Keyspace())
    window_us = WINDOW_S * 1_000_000
    window = store.now_us() // window_us - 1
    spent: dict[str, dict[str, int]] = {}
    for accounts in accounts_of(catalog).values():
        for account in accounts:
            for moment_s in (window * WINDOW_S, window * WINDOW_S + 3600):
                spent.setdefault(account.period(moment_s), {})[account.name] = 0
    moment_us = (window - 2) * window_us
    assert store.reset(window - 2, window - 1, [EVER, *spent], moment_us) is None
    assert store.settle(window - 1, {}) is None
    assert store.open(window - 1, spent) is None
    return store
