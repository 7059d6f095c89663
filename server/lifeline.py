"""A child that ends when its parent does, even when the parent is killed and can't say so."""

import ctypes
import os
import signal
from typing import Final

_PR_SET_PDEATHSIG: Final = 1


def die_with(parent: int) -> None:
    """Bind the calling process to the one with the pid `parent`, which started it.

    SIGKILL, because a gentler signal may wait for a client for ever, and nobody is left to lose
    patience. Linux sends it when the thread that started us ends, so that must be a lasting one.
    """
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)  # it went before we asked
