"""What every test may use: a real Redis, empty when each test starts, and Hypothesis profiles."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
from hypothesis import HealthCheck, settings

from tests.redis_server import RedisServer

# Deadlines off: two shared cores make any time limit of an example a coin toss.
settings.register_profile("dev", max_examples=50, deadline=None)
settings.register_profile("ci", max_examples=300, deadline=None, print_blob=True)
# `make debug` and `make asan`: the checked builds are many times slower, so is generating.
settings.register_profile(
    "checked",
    max_examples=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.load_profile("ci" if os.environ.get("CI") else "dev")


def pytest_configure() -> None:
    """Refuse to test yesterday's build."""
    root = Path(__file__).parent.parent
    for built in [*root.glob("adcore/*.so"), *root.glob("server/**/*.so")]:
        source = built.with_name(built.name.partition(".")[0] + ".pyx")
        if source.exists() and source.stat().st_mtime > built.stat().st_mtime:
            raise pytest.UsageError(f"{source.name} is newer than its build: run `make build`")


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """One server for all tests that leave it running; a test that kills Redis starts its own."""
    with RedisServer() as server:
        yield server


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    """Where an empty Redis answers."""
    with redis.Redis.from_url(redis_server.url) as client:
        client.flushall()
    return redis_server.url


@pytest.fixture
def adcore(redis_url: str) -> Callable[..., str]:
    """Run the command as its own process; Redis is there unless another one is named."""

    def run(*arguments: object, code: int = 0, stdin: str = "", **settings: str) -> str:
        environ = {k: v for k, v in os.environ.items() if not k.startswith("ADCORE_")}
        environ |= {"ADCORE_REDIS_URL": redis_url, "ADCORE_REDIS_PREFIX": "cli"} | settings
        done = subprocess.run(
            [sys.executable, "-W", "error", "-m", "server", *map(str, arguments)],
            cwd=Path(__file__).parent.parent,
            env=environ,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert "Traceback" not in done.stderr
        assert done.returncode == code, done.stderr
        return done.stdout + done.stderr

    return run
