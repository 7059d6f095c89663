"""The hot process: request bytes in, decision bytes out, beacons counted.

`door_rsgi` or `door_asgi` hands an `Ask` to `core`, which answers with an `Answer`; `kevel`
decides, `tracking` counts. Nothing here reads Redis on a request: `loader`, a process of its
own, turns the published catalog into a file that `snapshot` maps. May import `adcore`,
`server.store`, `server.catalog`, `server.pacing.accounts` and the shared modules; never `ledger`,
the rest of `pacing` or `console`.
"""
