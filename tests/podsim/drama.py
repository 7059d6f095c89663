"""What is played on a world, act by act, under one load; and what came of it.

Acts that every pod survives or ends by the rules must fail no request and lose no event. Two acts
are there to fail: a machine that goes without notice, and a rollout without hooks.
"""

import asyncio
import time
from collections import Counter
from typing import Any

from tests.podsim.balancer import UNHEALTHY
from tests.podsim.load import Request
from tests.podsim.scaling import Scale
from tests.podsim.world import Events, Load, World

PAGES_A_SECOND = 650.0  # each is two requests, the page's and its impression
ROLLED_REQUESTS = 50_000
NODE_PODS = 5  # of a spot node
LOST_PODS = 2
# The hook is there for what the balancer still sends; without it some of that is certain to fail.
BROKEN_REQUESTS_MIN = 100

Found = dict[str, Any]


class Drama:
    def __init__(self, world: World, load: Load) -> None:
        self.world = world
        self.load = load
        self.acts: dict[str, Found] = {}

    async def scale_out_and_in(self) -> None:
        """3 pods, 6, 3."""
        begun_s = time.monotonic()
        await self.world.resize(6)
        await self.world.resize(3)
        await self._write("scale_3_6_3", begun_s)

    async def spot_notice(self) -> None:
        """A node of five is called back, while two more pods serve."""
        await self.world.resize(NODE_PODS + 2)
        begun_s = time.monotonic()
        node = self.world.deployment.pods[:NODE_PODS]
        cut_off = await self.world.spot_notice(node)
        took_s = max(_ended_s(pod) for pod in node) - begun_s
        found = await self._write("spot_notice", begun_s)
        found |= {"pods": len(node), "cut_off": len(cut_off), "pods_gone_s": round(took_s, 2)}
        found["notice_s"] = self.world.scale.notice_s

    async def roll(self, requests: int = ROLLED_REQUESTS) -> None:
        """Rolling updates of five pods, until enough requests have been sent."""
        await self.world.resize(NODE_PODS)
        begun_s, rollouts = time.monotonic(), 0
        while not rollouts or len(self.load.requests(begun_s)) < requests:
            await self.world.roll()
            rollouts += 1
        (await self._write("rolling_update", begun_s))["rollouts"] = rollouts

    async def count_events(self) -> None:
        """Stop, and compare what was shown with what the ledger counted."""
        await self.load.stop()
        shown, counted = self.load.shown, await self._counted(self.load.shown)
        self.acts["events"] = {
            "shown": shown,
            "counted": counted.impressions,
            "lost": max(0, shown - counted.impressions),
            "doubled": max(0, counted.impressions - shown) + counted.wrong,
            "invalid": counted.invalid,
        }

    async def machine_lost(self) -> None:
        """Two pods' processes are killed at once."""
        scale = self.world.scale
        lost_s = await self.world.lose(self.world.deployment.pods[:LOST_PODS])
        found = await self._write("machine_lost", lost_s)
        failures = [one for one in self.load.requests(lost_s) if one.has_failed]
        last_s = max((one.ended_s for one in failures), default=lost_s) - lost_s
        found |= {
            "failures_ended_s": round(last_s, 2),
            "health_interval_s": scale.health_interval_s,
            "checks_until_out": UNHEALTHY,
        }

    async def roll_without_hooks(self) -> None:
        """Do the same rollout by the same rules, but the pods have no preStop hooks: the negative control."""
        begun_s = time.monotonic()
        for pod in self.world.deployment.pods:
            pod.remove_hooks()
        await self.world.roll()
        await self._write("rolling_update_without_hooks", begun_s)

    async def _write(self, name: str, begun_s: float) -> Found:
        # What has begun shall have ended.
        await asyncio.sleep(1)
        requests = self.load.requests(begun_s)
        self.acts[name] = summary(requests, time.monotonic() - begun_s)
        return self.acts[name]

    async def _counted(self, shown: int) -> Events:
        """What has been counted when all is, or some time after that should have been."""
        counted = await self.world.events()
        for _ in range(40):
            if counted.impressions >= shown:
                break
            await asyncio.sleep(0.25)
            counted = await self.world.events()
        return counted


def summary(requests: list[Request], seconds: float) -> Found:
    latencies = sorted(one.ended_s - one.begun_s for one in requests)
    failed = Counter(one.status for one in requests if one.has_failed)
    return {
        "seconds": round(seconds, 1),
        "requests": len(requests),
        "requests_a_second": round(len(requests) / seconds),
        "failed": failed.total(),
        "failed_by_status": {str(status): count for status, count in sorted(failed.items())},
        "answer_ms_p50": round(latencies[len(latencies) // 2] * 1000, 1),
        "answer_ms_p99": round(latencies[len(latencies) * 99 // 100] * 1000, 1),
    }


def _ended_s(pod: Any) -> float:
    return max((at_s for at_s, _, _ in pod.history), default=0.0)


async def play(scale: Scale) -> Found:
    """All acts; with them how the pods ended that were told to."""
    async with World(scale, replicas=3) as world:
        drama = Drama(world, await world.load(PAGES_A_SECOND))
        await drama.scale_out_and_in()
        await drama.spot_notice()
        await drama.roll()
        graceful = list(world.deployment.ended)
        await drama.count_events()
        errors = world.balancer.errors[:20]
        drama.load = await world.load(PAGES_A_SECOND)
        await drama.machine_lost()
        await drama.roll_without_hooks()
        await drama.load.stop()
        restarts = sum(pod.restarts for pod in graceful)
        codes = Counter(
            f"{name} {code}" for pod in graceful for name, code in pod.exit_codes.items()
        )
        ends_s = [_ended_s(pod) - pod.ending_since_s for pod in graceful]
        return {
            "acts": drama.acts,
            "balancer_errors": errors,
            "pods_ended": len(graceful),
            "pod_end_s_max": round(max(ends_s), 2),
            "pod_exit_codes": dict(codes),
            "pod_restarts": restarts,
            "histories": [pod.history for pod in graceful],
        }
