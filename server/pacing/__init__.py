"""Delivery control: how much of every budget may be spent, and how fast.

`accounts` says which limits a line item spends, and what an impression takes of each; `settling`
turns what the ledger counted into what is spent for good. The rules here neither wait nor look at a
clock: moments are arguments, so that a simulator can drive them. May import `adcore`,
`server.store`, `server.catalog`, `server.events` and the shared modules, and its process what
processes are made of; never `delivery`, `ledger` or `console`.
"""
