"""Podsim in real time, part of `make drill`: nothing of the YAML shortened, a balancer 3 s slow.

Then the rollouts alone behind one that is 20 s slow. The result goes to benchmarks/results.
`--ci` plays what the tests play.
"""

import asyncio
import json
import sys

from benchmarks.machine import machine, versions
from tests.drill.drill import stamp
from tests.podsim.drama import BROKEN_REQUESTS_MIN, RATE, Found, play
from tests.podsim.processes import ROOT
from tests.podsim.scaling import CI, FULL, SLOW


def main(arguments: list[str]) -> int:
    if "--ci" in arguments:
        plays = {"ci": (CI, True)}
    else:
        plays = {"lag_3_s": (FULL, True), "lag_20_s": (SLOW, False)}
    found: Found = {"machine": machine() | versions(), "requests_a_second_asked": RATE}
    for name, (scale, whole) in plays.items():
        played = asyncio.run(play(scale, whole=whole))
        del played["histories"]
        found[name] = {"scale": scale._asdict()} | played
        print(json.dumps({name: found[name]}, indent=1), flush=True)
    kind = "ci" if "--ci" in arguments else "full"
    path = ROOT / "benchmarks" / "results" / f"podsim-{kind}-{stamp()}.json"
    path.write_text(json.dumps(found, indent=1) + "\n")
    print(path.name)
    return 0 if all(is_good(found[name]["acts"]) for name in plays) else 1


def is_good(acts: Found) -> bool:
    broken = acts["rolling_update_without_hooks"]["failed"]
    meant_to = ("rolling_update_without_hooks", "machine_lost", "events")
    failed = sum(act["failed"] for name, act in acts.items() if name not in meant_to)
    wrong = acts["events"]["lost"] + acts["events"]["doubled"]
    return not failed and not wrong and broken > BROKEN_REQUESTS_MIN


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
