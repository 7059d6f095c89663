"""What users were shown, for frequency caps: commands, their answers, and forgetting a user.

A user is a hash, `{prefix}:user:{HASH}`, of scope to moments; see scripts/count_seen.lua. Servers
speak to it through a `Link`, in batches; who forgets a user does so through redis-py.
"""

import hashlib
from binascii import b2a_base64
from collections.abc import Callable, Iterable, Sequence
from importlib import resources
from typing import Any, Final

import hiredis

from server.config import Config
from server.store.client import connect, translated
from server.store.keyspace import Keyspace
from server.store.link import Answers, Link

HASH_BYTES: Final = 16
HASH_CHARS: Final = 22  # without the padding
FIELDS_MAX: Final = 256  # scopes of one user; of more, those counted longest ago are forgotten


def _script(name: str) -> bytes:
    return (resources.files("server.store") / "scripts" / f"{name}.lua").read_bytes()


_COUNT: Final = _script("count_seen")
_TAKE_BACK: Final = _script("take_back")


_FIELDS: Final = b"$%d\r\n%d\r\n" % (len(str(FIELDS_MAX)), FIELDS_MAX)


def _sha(script: bytes) -> bytes:
    return hashlib.sha1(script, usedforsecurity=False).hexdigest().encode()


def _packed(words: tuple[Any, ...]) -> bytes:
    packed: bytes = hiredis.pack_command(words)
    return packed


class UserCommands:
    """Each as the bytes that go to Redis. `user` is the hashed key, in ASCII."""

    def __init__(self, keyspace: Keyspace) -> None:
        self._head = keyspace.user("").rstrip("}").encode()
        self._counting = b"$7\r\nEVALSHA\r\n$40\r\n%b\r\n$1\r\n1\r\n" % _sha(_COUNT)
        self._keyed = b"$%d\r\n%b" % (len(self._head) + HASH_CHARS + 1, self._head)
        self._taking_back = (b"EVALSHA", _sha(_TAKE_BACK), b"1")

    def read(self, user: bytes) -> bytes:
        """Ask for all of a user: a flat list of fields and moments."""
        key = b"%b%b}" % (self._head, user)
        return b"*2\r\n$7\r\nHGETALL\r\n$%d\r\n%b\r\n" % (len(key), key)

    def count(self, user: bytes, now_s: int, lines: Sequence[bytes], words: int) -> bytes:
        """Count line items, each packed as `count_seen.lua` wants it, of so many words in all."""
        now = b"%d" % now_s
        return b"*%d\r\n%b%b%b}\r\n$%d\r\n%b\r\n%b%b" % (
            words + 6, self._counting, self._keyed, user, len(now), now, _FIELDS, b"".join(lines)
        )  # fmt: skip

    def take_back(self, user: bytes, now_s: int, fields: Iterable[bytes]) -> bytes:
        words = (*self._taking_back, b"%b%b}" % (self._head, user), b"%d" % now_s, *fields)
        return _packed(words)

    @staticmethod
    def ping() -> bytes:
        return b"*1\r\n$4\r\nPING\r\n"


def user_link(url: str, took: Answers, went: Callable[[], None]) -> Link:
    """Make a connection that knows the scripts."""
    loads = [_packed(("SCRIPT", "LOAD", it)) for it in (_COUNT, _TAKE_BACK)]
    return Link(url, loads, took, went)


def is_error(answer: Any) -> bool:
    return isinstance(answer, hiredis.ReplyError)


def lost_scripts(answer: Any) -> bool:
    """Tell whether Redis has forgotten our scripts, as after a failover or SCRIPT FLUSH."""
    return is_error(answer) and str(answer).startswith("NOSCRIPT")


def user_hasher(config: Config) -> Callable[[str], bytes]:
    """Give what turns a user's key into what is kept of it: without the secret, no way back.

    A keyed hash of 16 bytes, in base64.
    """
    secret = (config.user_key or config.token_key).encode()
    key = hashlib.blake2b(secret, digest_size=32, person=b"adcore user keys").digest()
    keyed = hashlib.blake2b(digest_size=HASH_BYTES, key=key)

    def hashed(user_key: str) -> bytes:
        hasher = keyed.copy()  # which has the key's block behind it: half of the time
        hasher.update(user_key.encode("utf-8", "surrogatepass"))
        return b2a_base64(hasher.digest(), newline=False)[:HASH_CHARS]

    return hashed


def user_forgetter(config: Config) -> Callable[[str], None]:
    """Give what makes Redis have nothing of a user; no matter whether there was anything."""
    hashed, keyspace = user_hasher(config), Keyspace(config.redis_prefix)
    client = connect(config.redis_url)

    def forget(user_key: str) -> None:
        with translated():
            client.delete(keyspace.user(hashed(user_key).decode()))

    return forget
