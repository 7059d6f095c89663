"""What telling invalid traffic costs a beacon: the user agent, the address.

Cached is a user agent seen before; cold has never been seen by the reader, nor is it again.
`test_bench_floor_union` is the list as one regex, which is what it would cost without literals.
"""

import ipaddress
import random
import re
from zlib import crc32

import pytest
from crawleruseragents import CRAWLER_USER_AGENTS_DATA

from server.delivery.datacentres import Ranges
from server.delivery.devices import USER_AGENT_CHARS_MAX
from server.delivery.robots import Robots
from server.events.records import Outcome
from tests.user_agents import browsers

SEED = 42
RANGES = 100_000  # the large clouds together
ADDRESSES = 4_096
ROUNDS = 2_000
BROWSERS = 20_000
CHROME = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko)"
    " Chrome/150.0.0.0 Safari/537.36"
)
# Every word starts or ends a pattern that is then not there.
WORST = "z curl dcrawl CrunchBot Current RSS Reade Spider spider.co SSL Labs Seekbo HTTPie"
USER_AGENTS = {
    "browser": CHROME,
    "robot": "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
    "worst": (WORST * 9)[: USER_AGENT_CHARS_MAX - 8],
}


@pytest.fixture(scope="module")
def robots() -> Robots:
    return Robots()


def test_bench_floor_union(benchmark):
    union = re.compile("|".join(entry["pattern"] for entry in CRAWLER_USER_AGENTS_DATA))
    assert benchmark(union.search, CHROME) is None


def test_bench_robot_cached(benchmark, robots):
    assert benchmark(robots.judge, CHROME) is Outcome.ACCEPTED


@pytest.mark.parametrize("of", USER_AGENTS)
def test_bench_robot_cold(benchmark, robots, of):
    """One judgement of a user agent that is new each time."""
    numbers = iter(range(10**8))

    def unseen() -> tuple[tuple[str], dict[str, str]]:
        return (f"{USER_AGENTS[of]} {next(numbers)}",), {}

    outcome = benchmark.pedantic(robots.judge, setup=unseen, rounds=ROUNDS, warmup_rounds=100)
    benchmark.extra_info["checksum"] = outcome.name


def test_bench_robot_cold_over_browsers(benchmark, robots):
    """Each round a browser of the corpus that is new to the cache; the slowest are in the tail."""
    unseen = iter(random.Random(SEED).sample(browsers(), BROWSERS))
    outcomes = {robots.judge(next(unseen)) for _ in range(BROWSERS // 2)}  # warm the matcher
    benchmark.pedantic(
        lambda text: outcomes.add(robots.judge(text)),
        setup=lambda: ((next(unseen),), {}),
        rounds=BROWSERS // 2 - 1,
    )
    times_s = sorted(benchmark.stats.stats.data) if benchmark.enabled else [0.0]
    benchmark.extra_info["p99_us"] = times_s[len(times_s) * 99 // 100] * 1e6
    benchmark.extra_info["checksum"] = sorted(outcomes)
    assert outcomes == {Outcome.ACCEPTED}


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("count", [100, RANGES])
def test_bench_datacentre(benchmark, version, count):
    """One look-up, in turn of addresses half of which are in a range."""
    dice = random.Random(SEED)
    make, bits = (ipaddress.IPv4Network, 32) if version == 4 else (ipaddress.IPv6Network, 128)
    networks = [make((dice.getrandbits(bits) >> 8 << 8, bits - 8)) for _ in range(count)]
    ranges = Ranges((network[0].packed, network[-1].packed) for network in networks)
    inside = [str(network[7]) for network in dice.choices(networks, k=ADDRESSES // 2)]
    outside = [str(make(dice.getrandbits(bits)).network_address) for _ in inside]
    addresses = inside + outside
    dice.shuffle(addresses)

    def look_up() -> int:
        return sum(ip in ranges for ip in addresses)

    found = benchmark(look_up)
    benchmark.extra_info["lookups"] = ADDRESSES
    benchmark.extra_info["checksum"] = crc32(repr((found, addresses)).encode())
    assert found >= len(inside)
