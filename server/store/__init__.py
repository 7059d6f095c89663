"""The only importer of `redis`: key names, scripts and deadlines live here and nowhere else.

`keyspace` names the keys, `client` connects, `catalogs` keeps generations of the catalog, `counts`
what the ledger counts. May import `adcore` and the shared modules.
"""

from typing import TYPE_CHECKING, Any

from server.store.keyspace import Keyspace

if TYPE_CHECKING:
    from server.store.client import connect

__all__ = ["Keyspace", "connect"]


def __getattr__(name: str) -> Any:
    """Import redis-py for whoever connects. It takes a quarter of a second.

    A server's parent, whom all its other processes wait for, starts without it.
    """
    if name != "connect":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from server.store.client import connect

    return connect
