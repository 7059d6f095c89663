"""One pod, run by the kubelet's rules (Kubernetes 1.33 and later, with native sidecars).

    start     sidecars one after the other, each when the one before has passed its startup probe;
              then the others, all at once
    life      what ends is started again, after a pause that doubles; so is what fails its liveness
              probe; the pod is ready when every container is
    end       all preStop hooks begin at once, sidecars' too; SIGTERM goes to a container when its
              hook has ended, and to a sidecar when all that started after it has ended as well;
              one clock for everything; when it has run out SIGKILL, but never less than 2 s after
              SIGTERM

The last line is `killContainer` of the kubelet's source: hooks are not ordered, only signals are.
"""

import asyncio
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from tests.podsim.manifest import Container, Hook, PodSpec, Probe
from tests.podsim.probing import is_well, watch
from tests.podsim.processes import START_NICE, hurry, kill_all, start, succeeds

GRACE_S_MIN = 2.0
BACK_OFF_S = (10.0, 300.0)  # between restarts, but for the first, which is at once


class Running:
    """A container: its process, and what the kubelet knows of it."""

    def __init__(self, spec: Container, log: Path, history: list[tuple[float, str, str]]) -> None:
        self.spec = spec
        self.restarts = 0
        self.exit_code: int | None = None
        self.has_started = asyncio.Event()
        self.has_ended = asyncio.Event()
        self.is_ending = False
        self._is_ready = False
        self._log = log
        self._history = history
        self._process: asyncio.subprocess.Process | None = None
        self._keeper: asyncio.Task[None] | None = None

    @property
    def is_ready(self) -> bool:
        return self._is_ready and self.has_started.is_set() and not self.has_ended.is_set()

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def begin(self) -> None:
        self._keeper = asyncio.create_task(self._keep())

    async def _keep(self) -> None:
        pause_s = 0.0
        while not self.is_ending:
            process = await start(self.spec.command, self.spec.environ, self._log, START_NICE)
            self._process = process
            if self.is_ending:  # by someone who did not see this process yet
                kill_all(process.pid)
            self._say("start")
            probing = asyncio.create_task(self._probe(process))
            self.exit_code = await process.wait()
            probing.cancel()
            kill_all(process.pid)
            await asyncio.gather(probing, return_exceptions=True)
            self._say(f"exit {self.exit_code}")
            self.has_started.clear()
            self._is_ready = False
            if self.is_ending:
                break
            self.restarts += 1
            await asyncio.sleep(pause_s)
            pause_s = min(max(BACK_OFF_S[0], 2 * pause_s), BACK_OFF_S[1])
        self.has_ended.set()

    async def _probe(self, process: asyncio.subprocess.Process) -> None:
        """Probe it through one life: its start, and then whether it is ready and alive."""
        spec = self.spec
        if spec.startup:
            begun = asyncio.Event()

            def judge(is_well: bool) -> None:
                if is_well:
                    begun.set()
                else:
                    self._restart(process, "startup")

            starting = asyncio.create_task(self._watch(spec.startup, judge))
            try:
                await begun.wait()
            finally:
                starting.cancel()
                await asyncio.gather(starting, return_exceptions=True)
        hurry(process.pid)
        self._is_ready = spec.readiness is None
        self.has_started.set()
        watching = []
        if spec.readiness:
            watching.append(self._watch(spec.readiness, self._heed_readiness))
        if spec.liveness:
            watching.append(
                self._watch(
                    spec.liveness, lambda well: None if well else self._restart(process, "liveness")
                )
            )
        await asyncio.gather(*watching)

    async def _watch(self, probe: Probe, say: Callable[[bool], None]) -> None:
        await watch(probe, lambda: is_well(probe, self.spec.environ, self._log), say)

    def _heed_readiness(self, is_ready: bool) -> None:
        if is_ready != self._is_ready:
            self._say("ready" if is_ready else "unready")
        self._is_ready = is_ready

    def _restart(self, process: asyncio.subprocess.Process, probe: str) -> None:
        if not self.is_ending and process.returncode is None:
            self._say(f"{probe} failed")
            kill_all(process.pid)

    async def end(self, deadline_s: float, followers: "list[Running]") -> None:
        """End it, the hook first; a sidecar lets its followers end before."""
        self.is_ending = True
        if self.spec.hook and self._process and self._process.returncode is None:
            self._say("hook")
            with suppress(TimeoutError):
                async with asyncio.timeout(deadline_s - time.monotonic()):
                    await self._run(self.spec.hook)
            self._say("hook done")
        if self.spec.is_sidecar:
            with suppress(TimeoutError):
                async with asyncio.timeout(deadline_s - time.monotonic()):
                    for follower in followers:
                        await follower.has_ended.wait()
        if self._process is None or self._process.returncode is not None:
            self.kill()
            return
        self._say("SIGTERM")
        with suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(max(GRACE_S_MIN, deadline_s - time.monotonic())):
                await self.has_ended.wait()
        except TimeoutError:
            self._say("SIGKILL")
            self.kill()
            await self.has_ended.wait()

    async def _run(self, hook: Hook) -> None:
        await asyncio.sleep(hook.sleep_s)
        if hook.command:
            await succeeds(hook.command, self.spec.environ, self._log)

    def kill(self) -> None:
        """End it at once; it stays ended."""
        self.is_ending = True
        if self._process is not None and self._process.returncode is None:
            kill_all(self._process.pid)
        elif self._keeper is None or self._process is not None:
            # It never began, or waits to be started again.
            if self._keeper is not None:
                self._keeper.cancel()
            self.has_ended.set()

    def _say(self, what: str) -> None:
        self._history.append((time.monotonic(), self.spec.name, what))


