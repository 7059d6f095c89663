"""From what is known of line items to how they stand: pure, for `adcore pace` to print."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import msgspec
import numpy as np

from adcore.catalog import Catalog, LineItem
from adcore.zones import zone
from server.pacing import pace
from server.pacing.accounts import EVER
from server.pacing.booked import UNITS, Booked
from server.pacing.counted import NANOS_PER_MICRO, Billed, SpentByLine
from server.pacing.goals import IMPRESSION, PPM, Flags, Numbers, Supply
from server.pacing.standing import HOURS_SHOWN, Limit, Standing
from server.pacing.state import State, chances, levels

DAY_S: Final = 86_400.0
HOUR_QUARTERS: Final = 4
_WEEKDAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_SLUGS: Final = {
    pace.ON_PLAN: "on_plan",
    pace.AHEAD: "ahead",
    pace.NOT_STARTED: "not_started",
    pace.ENDED: "ended",
    pace.PAUSED: "paused",
    pace.SPENT: "spent",
    pace.BLOCKED: "no_lease",
    pace.LEARNING: "learning",
    pace.CAMPAIGN: "campaign_limit",
    pace.CATCHING_UP: "catching_up",
    pace.NO_SUPPLY: "too_little_supply",
}
_FINAL: Final = {"not_started", "ended", "paused"}


@dataclass(slots=True)
class Known:
    """All that there is to say something from."""

    catalog: Catalog
    booked: Booked
    state: State
    supply: Supply | None
    """None: nothing was learned yet."""
    billed: Billed | None
    rates_ppm: Mapping[int, int] | None
    """By line item, in force; None: there is no plan that servers use."""
    accounts: Mapping[str, tuple[int, int]] | None
    """Base and open of each account that is open, in its parts, by PERIOD/ACCOUNT; None: not
    known."""
    ghosts: int
    """Windows whose grants may be lost."""
    quarters: Mapping[int, SpentByLine]
    """What was billed, of the last 24 hours."""
    now_s: int


def standings(known: Known) -> list[Standing]:
    """Say of each line item with a limit how it stands, in the order of their ids."""
    booked, goals, now_s = known.booked, known.booked.goals, known.now_s
    if not goals.lines:
        return []
    spent = known.billed.spent if known.billed else known.state.spent
    planned: Numbers | None = None
    numbers = np.full(goals.lines, pace.ON_PLAN)
    forecast: Numbers | None = None
    sure = np.zeros(goals.lines, np.bool_)
    if known.supply is not None:
        planned = pace.planned(goals, known.state, known.supply, now_s)
        numbers = pace.reasons(goals, known.state, known.supply, now_s)
        forecast, sure = forecasts(booked, known.state, known.supply, spent, now_s)
    limits = [_limit(known, number, spent, planned, forecast) for number in range(goals.accounts)]
    uses: list[list[tuple[int, float]]] = [[] for _ in range(goals.lines)]
    left = _left_a_second(booked, known.state, spent, now_s).tolist()
    for line, *use in zip(goals.use_line.tolist(), goals.use_account.tolist(), left, strict=True):
        uses[line].append((use[0], use[1]))
    advertisers = {each.id: each.name for each in known.catalog.advertisers}
    hours, held = _by_hour(known), _held_back(known)
    found = []
    for place, item in enumerate(booked.items):
        if not uses[place]:
            continue
        own = [limits[account] for account, _ in uses[place]]
        if not sure[place]:
            own = [msgspec.structs.replace(limit, forecast=None) for limit in own]
        campaign = booked.campaigns[place]
        binding = _tightest(own, [amount for _, amount in uses[place]])
        column = UNITS.index(own[binding].unit)
        rate = None if known.rates_ppm is None else known.rates_ppm.get(item.id, PPM)
        slug = _SLUGS[int(numbers[place])]
        reason = _reason(known, item, place, slug, own, rate, held)
        found.append(
            Standing(
                id=item.id,
                name=item.name,
                campaign=campaign.name,
                advertiser=advertisers.get(campaign.advertiser_id, "?"),
                priority=item.priority,
                rate_ppm=rate,
                reason=reason,
                hint=_hint(known, item, reason),
                limits=tuple(own),
                binding=binding,
                hours=tuple(hours.get(item.id, _NOTHING)[column]),
            )
        )
    return found


def unlimited(catalog: Catalog, booked: Booked) -> int:
    """How many line items have no limit."""
    return len(catalog.line_items) - len(booked.items)


# -- limits ----------------------------------------------------------------------------------------


def _limit(
    known: Known, number: int, spent: Numbers, planned: Numbers | None, forecast: Numbers | None
) -> Limit:
    goals, limited = known.booked.goals, known.booked.limits[number]
    account, key = limited.account, goals.keys[number]
    leased = None
    if known.accounts is not None and key in known.accounts:
        leased = -(-known.accounts[key][1] // account.parts)
    return Limit(
        key=key,
        unit=limited.unit,
        is_campaign=limited.is_campaign,
        is_daily=limited.period != EVER,
        limit=account.limit // account.parts,
        window_max=-(-account.window_max // account.parts),
        billed=int(spent[number]),
        leased=leased,
        planned=None if planned is None else round(planned[number]),
        forecast=None if forecast is None else int(forecast[number]),
        begins_s=int(goals.begin_s[number]),
        ends_s=int(goals.close_s[number]),
    )


def _tightest(limits: Sequence[Limit], impressions_a_second: Sequence[float]) -> int:
    """Choose the limit that lets the least be spent a second from now on.

    Of those within a tenth of it: the line item's own, and a day's, which people look at.
    """
    most = 1.1 * min(impressions_a_second)
    near = [n for n, amount in enumerate(impressions_a_second) if amount <= most]
    return min(near, key=lambda n: (limits[n].is_campaign, not limits[n].is_daily, n))


def _left_a_second(booked: Booked, state: State, spent: Numbers, now_s: float) -> Numbers:
    """[u] how many impressions a second an account lets a line item have until its end."""
    goals = booked.goals
    line, account = goals.use_line, goals.use_account
    chance = np.where(goals.use_event == IMPRESSION, 1.0, chances(goals, state)[line])
    left = np.maximum(goals.limit - spent, 0.0)[account] / (goals.use_price * chance)
    length = goals.close_s - np.maximum(goals.begin_s, now_s)
    found: Numbers = left / np.maximum(length, 1.0)[account]
    return found


def forecasts(
    booked: Booked, state: State, supply: Supply, spent: Numbers, now_s: float
) -> tuple[Numbers, Flags]:
    """[a] what is spent at its end, [n] and whether enough was seen to say so.

    At the most: at full rate from now on, as the forecast and what came of it so far have it, and
    as far as the line item's other limits let it.
    """
    goals = booked.goals
    line, account = goals.use_line, goals.use_account
    level, chance = levels(state, supply), chances(goals, state)
    begin = np.maximum(now_s, goals.start_s)[line]
    end = np.minimum(goals.end_s[line], goals.close_s[account])
    impressions = supply.between(line, begin, end) * level[line]
    impressions = np.where(goals.active[line], impressions, 0.0)
    each = goals.use_price * np.where(goals.use_event == IMPRESSION, 1.0, chance[line])
    # What a day's limit leaves until then: what is left of today, and all of the days after.
    left = np.maximum(goals.limit - spent, 0.0)
    daily = np.array([limited.period != EVER for limited in booked.limits], np.bool_)
    caps = np.full((goals.lines, 2), np.inf)  # [n] of today, of each day after it, in impressions
    of_day = daily[account]
    for column, amount in enumerate((left, goals.limit)):
        np.minimum.at(
            caps[:, column], line[of_day], (amount[account] / np.maximum(each, 1e-12))[of_day]
        )
    day_end = np.full(goals.lines, np.inf)
    np.minimum.at(day_end, line[of_day], goals.close_s[account][of_day])
    days_after = np.maximum(end - day_end[line], 0.0) / DAY_S
    later = np.where(days_after > 0, caps[line, 1], 0.0)  # infinite where no day has a limit
    capped = caps[line, 0] + later * days_after
    impressions = np.where(daily[account], impressions, np.minimum(impressions, capped))
    more = np.bincount(account, weights=impressions * each, minlength=goals.accounts)
    known = (state.slow_due + np.where(supply.strength >= 5, supply.strength, 0.0)) >= 5
    known |= ~goals.active | (now_s >= goals.end_s)  # nothing more comes
    total: Numbers = spent + np.minimum(more, left)
    return total, known


# -- reasons ---------------------------------------------------------------------------------------


def _reason(
    known: Known,
    item: LineItem,
    place: int,
    slug: str,
    limits: Sequence[Limit],
    rate: int | None,
    held: set[str],
) -> str:
    goals = known.booked.goals
    if not goals.active[place]:
        return "paused"
    if known.now_s < goals.start_s[place]:
        return "not_started"
    if known.now_s >= goals.end_s[place]:
        return "ended"
    if any(limit.billed >= limit.limit for limit in limits):
        return "spent"
    if known.accounts is not None and any(limit.key not in known.accounts for limit in limits):
        return "not_opened"
    if any(limit.key in held for limit in limits):
        return "no_lease"
    if not is_in_hours(item, known.now_s):
        return "outside_hours"
    if rate is None:
        return "no_plan"
    if known.supply is None:
        return "learning"
    if slug == "campaign_limit" and rate == PPM:
        slug = "too_little_supply"
    elif slug == "campaign_limit" and all(limit.is_campaign for limit in limits):
        slug = "on_plan"  # it has no other plan than its campaign's
    if slug == "on_plan" and rate < PPM:
        return "throttled"
    return slug


def _held_back(known: Known) -> set[str]:
    """Name accounts of which all that is left may have been granted in windows that are lost."""
    found: set[str] = set()
    if not known.ghosts or known.accounts is None:
        return found
    for key, limited in zip(known.booked.goals.keys, known.booked.limits, strict=True):
        if (spent := known.accounts.get(key)) is not None:
            left = limited.account.limit - sum(spent)
            if 0 < left <= known.ghosts * limited.account.window_max:
                found.add(key)
    return found


def is_in_hours(item: LineItem, now_s: int) -> bool:
    """Whether a daypart holds now, as servers have it."""
    if not item.dayparts:
        return True
    local = datetime.fromtimestamp(now_s, UTC).astimezone(zone(item.time_zone))
    day = _WEEKDAYS[local.weekday()]
    return any(
        day in part.days and part.start_hour <= local.hour < part.end_hour for part in item.dayparts
    )


def _hint(known: Known, item: LineItem, reason: str) -> str:
    """Name what of this very line item the reason may come from, without claiming to know."""
    if reason == "no_lease":
        return "Leases come back with the settling of what may be lost: within three minutes."
    if reason not in ("too_little_supply", "catching_up"):
        return ""
    causes = []
    better = sum(other.priority < item.priority for other in known.catalog.line_items)
    if better:
        causes.append(f"outranked by one of the {better:,} line items of a smaller priority")
    causes.append("beaten in the auction, or below a placement's floor")
    if item.frequency_caps:
        caps = ", ".join(
            f"{cap.impressions} in {_span_text(cap.window_s)}" for cap in item.frequency_caps
        )
        causes.append(f"held back by its frequency caps ({caps})")
    if item.dayparts:
        causes.append("outside its hours for a part of the time")
    return (
        f"It may be {'; '.join(causes)}. Which, only the servers know: "
        "`adcore explain REQUEST.json` says it for one request."
    )


def _span_text(seconds: int) -> str:
    for unit, length in (("day", 86_400), ("hour", 3600), ("minute", 60)):
        if seconds % length == 0:
            count = seconds // length
            return f"{count} {unit}{'' if count == 1 else 's'}"
    return f"{seconds} s"


# -- the last 24 hours -----------------------------------------------------------------------------

_NOTHING: Final = tuple([0] * HOURS_SHOWN for _ in UNITS)


def _by_hour(known: Known) -> dict[int, tuple[list[int], ...]]:
    """Of each line item, by unit: what was billed in each of the last 24 UTC hours."""
    first = known.now_s // 3600 - HOURS_SHOWN + 1
    found: dict[int, tuple[list[int], ...]] = {}
    for quarter, lines in known.quarters.items():
        hour = quarter // HOUR_QUARTERS - first
        if not 0 <= hour < HOURS_SHOWN:
            continue
        for line, spent in lines.items():
            of_line = found.get(line)
            if of_line is None:
                of_line = found[line] = tuple([0] * HOURS_SHOWN for _ in UNITS)
            for column, amount in zip(of_line, spent, strict=True):
                column[hour] += amount
    for *_, money in found.values():
        money[:] = [amount // NANOS_PER_MICRO for amount in money]
    return found
