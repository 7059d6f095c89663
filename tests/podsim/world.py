"""Everything put together: Redis, aggregators, a Deployment of front pods, a balancer, visitors.

    async with World(folder, CI, replicas=5) as world:
        load = await world.load(requests_a_second=1000)
        await world.roll()
        await load.stop()

Pods and aggregators are the rendered production overlay's. Each has an address of its own in a
127.x.y.0/24 that no other run on this machine has.
"""

import asyncio
import json
import os
import secrets
import shutil
import socket
import sys
import tempfile
import time
from collections import Counter
from contextlib import AsyncExitStack, ExitStack, closing, suppress
from pathlib import Path
from typing import NamedTuple, Self

from server.ledger import wal
from server.ledger.folder import DiskFolder
from server.store import Keyspace, connect
from server.store.counts import CountsStore
from tests.drill.drill import redis_of
from tests.kube import Document, find, rendered
from tests.podsim.balancer import PORT, Balancer, wait_answering
from tests.podsim.controller import LOOK_S, Deployment
from tests.podsim.kubelet import Pod
from tests.podsim.load import Request, read
from tests.podsim.manifest import Around, Place, pod_spec
from tests.podsim.processes import ROOT, kill_all
from tests.podsim.scaling import Scale, scaled
from tests.redis_server import RedisServer
from tests.serving import publish

OVERLAY = "production"
BALANCER, AGGREGATORS = 250, 201  # the last part of an address; pods have the first 200
PODS_MAX = 200
SETTLE_S_MAX = 400.0
MEMORY = Path("/dev/shm")


class Load:
    """The visitors' process, and what it recorded."""

    def __init__(self, process: asyncio.subprocess.Process, records: Path) -> None:
        self._process = process
        self._records = records
        self.shown = self.pages = 0

    def requests(self, since_s: float = 0, until_s: float = float("inf")) -> list[Request]:
        return [one for one in read(self._records) if since_s <= one.begun_s < until_s]

    async def stop(self) -> None:
        """No new pages; wait for those that are open."""
        self._process.terminate()
        async with asyncio.timeout(60):
            out, _ = await self._process.communicate()
        told = json.loads(out)
        self.shown, self.pages = told["shown"], told["pages"]

    def kill(self) -> None:
        if self._process.returncode is None:
            kill_all(self._process.pid)


class Events(NamedTuple):
    """What the ledger has counted."""

    impressions: int
    invalid: int
    wrong: int  # unreadable and doubled


