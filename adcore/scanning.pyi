"""Kernels only: nothing of this module is visible from Python."""
