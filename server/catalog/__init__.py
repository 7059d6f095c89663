"""From a catalog file to a published generation: read, check, publish, compare, roll back.

May import `adcore` and `server.store`. `check.faults` also runs in the server's loader, nothing
here in a worker.
"""
