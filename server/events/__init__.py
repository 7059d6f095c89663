"""What servers write and the ledger reads: the frame on the disk and the records in it.

`frames` is the format, `records` what a frame may hold, `privacy` how much of a person's request.
The two sides share nothing else. May import the shared modules only.
"""
