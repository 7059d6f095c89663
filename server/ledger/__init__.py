"""The ledger: every billable event counted exactly once, whatever dies on the way.

    spool ─ sender ─► receiver ─► intake ─► wal ─► counter ─► applier ─► counts in Redis
     (forward)            (aggregate)              (count, a child of aggregate)

`sender`, `receiver`, `intake`, `wal`, `counter`, `applier` and `checkpoints` hold the rules: they
neither wait nor look at a clock, and meet a disk through `folder` alone, so that a simulator can
drive them through every fault. `forward`, `aggregate` and `count` are the processes around them;
`report`, `charges`, `reconcile` and `archive` read what they leave. May import `server.events`,
`server.store`, `server.catalog`, `server.pacing.accounts`, `adcore` and the shared modules; never
`delivery`, the rest of `pacing` or `console`.
"""