class Pod:
    def __init__(self, name: str, spec: PodSpec, folder: Path, node: str = "") -> None:
        self.name = name
        self.spec = spec
        self.node = node
        self.history: list[tuple[float, str, str]] = []
        """When, which container, what."""
        self.ready_since_s = 0.0
        self.ending_since_s = 0.0
        self.was_killed = False
        self.containers = [
            Running(each, folder / f"{each.name}.log", self.history) for each in spec.containers
        ]
        self._starting: asyncio.Task[None] | None = None

    @property
    def is_ready(self) -> bool:
        """What its endpoint says: no pod that is ending is ready."""
        return self._passes and not self.ending_since_s

    @property
    def _passes(self) -> bool:
        return all(container.is_ready for container in self.containers)

    @property
    def exit_codes(self) -> dict[str, int | None]:
        return {container.spec.name: container.exit_code for container in self.containers}

    @property
    def restarts(self) -> int:
        return sum(container.restarts for container in self.containers)

    def begin(self) -> None:
        self._starting = asyncio.create_task(self._begin())

    async def _begin(self) -> None:
        for container in self.containers:
            container.begin()
            if container.spec.is_sidecar:
                await container.has_started.wait()

    def remove_hooks(self) -> None:
        """Make it a pod that was written without preStop hooks."""
        for container in self.containers:
            container.spec = container.spec._replace(hook=None)

    def look(self, now_s: float) -> None:
        """Note since when it has been ready without a break."""
        self.ready_since_s = (self.ready_since_s or now_s) if self.is_ready else 0.0

    async def end(self) -> None:
        """Delete it, and wait until nothing of it is left."""
        self.ending_since_s = time.monotonic()
        if self._starting is not None:
            self._starting.cancel()
        deadline_s = self.ending_since_s + self.spec.grace_s
        await asyncio.gather(
            *(
                container.end(deadline_s, self.containers[number + 1 :])
                for number, container in enumerate(self.containers)
            )
        )

    def kill(self) -> None:
        """The machine is gone: no signal, no hook, nobody told."""
        self.was_killed = True
        if self._starting is not None:
            self._starting.cancel()
        for container in self.containers:
            container.kill()

    async def gone(self) -> None:
        """Wait until no process is left."""
        for container in self.containers:
            await container.has_ended.wait()

    def describe(self) -> str:
        """What happened to it, and what its containers said, for a test that fails."""
        begun_s = self.history[0][0] if self.history else 0.0
        lines = [f"{at_s - begun_s:8.2f} {name} {what}" for at_s, name, what in self.history]
        logs = [f"-- {each.spec.name}\n{each.log[-3000:]}" for each in self.containers]
        return "\n".join([self.name, *lines, *logs])
