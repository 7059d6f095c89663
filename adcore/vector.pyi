from typing import final

@final
class Vector:
    """Memory that grows at its end; filled and read by compiled code only."""
