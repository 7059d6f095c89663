"""A connection to Redis that never waits without end.

A command is answered within SOCKET_TIMEOUT_S or fails. It is tried again once, because a pooled
connection that a restarted Redis closed is only found out by using it; so everything that is sent
from here may run twice without harm.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import redis
from redis.backoff import ConstantBackoff
from redis.retry import Retry

from server.config import sentinel_url
from server.errors import StoreError
from server.store import sentinels

Client = redis.Redis  # what `connect` makes, for those who pass it on

CONNECT_TIMEOUT_S: Final = 2.0  # the same data centre: slower is as good as away
SOCKET_TIMEOUT_S: Final = 5.0  # covers the largest reply, one chunk
RETRIES_MAX: Final = 1
RETRY_PAUSE_S: Final = 0.05


def connect(url: str, *, timeout_s: float = SOCKET_TIMEOUT_S) -> redis.Redis:
    """Make a client; it connects at its first command, so this succeeds while Redis is away.

    `timeout_s`: for an answer, where the caller has less time than the largest reply takes.
    """
    options: dict[str, Any] = {
        "socket_connect_timeout": min(CONNECT_TIMEOUT_S, timeout_s),
        "socket_timeout": timeout_s,
        "retry": Retry(ConstantBackoff(RETRY_PAUSE_S), RETRIES_MAX),
    }
    try:
        if (watched := sentinel_url(url)) is not None:
            return sentinels.client(watched, options)
        return redis.Redis.from_url(url, **options)
    except ValueError as error:
        raise StoreError(f"not the URL of a Redis: {error}") from None


@contextmanager
def translated() -> Iterator[None]:
    """Turn what redis-py raises into a StoreError that an operator can read."""
    try:
        yield
    except redis.ConnectionError as error:
        raise StoreError(f"Redis is away: {error}") from error
    except redis.TimeoutError as error:
        raise StoreError(f"Redis does not answer in time: {error}") from error
    except redis.RedisError as error:
        raise StoreError(f"Redis refuses: {error}") from error
