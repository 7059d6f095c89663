"""The processes around the engine, one command each: see `server/cli.py`.

Imports point one way: `store` and `catalog` may import `adcore`; `delivery`, `ledger`, `pacing`
and `console` import those and never each other, but for `pacing.accounts`, which `delivery` writes
into its bundle; `cli` imports all. `tests/test_tidy.py` checks
the arrows.
"""
