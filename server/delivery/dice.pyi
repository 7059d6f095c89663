from typing import final

@final
class Dice:
    """Random decision ids."""

def draw_of(decision_id: bytes) -> int: ...
