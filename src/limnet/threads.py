"""How the threads of torch wait: has to be said before torch is loaded."""

from __future__ import annotations

import os


def wait_passively() -> None:
    """Let the threads of OpenMP sleep between two pieces of work in place of spinning, unless the user chose otherwise.

    Two spinning threads beside one other busy process made a round of 1.3 s take 2.5 to 21 s; asleep it took 1.35 s.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # GNU and LLVM
    os.environ.setdefault("KMP_BLOCKTIME", "0")  # Intel and LLVM: milliseconds of spinning
