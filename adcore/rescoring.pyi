"""Kernels: nothing here is for Python."""
