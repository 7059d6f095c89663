"""Whoever has the ops key can have a user forgotten: nothing is in Redis any more."""

import http.client
from contextlib import closing

import pytest
import redis as redis_py

from server.config import Config
from server.ops import Forgetting, Ops
from server.store.keyspace import Keyspace
from server.store.users import user_forgetter, user_hasher

OPS_KEY = "0123456789abcdef" * 2
BEARER = {"Authorization": f"Bearer {OPS_KEY}"}


@pytest.fixture
def forget(redis_url, tmp_path):
    config = Config(redis_url=redis_url, token_key="k" * 32, ops_key=OPS_KEY)
    with Ops("127.0.0.1", 0, tmp_path, 1, Forgetting(OPS_KEY, user_forgetter(config))) as ops:

        def ask(path: str, headers: dict[str, str] = BEARER, method: str = "DELETE") -> int:
            with closing(http.client.HTTPConnection("127.0.0.1", ops.server_port)) as connection:
                connection.request(method, path, headers=headers)
                response = connection.getresponse()
                assert (response.read() == b"") == (response.status == 204)
                return response.status

        yield config, ask


def test_a_user_is_forgotten_and_nobody_else(redis_url, forget):
    config, ask = forget
    hashed = user_hasher(config)
    key, other = (Keyspace().user(hashed(name).decode()) for name in ("ann/é b", "somebody else"))
    with redis_py.Redis.from_url(redis_url) as client:
        for name in (key, other):
            client.hset(name, "l1", b"1234")
        assert ask("/user/ann%2F%C3%A9%20b") == 204
        assert client.keys("*") == [other.encode()]
        assert ask("/user/ann%2F%C3%A9%20b?x=1") == 204, "again, and it is no other answer"


def test_only_the_bearer_of_the_ops_key_may(forget):
    _, ask = forget
    for headers in ({}, {"Authorization": f"Bearer {OPS_KEY}x"}, {"Authorization": OPS_KEY}):
        assert ask("/user/ann", headers) == 401


def test_without_an_ops_key_nobody_may(tmp_path):
    forgetting = Forgetting("", lambda _: None)
    assert forgetting("/user/ann", {"authorization": "Bearer "}).status == 401


@pytest.mark.parametrize("path", ["/user/", "/user/?a", "/user/%ff", "/user/" + "x" * 257])
def test_what_is_no_key_is_refused(forget, path):
    assert forget[1](path) == 400


def test_other_paths_can_not_be_deleted(forget):
    _, ask = forget
    assert ask("/metrics") == 405
    assert ask("/user/ann", method="GET") == 404


def test_redis_away_is_told(forget, redis_server):
    redis_server.stop()
    try:
        assert forget[1]("/user/ann") == 503
    finally:
        redis_server.start()
