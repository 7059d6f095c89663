from typing import final

from server.delivery.users import Users

ROUNDS_MAX: int
KNOWN_NS: int
TRUSTED_NS: int
TRUSTED_ROOM: int
NEAR_ROOM: int

@final
class Held:
    """A winner with caps, or one that counts for others'."""

@final
class Capper:
    users: Users
    def __init__(self, users: Users) -> None: ...
