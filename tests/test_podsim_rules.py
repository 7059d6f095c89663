"""The simulated kubelet and Deployment controller keep the rules that podsim's verdicts rest on."""

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.podsim.controller import Deployment
from tests.podsim.kubelet import GRACE_S_MIN, Pod
from tests.podsim.manifest import Container, Hook, PodSpec, Probe

pytestmark = pytest.mark.process

WAITS = (sys.executable, "-c", "import time; time.sleep(600)")
IGNORES = (
    sys.executable,
    "-c",
    "import signal, time; signal.signal(15, signal.SIG_IGN); print('deaf', flush=True)\n"
    "time.sleep(600)",
)
ENDS = (sys.executable, "-c", "pass")


def container(name: str, command: tuple[str, ...] = WAITS, **given: object) -> Container:
    return Container(name, command, {}, **{"is_sidecar": False, **given})


def passing(file: Path, failures: int = 1000) -> Probe:
    """Passes once the file is there."""
    return Probe("exec", "", 0, "", ("test", "-e", str(file)), 0, 0.02, 5, failures, 1)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - processes set no event
            await asyncio.sleep(0.01)


def run(
    containers: list[Container], folder: Path, act: Callable[[Pod], Awaitable[None]], grace_s=60.0
) -> list[tuple[float, str, str]]:
    async def whole() -> list[tuple[float, str, str]]:
        pod = Pod("pod", PodSpec("127.0.0.1", 0, grace_s, tuple(containers)), folder)
        pod.begin()
        try:
            await act(pod)
        finally:
            pod.kill()
            await pod.gone()
        return pod.history

    return asyncio.run(whole())


def moments(history: list[tuple[float, str, str]], what: str) -> dict[str, float]:
    return {name: at_s for at_s, name, told in history if told == what}


def test_sidecars_start_one_by_one_and_the_others_after_their_startup_probes(tmp_path):
    sidecars = [
        container(name, is_sidecar=True, startup=passing(tmp_path / name)) for name in ("a", "b")
    ]

    async def act(pod: Pod) -> None:
        for number, name in enumerate("ab", 1):
            await until(lambda n=number: len(moments(pod.history, "start")) == n)
            await asyncio.sleep(0.2)
            assert len(moments(pod.history, "start")) == number
            assert not pod.is_ready
            (tmp_path / name).touch()
        await until(lambda: pod.is_ready)

    history = run([*sidecars, container("main")], tmp_path, act)
    assert [name for _, name, what in history if what == "start"] == ["a", "b", "main"]


def test_hooks_start_together_and_signals_go_backwards(tmp_path):
    slow, fast = Hook((), 0.5), Hook((), 0.01)
    sidecars = [container(name, is_sidecar=True, hook=fast) for name in ("first", "second")]

    async def act(pod: Pod) -> None:
        await until(lambda: pod.is_ready)
        await pod.end()

    history = run([*sidecars, container("main", hook=slow)], tmp_path, act)
    hooks, done = moments(history, "hook"), moments(history, "hook done")
    assert max(hooks.values()) < done["main"]
    assert len(hooks) == 3
    signals = [name for _, name, what in history if what == "SIGTERM"]
    assert signals == ["main", "second", "first"]
    assert moments(history, "SIGTERM")["main"] >= done["main"]
    assert moments(history, "SIGTERM")["second"] >= moments(history, "exit -15")["main"]


def test_one_clock_for_all_and_two_seconds_at_least(tmp_path):
    """The hook outlasts the grace period: SIGTERM comes at its end, SIGKILL 2 s later."""
    main = container("main", IGNORES, hook=Hook((), 600))
    begun_s = []

    async def act(pod: Pod) -> None:
        await until(lambda: "deaf" in pod.containers[0].log)
        begun_s.append(time.monotonic())
        await pod.end()

    history = run([main], tmp_path, act, grace_s=0.5)
    told, killed = moments(history, "SIGTERM")["main"], moments(history, "SIGKILL")["main"]
    assert told - begun_s[0] >= 0.5
    assert killed - told >= GRACE_S_MIN
    assert moments(history, "exit -9")


def test_what_ends_or_is_found_dead_is_started_again(tmp_path):
    (tmp_path / "alive").touch()
    alive = passing(tmp_path / "alive", failures=2)

    async def act(pod: Pod) -> None:
        crashing, living = pod.containers
        await until(lambda: crashing.restarts == 1)
        (tmp_path / "alive").unlink()
        await until(lambda: living.restarts == 1)

    history = run([container("c", ENDS), container("l", liveness=alive)], tmp_path, act)
    assert ("l", "liveness failed") in [(name, what) for _, name, what in history]


@pytest.mark.parametrize(("surge", "unavailable"), [("25%", 0), (0, 1), ("50%", "50%")])
def test_a_rolling_update_keeps_its_bounds(tmp_path, surge, unavailable):
    strategy = {"rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}}
    owner = {"spec": {"minReadySeconds": 0.05, "strategy": strategy}}
    most, least = {"25%": (6, 4), 0: (4, 3), "50%": (6, 2)}[surge]

    def make(number: int) -> Pod:
        spec = PodSpec("127.0.0.1", 0, 60, (container("main"),))
        return Pod(f"pod-{number}", spec, tmp_path)

    async def whole() -> None:
        deployment = Deployment(owner, 4, make)
        running = asyncio.create_task(deployment.run())
        try:
            await deployment.settle(60)
            deployment.revision = 2
            counts = set()
            while not deployment.is_settled:
                live = [pod for pod in deployment.pods if not pod.ending_since_s]
                counts.add((len(live), sum(pod.is_ready for pod in live)))
                await asyncio.sleep(0.005)
            assert max(live for live, _ in counts) <= most
            assert min(ready for _, ready in counts) >= least
            assert len(deployment.ended) == 4
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            await deployment.kill()

    asyncio.run(whole())
