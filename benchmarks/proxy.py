"""What the pod's Envoy takes of a core, and what it holds, by itself: behind it a server in C.

    python -m benchmarks.proxy            half a minute; Envoy on one core, all else on the other
    python -m benchmarks.proxy --write    results/proxy-full-DATE.json, which sizes pods

Its configuration is k8s/base/front/envoy.yaml, with one worker thread. Requests and answers are as
long as those of the 600 B workload of `load`. CPU of a request falls as the rate grows, as ours
does: fewer of them wake it up alone.
"""

import argparse
import os
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Final

from benchmarks import processes
from benchmarks.figures import Figure, OpenLoop, Spread, spread, write
from benchmarks.generator import Load, Window, fire, post, write_requests
from benchmarks.machine import machine
from benchmarks.plot import RESULTS
from tests.envoy_proxy import bucket_of, start_envoy

RATES: Final = (1500.0, 4000.0, 6500.0, 9000.0, 12000.0)
ROUNDS: Final = 3
SECONDS: Final = 1.5
BODY_BYTES: Final = 607
ANSWER_BYTES: Final = 1526


class Proxy(Figure):
    started_at: str
    machine: dict[str, object]
    envoy: str
    points: tuple[OpenLoop, ...]  # share: of the highest rate asked


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--write", action="store_true")
    args = parser.parse_args()
    started = datetime.now(UTC)
    here = machine()  # its load before ours
    points = measured()
    for point in points:
        print(
            f"{point.rate:8,.0f}/s  {point.cpu_us.median:6.1f} us"
            f"  {point.rate * point.cpu_us.median / 1e6:5.2f} cores"
            f"  p99 {point.p99_ms.median:6.2f} ms  {point.faults} faults"
        )
    if args.write:
        found = Proxy(started.isoformat(timespec="seconds"), here, "1.40.0", points)
        write(RESULTS / f"proxy-full-{started:%Y-%m-%d}.json", found)


def measured() -> tuple[OpenLoop, ...]:
    cores = sorted(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as folder:
        requests = Path(folder) / "requests"
        write_requests(requests, [post("/api/v2", bytes(BODY_BYTES))])
        behind, port = processes.bare(Path(folder), ANSWER_BYTES)
        try:
            behind.pin(cores[-1])
            with start_envoy(port, edit=_without_limit) as envoy:
                for task in Path(f"/proc/{envoy.process.pid}/task").iterdir():
                    os.sched_setaffinity(int(task.name), {cores[0]})
                return tuple(
                    _point(rate, envoy.ports["front"], envoy.process.pid, requests, cores[-1])
                    for rate in RATES
                )
        finally:
            behind.stop()


def _without_limit(config: dict[str, object]) -> None:
    bucket_of(config, "/api/v2")["filter_enforced"]["default_value"]["numerator"] = 0


def _point(rate: float, port: int, pid: int, requests: Path, core: int) -> OpenLoop:
    windows: list[Window] = []
    cpu_us: list[float] = []
    for number in range(ROUNDS):
        before_s = processes.cpu_s([pid])
        load = Load(
            port=port,
            requests=requests,
            rate=rate,
            seconds=SECONDS,
            requests_max=int(rate * (SECONDS + 2)),
            seed=number + 1,
            core=core,
        )
        windows.append(fire(load))
        cpu_us.append((processes.cpu_s([pid]) - before_s) * 1e6 / max(1, windows[-1].answered))

    def over_rounds(name: str) -> Spread:
        return spread([getattr(window.latency_ms, name) for window in windows])

    return OpenLoop(
        share=rate / RATES[-1],
        rate_asked=rate,
        rate=median(window.rate for window in windows),
        p50_ms=over_rounds("p50"),
        p99_ms=over_rounds("p99"),
        p99_9_ms=over_rounds("p99_9"),
        cpu_us=spread(cpu_us),
        faults=sum(window.faults for window in windows),
    )


if __name__ == "__main__":
    main()
