"""Time zones by name, always from the tzdata package.

`zoneinfo.ZoneInfo(name)` prefers the machine's files, so two servers could disagree on when a
daypart starts; the pinned package makes it part of the release.
"""

from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from zoneinfo import ZoneInfo

HOURS_PER_WEEK = 168


@cache
def zone_names() -> frozenset[str]:
    return frozenset((files("tzdata") / "zones").read_text("utf-8").split())


@cache
def zone(name: str) -> ZoneInfo:
    """Return the zone, or raise ValueError. Bounded by `zone_names`, so it may be cached."""
    if name not in zone_names():
        raise ValueError(f"no such time zone: {name!r}")
    with files("tzdata").joinpath("zoneinfo", *name.split("/")).open("rb") as file:
        return ZoneInfo.from_file(file, key=name)


def hour_of_week(name: str, now_s: int) -> int:
    """Return the local hour at this second, counted from Monday 00:00."""
    local = datetime.fromtimestamp(now_s, UTC).astimezone(zone(name))
    return local.weekday() * 24 + local.hour
