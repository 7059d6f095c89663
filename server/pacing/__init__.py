"""Delivery control: who may spend how much, and how fast. One leader decides for all servers.

`control` is the process and `leader` sees that one of them leads. `pace` and `forecast` hold the
rules: pure, on arrays, without clock and I/O, so that the simulator in `benchmarks/pacing.py`
drives the very code that `adcore control` runs. `cli` prints how each line item stands. May import
`server.events`, `server.store`, `server.catalog`, `adcore` and the shared modules; never
`delivery`, `ledger` or `console`.
"""