class World:
    def __init__(self, scale: Scale, replicas: int) -> None:
        self.scale = scale
        self._replicas = replicas
        self._stack = AsyncExitStack()
        self._tasks: list[asyncio.Task[None]] = []
        self._loads: list[Load] = []
        self.aggregators: list[Pod] = []

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            self._folder = Path(tempfile.mkdtemp(prefix="adcore-podsim-"))
            stack.callback(shutil.rmtree, self._folder, True)
            home = MEMORY if os.access(MEMORY, os.W_OK) else self._folder
            self._memory = Path(tempfile.mkdtemp(prefix="adcore-podsim-", dir=home))
            stack.callback(shutil.rmtree, self._memory, True)
            self._net = stack.enter_context(ExitStack())
            self._network = _network(self._net)
            self._redis = stack.enter_context(RedisServer())
            publish(self._redis.url)
            self._docs = rendered(OVERLAY)
            self._around = self._surroundings()
            stack.push_async_callback(self._end)
            await self._aggregate()
            self._owner = scaled(find(self._docs, "Deployment", "adcore-front"), self.scale)
            self.deployment = Deployment(self._owner, self._replicas, self._front)
            self.balancer = Balancer(
                f"{self._network}.{BALANCER}", self._folder, self.scale, self.deployment
            )
            self._tasks = [
                asyncio.create_task(self.deployment.run()),
                asyncio.create_task(self.balancer.run()),
            ]
            await self.settle()
            await wait_answering(self.balancer.address, SETTLE_S_MAX)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def _end(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for load in self._loads:
            load.kill()
        for pod in self.aggregators:
            pod.kill()
            await pod.gone()
        if self._tasks:
            await self.deployment.kill()

    def _surroundings(self) -> Around:
        stateful = find(self._docs, "StatefulSet", "adcore-aggregator")
        self._shards = range(stateful["spec"]["replicas"])
        name, service = stateful["metadata"]["name"], stateful["spec"]["serviceName"]
        keys = ("token-key", "user-key", "ops-key", "ledger-key")
        return Around(
            secrets={("adcore-keys", key): secrets.token_hex(32) for key in keys}
            | {("adcore-redis", "url"): self._redis.url},
            names={
                f"{name}-{shard}.{service}": f"{self._network}.{AGGREGATORS + shard}"
                for shard in self._shards
            },
        )

    async def _aggregate(self) -> None:
        stateful = find(self._docs, "StatefulSet", "adcore-aggregator")
        for shard in self._shards:
            labels = {"apps.kubernetes.io/pod-index": str(shard)}
            pod = self._pod(stateful, "aggregator", shard, AGGREGATORS + shard, labels)
            self.aggregators.append(pod)
            pod.begin()
        async with asyncio.timeout(SETTLE_S_MAX):
            while not all(pod.is_ready for pod in self.aggregators):  # noqa: ASYNC110
                await asyncio.sleep(LOOK_S)

    def _front(self, number: int) -> Pod:
        return self._pod(self._owner, "front", number, (number - 1) % PODS_MAX + 1, {})

    def _pod(
        self, owner: Document, name: str, number: int, host: int, labels: dict[str, str]
    ) -> Pod:
        name = f"{name}-{number}"
        place = Place(f"{self._network}.{host}", self._folder / name, self._memory / name)
        place.folder.mkdir()
        spec = pod_spec(self._docs, owner, place, self._around, labels)
        return Pod(name, spec, place.folder)

    # -- what happens

    async def load(self, requests_a_second: float) -> Load:
        records = self._folder / f"load-{len(self._loads)}"
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.podsim.load", self.balancer.address, str(PORT)),
            *(str(requests_a_second), str(len(self._loads)), str(records)),
            cwd=ROOT,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        self._loads.append(Load(process, records))
        async with asyncio.timeout(30):
            while not (records.exists() and records.stat().st_size):
                assert process.returncode is None, "the load ended"
                await asyncio.sleep(LOOK_S)
        return self._loads[-1]

    async def settle(self) -> None:
        """Wait until the rollout is done, and the balancer knows."""
        settled = asyncio.create_task(self.deployment.settle(SETTLE_S_MAX))
        await asyncio.wait({settled, *self._tasks}, return_when=asyncio.FIRST_COMPLETED)
        for task in self._tasks:
            if task.done():
                task.result()
        await settled
        async with asyncio.timeout(SETTLE_S_MAX):
            while not all(map(self.balancer.sends_to, self.deployment.pods)):  # noqa: ASYNC110
                await asyncio.sleep(LOOK_S)

    async def roll(self) -> None:
        self.deployment.revision += 1
        await self.settle()

    async def resize(self, replicas: int) -> None:
        self.deployment.replicas = replicas
        await self.settle()

    async def spot_notice(self, pods: list[Pod]) -> list[Pod]:
        """The machine of these pods has been called back; those it took with it, not yet ended."""
        noticed_s = time.monotonic()
        await asyncio.sleep(self.scale.reaction_s)
        for pod in pods:
            self.deployment.evict(pod)
        while time.monotonic() < noticed_s + self.scale.notice_s:
            if not any(pod in self.deployment.pods for pod in pods):
                break
            await asyncio.sleep(LOOK_S)
        cut_off = [pod for pod in pods if pod in self.deployment.pods]
        for pod in cut_off:
            pod.kill()
        await self.settle()
        return cut_off

    async def lose(self, pods: list[Pod]) -> float:
        """The machine of these pods is gone; when that was."""
        lost_s = time.monotonic()
        for pod in pods:
            pod.kill()
        await asyncio.sleep(self.scale.node_lost_s)
        for pod in pods:
            self.deployment.lose(pod)
        await self.settle()
        return lost_s

    # -- what was counted

    async def events(self) -> Events:
        """What Redis has, once all that the aggregators have is there."""
        counts: Counter[str] = Counter()
        client = connect(self._redis.url)
        with closing(client):
            for shard in self._shards:
                store = CountsStore(client, Keyspace(), shard)
                await self._counted(store, self.aggregators[shard])
                for key, count in redis_of(store).items():
                    counts[key[-1]] += count
        invalid = {name: n for name, n in counts.items() if name.startswith("invalid.")}
        doubled = invalid.get("invalid.impression.duplicate", 0)
        return Events(counts["impressions"], sum(invalid.values()), counts["unreadable"] + doubled)

    async def _counted(self, store: CountsStore, aggregator: Pod) -> None:
        environ = aggregator.spec.containers[0].environ
        folder = DiskFolder(Path(environ["ADCORE_LEDGER_DIR"]) / "wal")
        async with asyncio.timeout(SETTLE_S_MAX):
            while True:
                parts = store.cursor().split(":")
                if (
                    len(parts) == 3
                    and parts[2] == "0"
                    and int(parts[1]) == wal.durable_mark(folder)
                ):
                    return
                await asyncio.sleep(LOOK_S)


def _network(stack: ExitStack) -> str:
    """Three parts of an address that are ours for as long as the stack is open."""
    while True:
        network = f"127.{secrets.randbelow(200) + 16}.{secrets.randbelow(256)}"
        claim = stack.enter_context(socket.socket())
        with suppress(OSError):
            claim.bind((f"{network}.254", 1 + 8000))
            return network
