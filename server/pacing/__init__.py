"""Delivery control: who may spend how much, and how fast. One leader decides for all servers.

`pace` and `forecast` hold the rules: pure, on arrays, without clock and I/O, so that the simulator
in `benchmarks/pacing.py` drives the very code that `adcore control` runs. May import
`server.events`, `server.store`, `server.catalog`, `adcore` and the shared modules; never
`delivery`, `ledger` or `console`.
"""
