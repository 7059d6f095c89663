"""The only importer of `redis`: key names, scripts and deadlines live here and nowhere else.

`keyspace` names the keys, `client` connects, `catalogs` keeps generations of the catalog, `counts`
what the ledger counts. May import `adcore` and the shared modules.
"""

from server.store.client import connect
from server.store.keyspace import Keyspace

__all__ = ["Keyspace", "connect"]
