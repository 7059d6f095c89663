"""The Deployment's controller: as many pods as wanted, replaced by its rolling update's rules.

    rolling update   at most `surge` pods more than wanted, `unavailable` fewer; a new pod counts as
                     available once it has been ready for minReadySeconds without a break
    deletion         a pod that is ending counts no more: its replacement starts at once

Two cores can't start five pods at once and serve as well. So they start two at a time, and behind
what serves (`kubelet` has them nice): each node would have cores of its own.
"""

import asyncio
import math
import time
from collections.abc import Callable, Iterator

from tests.kube import Document
from tests.podsim.kubelet import Pod

LOOK_S = 0.05
START_S_MAX = 60.0
STARTS = 2


class Deployment:
    """`make(number)` gives a new pod; `pods` holds every one that has processes."""

    def __init__(self, owner: Document, replicas: int, make: Callable[[int], Pod]) -> None:
        self.replicas = replicas
        self.revision = 1
        self.pods: list[Pod] = []
        self.ended: list[Pod] = []
        self._revisions: dict[str, int] = {}
        self._make = make
        self._number = 0
        self._min_ready_s: float = owner["spec"].get("minReadySeconds", 0)
        update = owner["spec"]["strategy"]["rollingUpdate"]
        self._surge, self._unavailable = update["maxSurge"], update["maxUnavailable"]
        self._queue: asyncio.Queue[Pod] = asyncio.Queue()
        self._endings: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        starting = [asyncio.create_task(self._start()) for _ in range(STARTS)]
        try:
            while not any(task.done() for task in starting):
                now_s = time.monotonic()
                for pod in self.pods:
                    pod.look(now_s)
                self._reconcile(now_s)
                await asyncio.sleep(LOOK_S)
            for task in starting:
                if task.done():
                    task.result()
        finally:
            for task in starting:
                task.cancel()

    def evict(self, pod: Pod) -> None:
        self._delete(pod)

    def lose(self, pod: Pod) -> None:
        """Hear at last that a machine is gone."""
        self.pods.remove(pod)
        self.ended.append(pod)

    @property
    def is_settled(self) -> bool:
        """Whether only pods of the newest revision are left, all available, and none is ending."""
        now_s = time.monotonic()
        return len(self.pods) == self.replicas and all(
            self._is_available(pod, now_s) and self._is_new(pod) for pod in self.pods
        )

    async def settle(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                while not self.is_settled:  # noqa: ASYNC110 - processes set no event
                    await asyncio.sleep(LOOK_S)
        except TimeoutError:
            told = "\n".join(pod.describe() for pod in self.pods)
            raise AssertionError(f"waited {seconds:g} s for the pods:\n{told}") from None

    async def kill(self) -> None:
        for pod in self.pods:
            pod.kill()
        await asyncio.gather(*self._endings, *(pod.gone() for pod in self.pods))

    def _is_new(self, pod: Pod) -> bool:
        return self._revisions[pod.name] == self.revision

    def _is_available(self, pod: Pod, now_s: float) -> bool:
        return (
            pod.is_ready
            and pod.ready_since_s > 0
            and now_s - pod.ready_since_s >= self._min_ready_s
        )

    def _share(self, text: str | int, *, up: bool) -> int:
        if isinstance(text, int):
            return text
        part = self.replicas * int(text.removesuffix("%")) / 100
        return math.ceil(part) if up else math.floor(part)

    def _reconcile(self, now_s: float) -> None:
        live = [pod for pod in self.pods if not pod.ending_since_s]
        new = [pod for pod in live if self._is_new(pod)]
        old = [pod for pod in live if not self._is_new(pod)]
        unavailable = self._share(self._unavailable, up=False)
        surge = self._share(self._surge, up=True)
        if not surge and not unavailable:
            unavailable = 1
        most = self.replicas + surge if old else self.replicas
        for _ in range(min(self.replicas - len(new), most - len(live))):
            self._create()
        for pod in sorted(new, key=self._worth)[: max(0, len(new) - self.replicas)]:
            self._delete(pod)
        least = self.replicas - unavailable
        spare = sum(self._is_available(pod, now_s) for pod in live) - least
        for pod in list(self._to_go(old, now_s, spare)):
            self._delete(pod)

    def _to_go(self, old: list[Pod], now_s: float, spare: int) -> Iterator[Pod]:
        """Name old pods that may end: those that serve nobody, and others while enough are left."""
        for pod in old:
            if not self._is_available(pod, now_s):
                yield pod
            elif spare > 0:
                spare -= 1
                yield pod

    def _worth(self, pod: Pod) -> tuple[bool, float]:
        """Of pods too many those go first that aren't ready, then the youngest."""
        return pod.is_ready, -pod.ready_since_s

    def _create(self) -> None:
        self._number += 1
        pod = self._make(self._number)
        self._revisions[pod.name] = self.revision
        self.pods.append(pod)
        self._queue.put_nowait(pod)

    async def _start(self) -> None:
        while True:
            pod = await self._queue.get()
            if pod.ending_since_s:
                continue
            pod.begin()
            deadline_s = time.monotonic() + START_S_MAX
            while not (pod.is_ready or pod.ending_since_s or pod.was_killed):
                assert time.monotonic() < deadline_s, pod.describe()
                await asyncio.sleep(LOOK_S)

    def _delete(self, pod: Pod) -> None:
        if not pod.ending_since_s:
            pod.ending_since_s = time.monotonic()
            ending = asyncio.create_task(self._end(pod))
            self._endings.add(ending)
            ending.add_done_callback(self._endings.discard)

    async def _end(self, pod: Pod) -> None:
        await pod.end()
        self.pods.remove(pod)
        self.ended.append(pod)
