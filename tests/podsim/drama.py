"""What is played on a world, act by act, under one load; and what came of it.

Acts that every pod survives or ends by the rules must fail no request and lose no event. Two acts
are there to fail: a machine that goes without notice, and a rollout without hooks.
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from tests.podsim.balancer import UNHEALTHY
from tests.podsim.kubelet import Pod
from tests.podsim.load import Request
from tests.podsim.scaling import Scale
from tests.podsim.world import Events, Load, World

RATE = 1100.0
ROLLED_REQUESTS = 50_000
PODS = 5  # of a rollout, and on a spot node
HEARD_S = 1.0  # from the balancer's knowledge to the last request that it had begun to send
# The hook is there for what the balancer still sends; without it some of that is certain to fail.
BROKEN_REQUESTS_MIN = 100

Found = dict[str, Any]


class Drama:
    def __init__(self, world: World) -> None:
        self.world = world
        self.loads: list[Load] = []
        self.acts: dict[str, Found] = {}

    async def scale_and_call_back(self) -> None:
        """3 pods, 6, 3; and while there are six, five are on a spot node that is called back."""
        world = self.world
        await world.resize(3)
        begun_s = time.monotonic()
        await world.resize(6)
        await self._write("scale_3_6", begun_s)
        await self._spot_notice()
        begun_s = time.monotonic()
        await world.resize(3)
        await self._write("scale_6_3", begun_s)

    async def _spot_notice(self) -> None:
        begun_s = time.monotonic()
        node = self.world.deployment.pods[:PODS]
        cut_off = await self.world.spot_notice(node)
        took_s = max(_ended_s(pod) for pod in node) - begun_s
        found = await self._write("spot_notice", begun_s)
        found |= {"pods": len(node), "cut_off": len(cut_off), "pods_gone_s": round(took_s, 2)}
        found["notice_s"] = self.world.scale.notice_s

    async def roll(self) -> None:
        """A rolling update of five pods, and on until enough requests have been sent."""
        begun_s = time.monotonic()
        await self.world.roll()
        took_s = time.monotonic() - begun_s
        while self._sent(begun_s) < ROLLED_REQUESTS:  # noqa: ASYNC110 - another process sends
            await asyncio.sleep(1)
        (await self._write("rolling_update", begun_s))["rollout_s"] = round(took_s, 1)

    async def count_events(self) -> None:
        """Compare what was shown, by all loads that have ended, with what the ledger counted."""
        shown = sum(load.shown for load in self.loads)
        counted = await self._counted(shown)
        self.acts["events"] = {
            "shown": shown,
            "counted": counted.impressions,
            "lost": max(0, shown - counted.impressions),
            "doubled": max(0, counted.impressions - shown) + counted.wrong,
            "invalid": counted.invalid,
        }

    async def machine_lost(self) -> None:
        """One pod's processes are killed at once."""
        scale = self.world.scale
        lost_s = await self.world.lose(self.world.deployment.pods[:1])
        found = await self._write("machine_lost", lost_s)
        out_s = self.world.balancer.taken_out_s
        failures = [one for one in self.loads[-1].requests(lost_s) if one.has_failed]
        last_s = max((one.begun_s for one in failures), default=lost_s)
        found |= {
            "last_failed_after_s": round(last_s - lost_s, 2),
            "taken_out_after_s": round(out_s - lost_s, 2),
            "failed_after_checks": sum(one.begun_s > out_s + HEARD_S for one in failures),
            "health_checks": f"{UNHEALTHY} x {scale.health_interval_s:g} s",
        }

    async def roll_without_hooks(self) -> None:
        """The negative control: the same rollout, but of pods that have no preStop hooks.

        It ends when it has failed beyond doubt, or is done.
        """
        await self.world.resize(PODS)
        begun_s = time.monotonic()
        for pod in self.world.deployment.pods:
            pod.remove_hooks()
        rolling = asyncio.create_task(self.world.roll())
        try:
            while self._failed(begun_s) <= 3 * BROKEN_REQUESTS_MIN and not rolling.done():
                await asyncio.wait({rolling}, timeout=0.5)
        finally:
            rolling.cancel()
        await asyncio.gather(rolling, return_exceptions=True)
        await self._write("rolling_update_without_hooks", begun_s)

    def _sent(self, begun_s: float) -> int:
        return len(self.loads[-1].requests(begun_s))

    def _failed(self, begun_s: float) -> int:
        return sum(one.has_failed for one in self.loads[-1].requests(begun_s))

    async def _write(self, name: str, begun_s: float) -> Found:
        # What has begun shall have ended.
        await asyncio.sleep(1)
        requests = self.loads[-1].requests(begun_s)
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


def _ended_s(pod: Pod) -> float:
    return max((at_s for at_s, _, _ in pod.history), default=0.0)


@asynccontextmanager
async def _under_load(drama: Drama) -> AsyncIterator[None]:
    drama.loads.append(await drama.world.load(RATE))
    yield
    await drama.loads[-1].stop()


async def play(scale: Scale, *, whole: bool = True) -> Found:
    """All acts, or the two rollouts alone; with them how the pods ended that were told to."""
    async with World(scale, replicas=PODS) as world:
        drama = Drama(world)
        async with _under_load(drama):
            await drama.roll()
            if whole:
                await drama.scale_and_call_back()
        await drama.count_events()
        errors = world.balancer.errors()[:20]
        graceful = list(world.deployment.ended)
        async with _under_load(drama):
            if whole:
                await drama.machine_lost()
            await drama.roll_without_hooks()
        return {
            "acts": drama.acts,
            "balancer_errors": errors,
            "pods": _pods(graceful),
            "histories": [pod.history for pod in graceful],
        }


def _pods(ended: list[Pod]) -> Found:
    codes = Counter(f"{name} {code}" for pod in ended for name, code in pod.exit_codes.items())
    return {
        "ended": len(ended),
        "end_s_max": round(max(_ended_s(pod) - pod.ending_since_s for pod in ended), 2),
        "exit_codes": dict(codes),
        "restarts": sum(pod.restarts for pod in ended),
    }
