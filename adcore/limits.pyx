"""The engine's bounds, each with its reason: see limits.pxd, which is their one definition."""
