"""The autoscaler as a model: Kubernetes' algorithm over the rendered HPA, a fleet and a load.

Each 15 s: replicas = ceil(pods x usage / target), unless within the tolerance of a tenth; then the
windows and policies of `behavior`. Pods that are not ready count as idle when there are to be
more, as in pkg/controller/podautoscaler/replica_calculator.go. Usage is what the metrics server
shows: a window of 15 s, one scrape old.

A pod's CPU by its rate is measured (docs/runbook.md, "share of the maximum"), and flattens: an
autoscaler that trusts it to be linear asks for too little, as here.
"""

import math
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

SYNC_S = 15
REMEMBERED_S = 600
TOLERANCE = 0.1
# From being made to being ready: image there, catalog read, two looks of the load balancer.
POD_START_S = 20
# From a pod that fits nowhere to a node that takes it.
NODE_BOOT_S = 90
# Shares of the maximum, and cores: measured, one worker on one core, open loop.
SHARES = ((0.0, 0.0), (0.3, 0.65), (0.5, 0.88), (0.7, 0.99), (0.85, 1.0), (math.inf, 1.0))
SHARE_HELD = 0.85  # up to here p99 is below 10 ms

Load = Callable[[int], float]


def cores(rate: float, held: float) -> float:
    """CPU of a pod that answers so many requests a second, when it can hold `held`."""
    share = rate / held * SHARE_HELD
    place = bisect_right(SHARES, (share, math.inf)) - 1
    (below, low), (above, high) = SHARES[place], SHARES[min(place + 1, len(SHARES) - 1)]
    return low if math.isinf(above) else low + (share - below) / (above - below) * (high - low)


class Sizes(NamedTuple):
    held: float  # requests a second that a pod holds
    pods_a_node: int
    headroom: int  # pause pods, which give their place at once


@dataclass
class Autoscaler:
    """One HPA. `want` gives the replicas from now on."""

    spec: dict[str, Any]
    target: float  # of usage, in cores
    recommended: list[tuple[int, int]] = field(default_factory=list)
    events: list[tuple[int, int]] = field(default_factory=list)  # when, by how many

    def want(self, now_s: int, replicas: int, ready: int, usage: float) -> int:
        desired = self._recommendation(replicas, ready, usage)
        desired = min(max(desired, self.spec["minReplicas"]), self.spec["maxReplicas"])
        self.recommended.append((now_s, desired))
        # No window or period of ours is longer.
        self.recommended = [each for each in self.recommended if now_s - each[0] <= REMEMBERED_S]
        self.events = [each for each in self.events if now_s - each[0] <= REMEMBERED_S]
        desired = self._stabilized(now_s, replicas, desired)
        if desired > replicas:
            desired = min(desired, self._limit("scaleUp", now_s, replicas))
        elif desired < replicas:
            desired = max(desired, self._limit("scaleDown", now_s, replicas))
        if desired != replicas:
            self.events.append((now_s, desired - replicas))
        return desired

    def _recommendation(self, replicas: int, ready: int, usage: float) -> int:
        ratio = usage / self.target
        if abs(ratio - 1) <= TOLERANCE:
            return replicas
        if ratio > 1 and ready < replicas:
            # Those that are not ready are taken for idle; if that turns the answer, all stays.
            ratio = usage * ready / replicas / self.target
            return replicas if ratio <= 1 + TOLERANCE else math.ceil(ratio * replicas)
        return math.ceil(ratio * ready)

    def _stabilized(self, now_s: int, replicas: int, desired: int) -> int:
        """Down to the highest that was recommended within the window, up to the lowest."""
        up = self._window("scaleUp", now_s)
        down = self._window("scaleDown", now_s)
        return min(max(replicas, min(up)), max(down)) if desired else replicas

    def _window(self, way: str, now_s: int) -> list[int]:
        window_s = self.spec["behavior"][way]["stabilizationWindowSeconds"]
        return [desired for at_s, desired in self.recommended if now_s - at_s <= window_s]

    def _limit(self, way: str, now_s: int, replicas: int) -> int:
        sign = 1 if way == "scaleUp" else -1
        limits = []
        for policy in self.spec["behavior"][way]["policies"]:
            since_s = now_s - policy["periodSeconds"]
            done = sum(by for at_s, by in self.events if at_s > since_s and by * sign > 0)
            began = replicas - done
            by = policy["value"]
            if policy["type"] == "Percent":
                limits.append(
                    math.ceil(began * (1 + by / 100)) if sign > 0 else int(began * (1 - by / 100))
                )
            else:
                limits.append(began + sign * by)
        most = self.spec["behavior"][way].get("selectPolicy", "Max") == "Max"
        return (max if (sign > 0) == most else min)(limits)


@dataclass
class Fleet:
    """Pods by when they are ready; places by when there are any."""

    sizes: Sizes
    pods: list[int]
    free: int = 0  # places on nodes that run, pause pods' included
    booting: list[tuple[int, int]] = field(default_factory=list)  # when, for the pause pods again

    def scale(self, now_s: int, replicas: int) -> None:
        if replicas < len(self.pods):
            self.free += len(self.pods) - replicas
            self.pods = sorted(self.pods)[:replicas]
        self.arrive(now_s)
        for _ in range(replicas - len(self.pods)):
            if self.free:
                self.free -= 1
                self.pods.append(now_s + POD_START_S)
                # The pause pod that gave way waits for a node of its own.
                self.booting.append((now_s + NODE_BOOT_S, 1 if self.sizes.headroom else 0))
            else:
                self.pods.append(now_s + NODE_BOOT_S + POD_START_S)

    def arrive(self, now_s: int) -> None:
        self.free += sum(count for at_s, count in self.booting if at_s <= now_s)
        self.booting = [each for each in self.booting if each[0] > now_s]
        # What is more than the headroom goes back with its nodes.
        self.free = min(self.free, self.sizes.headroom + self.sizes.pods_a_node)

    def lose_node(self) -> None:
        self.pods = sorted(self.pods)[self.sizes.pods_a_node :]

    def ready(self, now_s: int) -> int:
        return sum(at_s <= now_s for at_s in self.pods)


class Seen(NamedTuple):
    at_s: int
    pods: int
    ready: int
    pod_rate: float


def run(
    spec: dict[str, Any],
    sizes: Sizes,
    load: Load,
    seconds: int,
    *,
    pods: int,
    node_lost_at_s: int | None = None,
    target: float = 0.6,
    linear: bool = False,
) -> list[Seen]:
    """Each second of a fleet under a load. `linear`: by requests a second instead of CPU."""
    scaler, fleet = Autoscaler(spec, target), Fleet(sizes, [0] * pods, sizes.headroom)
    usage: list[float] = []
    seen = []
    replicas = pods
    for now_s in range(seconds):
        fleet.arrive(now_s)
        if now_s == node_lost_at_s:
            fleet.lose_node()
            fleet.scale(now_s, replicas)  # the ReplicaSet makes them again
        ready = max(fleet.ready(now_s), 1)
        rate = load(now_s) / ready
        usage.append(rate if linear else cores(rate, sizes.held))
        seen.append(Seen(now_s, replicas, ready, rate))
        if now_s % SYNC_S == SYNC_S - 1 and now_s >= 2 * SYNC_S:
            window = usage[now_s - 2 * SYNC_S : now_s - SYNC_S]
            replicas = scaler.want(now_s, replicas, ready, sum(window) / len(window))
            fleet.scale(now_s, replicas)
    return seen
