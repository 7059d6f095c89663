"""What the front pod's Envoy costs: decisions asked of the server, and through its proxy, in turns.

    python -m benchmarks.hop                  a minute
    python -m benchmarks.hop --rate 500 --seconds 2

No decision is given up for being late here. Figures of one run are to be compared with each other
alone: load, cores and clock are the same.
"""

import argparse
import tempfile
from pathlib import Path
from statistics import median
from typing import Final, NamedTuple

from benchmarks.generator import Load, Window, fire, post, write_requests
from benchmarks.processes import cpu_s
from tests.envoy_proxy import API, ASK, start_envoy
from tests.redis_server import RedisServer
from tests.serving import children_of, publish, start_server

ROUNDS: Final = 5


class Round(NamedTuple):
    window: Window
    server_us: float  # CPU a request
    envoy_us: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, default=1000.0)
    parser.add_argument("--seconds", type=float, default=5.0)
    args = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        RedisServer() as redis,
        start_server(redis.url, ready=False) as server,
    ):
        publish(redis.url)
        server.wait_ready()
        requests = Path(folder) / "requests"
        write_requests(requests, [post(API, ASK)])
        with start_envoy(server.port) as envoy:
            rounds: dict[str, list[Round]] = {"direct": [], "envoy": []}
            for _ in range(ROUNDS):
                for name, port in (("direct", server.port), ("envoy", envoy.ports["front"])):
                    load = Load(
                        port=port,
                        requests=requests,
                        rate=args.rate,
                        seconds=args.seconds,
                        requests_max=int(args.rate * (args.seconds + 1) * 2),
                    )
                    pids = [server.process.pid, *children_of(server.process.pid)]
                    before = [cpu_s(pids), cpu_s([envoy.process.pid])]
                    window = fire(load)
                    assert not window.faults, window
                    spent = [cpu_s(pids) - before[0], cpu_s([envoy.process.pid]) - before[1]]
                    rounds[name].append(
                        Round(window, *(second * 1e6 / window.sent for second in spent))
                    )
    report(args.rate, rounds)


def report(rate: float, rounds: dict[str, list[Round]]) -> None:
    print(f"{rate:g} requests/s, {ROUNDS} rounds each, medians; CPU in us a request")
    print("           p50 ms   p99 ms   server   envoy")
    for name, found in rounds.items():
        p50 = median(one.window.latency_ms.p50 for one in found)
        p99 = median(one.window.latency_ms.p99 for one in found)
        server = median(one.server_us for one in found)
        envoy = median(one.envoy_us for one in found)
        print(f"{name:8} {p50:8.3f} {p99:8.3f} {server:8.1f} {envoy:7.1f}")
    direct, through = (median(one.server_us for one in rounds[name]) for name in rounds)
    hop = median(one.envoy_us for one in rounds["envoy"])
    print(f"the pod's CPU with envoy: {(through + hop) / direct:.2f} x the server's alone")


if __name__ == "__main__":
    main()
