from array import array

def slots_of(features: list[tuple[int, bytes]]) -> array[int]:
    """Lay the value table out for `features`, each a space and the bytes of a value."""
