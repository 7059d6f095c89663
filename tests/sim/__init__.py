"""A deterministic simulator of the ledger: one seed, one run, every part real but its surroundings.

`disk`, `redis_twin` and `network` are the surroundings, each with its faults; `world` makes the
traffic and puts the real parts together; `oracle` says what must come out.
"""
