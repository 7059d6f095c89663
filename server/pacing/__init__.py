"""Who may spend when: accounts, rates, the process that keeps both, and what people see of it.

`control` is the process, of which one leads; `leader` sees to that; `pace` prints how each line
item stands. Pure modules (accounts, rates, forecast, standing) have neither a clock nor I/O. Imports
`store`, and the shared modules: neither the ledger, whose counts it reads from Redis, nor delivery.
"""
