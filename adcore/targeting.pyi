from typing import final

@final
class Rows:
    """The rows of a catalog in the order of booking; filled and read by compiled code only."""
