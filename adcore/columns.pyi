from typing import final

@final
class Columns:
    """The columns of a catalog under construction; filled and read by compiled code only."""
