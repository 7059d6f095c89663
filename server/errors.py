"""What can go wrong, as one tree.

AdcoreError
├── ConfigError      a setting is missing or out of bounds: the process refuses to start
├── CatalogError     a catalog file or record set is not fit to publish
├── SnapshotError    a generation in Redis can't be used: the old one keeps serving
├── StoreError       Redis is away or answers nonsense
├── TokenError       a tracking token is not ours, or not of this kind
├── SpoolError       the spool can't take a frame
│   └── SpoolFullError   it has no room for a frame of this worth
├── ProtocolError    a peer of the ledger says what can't be understood or believed
├── ArchiveError     the archive is away, or does not keep what it is given
└── LedgerError      the write-ahead log or the counts are not what they must be
"""


class AdcoreError(Exception):
    """The root: catching it catches nothing of anybody else's."""


class ConfigError(AdcoreError):
    """Carries every fault at once, one a line."""


class CatalogError(AdcoreError):
    pass


class SnapshotError(AdcoreError):
    """`reason` is one of a fixed set, because it becomes a metric label."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class StoreError(AdcoreError):
    pass


class TokenError(AdcoreError):
    pass


class SpoolError(AdcoreError):
    pass


class SpoolFullError(SpoolError):
    pass


class ProtocolError(AdcoreError):
    """The connection is closed. `reason` is one of a fixed set: it becomes a metric label."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class ArchiveError(AdcoreError):
    pass


class LedgerError(AdcoreError):
    """The log, or what was made of it, is not what it must be: nothing is acked on top of it."""
